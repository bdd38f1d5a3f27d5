import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readConfiguration } from './configuration.ts';
import { environmentOf, flagOf } from './flags.ts';
import { resolveFlags, type Sources, UsageError } from './resolve.ts';
import { SETTINGS } from './table.ts';

const resolve = (sources: Partial<Sources>, file = '') =>
  resolveFlags(SETTINGS, {
    flags: {},
    environment: {},
    readConfiguration: (path) => readConfiguration(path, () => file),
    ...sources,
  });

const failure = (sources: Partial<Sources>, file = ''): UsageError => {
  try {
    resolve(sources, file);
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error('nothing was wrong');
};

describe('precedence', () => {
  const environment = { BRIDGEKEEPER_PORT: '2', BRIDGEKEEPER_CONFIG: 'serve.yaml' };

  test('is flag, environment, file, default', () => {
    const file = 'port: 3\nmax-num-seqs: 4';
    const all = resolve({ flags: { port: '1' }, environment }, file);
    expect(all.values.port).toBe(1);
    expect(all.origins.port).toEqual({ kind: 'flag', name: '--port' });
    const some = resolve({ environment }, file);
    expect(some.values.port).toBe(2);
    expect(some.origins.port).toEqual({ kind: 'environment', name: 'BRIDGEKEEPER_PORT' });
    expect(some.values.maxNumSeqs).toBe(4);
    expect(some.origins.maxNumSeqs).toEqual({
      kind: 'file',
      name: 'max-num-seqs in serve.yaml',
    });
    expect(resolve({}).values.port).toBe(8000);
    expect(resolve({}).origins.port.kind).toBe('default');
  });
});

describe('a seal', () => {
  test.each([
    [{ sealKeyFile: 'a', sealKeyCommand: 'b' }, 'give one of them'],
    [{ modelSeal: 'off', sealKeyFile: 'a' }, '--model-seal off'],
    [{ modelSeal: 'off', sealRoot: 'ab'.repeat(32) }, '--model-seal off'],
    [{ loadFormat: 'dummy', modelSeal: 'require' }, '--load-format dummy'],
    [{ loadFormat: 'dummy', sealRoot: 'ab'.repeat(32) }, '--load-format dummy'],
  ])('%o contradicts itself', (flags, words) => {
    const { code, message } = failure({ flags });
    expect(code).toBe('bad-combination');
    expect(message).toContain(words);
  });

  test('has a root of 64 hex digits', () => {
    const { values } = resolve({ flags: { sealRoot: 'AB'.repeat(32) } });
    expect(values.sealRoot).toBe('ab'.repeat(32));
    expect(failure({ flags: { sealRoot: 'ab' } }).message).toContain('must be 64 hex digits');
  });
});

describe('values', () => {
  test('are read as vLLM reads them', () => {
    const flags = { maxModelLen: '16K', kvCacheMemoryBytes: '25.6k', seed: '7' };
    const { values } = resolve({ flags });
    expect(values.maxModelLen).toBe(16384);
    expect(values.kvCacheMemoryBytes).toBe(25600);
    expect(values.seed).toBe(7);
  });

  test('of lists come from repeated flags, commas and YAML lists', () => {
    expect(resolve({ flags: { apiKey: ['a', 'b,c'] } }).values.apiKey).toEqual(['a', 'b', 'c']);
    const flags = { config: 'x' };
    expect(resolve({ flags }, 'api-key: [a, b]').values.apiKey).toEqual(['a', 'b']);
  });

  test('of the inter-token limit are milliseconds, with or without a fraction', () => {
    expect(resolve({}).values.interTokenLimitMs).toBe(50);
    const limit = (text: string) => resolve({ flags: { interTokenLimitMs: text } });
    expect(limit('12.5').values.interTokenLimitMs).toBe(12.5);
    for (const text of ['0', '0.5', '10001', '50ms']) {
      const message = `--inter-token-limit-ms: must be a number from 1 to 10000, got "${text}"`;
      expect(failure({ flags: { interTokenLimitMs: text } }).message).toContain(message);
    }
  });

  test('of switches can be turned off everywhere', () => {
    expect(resolve({}).values.enablePrefixCaching).toBe(true);
    const flags = { enablePrefixCaching: false };
    expect(resolve({ flags }).values.enablePrefixCaching).toBe(false);
    const environment = { BRIDGEKEEPER_ENABLE_PREFIX_CACHING: 'off' };
    expect(resolve({ environment }).values.enablePrefixCaching).toBe(false);
    const file = 'enable-prefix-caching: false';
    expect(resolve({ flags: { config: 'x' } }, file).values.enablePrefixCaching).toBe(false);
  });
});

describe('bad values name their origin', () => {
  test.each([
    [{ flags: { port: '99999' } }, '--port: must be an integer from 0 to 65535, got "99999"'],
    [{ environment: { BRIDGEKEEPER_PORT: '' } }, 'BRIDGEKEEPER_PORT: must be an integer'],
    [{ flags: { device: 'tpu' } }, '--device: must be one of auto, cuda, cpu, model, got "tpu"'],
    [{ flags: { kvCacheDtype: 'fp8_e5m2' } }, '--kv-cache-dtype: must be one of auto, bfloat16'],
    [{ flags: { quantization: 'awq' } }, '--quantization: must be one of fp8, got "awq"'],
    [{ flags: { sslKeyfile: 'k' } }, '--ssl-keyfile and --ssl-certfile'],
    [{ flags: { model: '' } }, 'argument model: must be non-empty'],
  ] as const)('%o', (sources, message) => {
    expect(failure(sources).message).toContain(message);
  });

  test('in a file', () => {
    const flags = { config: 'serve.yaml' };
    expect(failure({ flags }, 'port: x').message).toContain('port in serve.yaml: must be');
    expect(failure({ flags }, 'prot: 1').code).toBe('unknown-setting');
    expect(failure({ flags }, 'port: {a: 1}').message).toContain('port in serve.yaml');
    expect(failure({ flags }, '- port').code).toBe('bad-file');
    expect(failure({ flags }, 'port: [1').code).toBe('bad-file');
  });

  test('but never show a secret', () => {
    expect(failure({ flags: { apiKey: ['hunter2,'] } }).message).not.toContain('hunter2');
  });

  test('whatever the text: a value within its kind, or a UsageError that names the flag', () => {
    const names = fc.constantFrom(...Object.keys(SETTINGS).filter((name) => name !== 'config'));
    fc.assert(
      fc.property(names, fc.string(), (name, text) => {
        try {
          expect(resolve({ flags: { [name]: text } }).values).toHaveProperty(name);
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
          const named = name === 'model' ? 'argument model' : `--${flagOf(name)}`;
          expect((error as Error).message).toContain(named);
        }
      }),
    );
  });
});

test('names of flags and variables follow from the table', () => {
  expect(flagOf('maxNumBatchedTokens')).toBe('max-num-batched-tokens');
  expect(environmentOf('sslKeyfile')).toBe('BRIDGEKEEPER_SSL_KEYFILE');
});

describe('a file', () => {
  const flags = { config: 'serve.yaml' };

  test('says what it says: keys and names that look like numbers stay as they are', () => {
    const file = 'api-key: 00012345\nserved-model-name: [1.0, 1e5]\nport: 9000\njson: yes';
    expect(resolve({ flags }, file).values).toMatchObject({
      apiKey: ['00012345'],
      servedModelName: ['1.0', '1e5'],
      port: 9000,
      json: true,
    });
  });

  test('has no list where one value is taken', () => {
    const error = failure({ flags }, 'port: [1, 2]');
    expect(error.message).toBe('port in serve.yaml: takes one value, not a list');
  });
});
