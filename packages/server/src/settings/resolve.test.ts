import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkVariables, readConfiguration, settingsWith } from './configuration.ts';
import { environmentOf, flag, flagOf, optionalArgument, requiredArgument } from './flags.ts';
import { text as textKind } from './kinds.ts';
import { resolveFlags, type Sources, UsageError } from './resolve.ts';
import { SETTINGS } from './table.ts';

const resolve = (sources: Partial<Sources>, file = '') =>
  resolveFlags(SETTINGS, {
    flags: {},
    environment: {},
    readConfiguration: (path, named) => readConfiguration(path, named, () => file),
    checkVariables,
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

describe('variables', () => {
  test('of ours that nothing reads are refused with the nearest', () => {
    const of = (name: string) => failure({ environment: { [name]: '1' } });
    expect(of('BRIDGEKEEPER_MAX_MODEL_LENGTH')).toMatchObject({
      code: 'unknown-setting',
      message:
        'BRIDGEKEEPER_MAX_MODEL_LENGTH: nothing reads it; did you mean BRIDGEKEEPER_MAX_MODEL_LEN?',
    });
    expect(of('BRIDGEKEEPER_APIKEY').message).toContain('BRIDGEKEEPER_API_KEY?');
    expect(resolve({ environment: { BRIDGEKEEPER_VERIFY_API_KEY: 'k' } }).values.port).toBe(8000);
  });

  test('that Kubernetes sets for a service of this name are not ours', () => {
    const environment = {
      BRIDGEKEEPER_PORT: 'tcp://service:8000',
      BRIDGEKEEPER_SERVICE_HOST: '10.0.0.7',
      BRIDGEKEEPER_SERVICE_PORT_HTTP: '8000',
      BRIDGEKEEPER_PORT_8000_TCP_ADDR: '10.0.0.7',
    };
    expect(resolve({ environment }).origins.port.kind).toBe('default');
  });

  test('VLLM_API_KEY is a key, where there is none of ours', () => {
    const environment = { VLLM_API_KEY: 'theirs' };
    const { values, origins } = resolve({ environment });
    expect(values.apiKey).toEqual(['theirs']);
    expect(origins.apiKey).toEqual({ kind: 'environment', name: 'VLLM_API_KEY' });
    const both = resolve({ environment: { ...environment, BRIDGEKEEPER_API_KEY: 'ours' } });
    expect(both.values.apiKey).toEqual(['ours']);
  });
});

describe('a seal', () => {
  test.each([
    [{ sealKeyFile: 'a', sealKeyCommand: 'b' }, 'give one of them'],
    [{ modelSeal: 'off', sealKeyFile: 'a' }, '--model-seal off'],
    [{ modelSeal: 'off', sealRoot: 'ab'.repeat(32) }, '--model-seal off'],
    [{ loadFormat: 'dummy', modelSeal: 'require' }, '--load-format dummy'],
    [{ loadFormat: 'dummy', sealRoot: 'ab'.repeat(32) }, '--load-format dummy'],
    [{ loadFormat: 'dummy', sealKeyFile: 'a' }, '--load-format dummy'],
    [{ loadFormat: 'dummy', sealKeyCommand: 'a' }, '--load-format dummy'],
    [{ modelSeal: 'off', sealKeyCommand: 'a' }, '--model-seal off'],
  ])('%o contradicts itself', (flags, words) => {
    const { code, message } = failure({ flags });
    expect(code).toBe('bad-combination');
    expect(message).toContain(words);
  });

  test.each([
    { sealKeyFile: 'a' },
    { sealKeyCommand: 'a', modelSeal: 'require' },
    { modelSeal: 'off' },
    { loadFormat: 'dummy', modelSeal: 'off' },
    { loadFormat: 'dummy' },
    { loadFormat: 'auto', modelSeal: 'require', sealRoot: 'ab'.repeat(32) },
  ])('%o does not', (flags) => {
    expect(resolve({ flags }).values).toMatchObject(flags);
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
    for (const file of ['port: {a: 1}', 'api-key: [a, [b]]']) {
      const { code, message } = failure({ flags }, file);
      expect(code).toBe('bad-value');
      expect(message).toMatch(
        /^(port|api-key) in serve.yaml: must be text, a number, true or false$/,
      );
    }
    expect(failure({ flags }, '- port').code).toBe('bad-file');
    expect(failure({ flags }, 'port: [1').code).toBe('bad-file');
  });

  test('but never show a secret', () => {
    expect(failure({ flags: { apiKey: ['hunter2,'] } }).message).toBe(
      '--api-key: must be non-empty text, or several, separated by commas',
    );
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

  test('may turn switches on and off', () => {
    const file = 'json: true\nenable-chunked-prefill: false';
    const { values } = resolve({ flags }, file);
    expect(values).toMatchObject({ json: true, enableChunkedPrefill: false });
    expect(resolve({ flags: { ...flags, json: false } }, file).values.json).toBe(false);
  });

  test.each(['', '# nothing yet\n', '---\n'])('may say nothing: %o', (file) => {
    expect(resolve({ flags }, file).values.port).toBe(8000);
  });

  test('may have keys of vLLM that change nothing here, and none that would', () => {
    const file = [
      'max_num_seqs: 8',
      'trust-remote-code: true',
      'pipeline-parallel-size: 1',
      'enable-lora: false',
      'disable-uvicorn-access-log: true',
    ];
    const { values } = resolve({ flags }, file.join('\n'));
    expect(values).toMatchObject({ maxNumSeqs: 8, accessLog: false });
    for (const [line, words] of [
      ['pipeline-parallel-size: 2', 'must be 1, or absent'],
      ['enable-lora: true', 'is not supported'],
      ['lora-modules: [a=b]', 'is not supported'],
    ] as const) {
      expect(failure({ flags }, line)).toMatchObject({
        code: 'unsupported-flag',
        message: expect.stringContaining(words),
      });
    }
  });

  test('is read where one is named, and nowhere else', () => {
    const readNothing: Sources['readConfiguration'] = (path, named) =>
      readConfiguration(path, named, () => {
        throw new Error(`ENOENT: no such file, open '${path}'\nand more`);
      });
    const reading = { readConfiguration: readNothing };
    expect(resolve(reading).values.port).toBe(8000);
    const { code, message, cause } = failure({ flags, ...reading });
    expect(code).toBe('bad-file');
    expect(cause).toBeInstanceOf(Error);
    expect(message).toBe("--config serve.yaml: ENOENT: no such file, open 'serve.yaml'");
    const environment = { BRIDGEKEEPER_CONFIG: '' };
    expect(failure({ environment, ...reading }).message).toBe(
      'BRIDGEKEEPER_CONFIG: must be non-empty text, got ""',
    );
    // A command that has no such setting.
    const { host } = SETTINGS;
    const sources = { flags, environment: { BRIDGEKEEPER_CONFIG: 'serve.yaml' }, ...reading };
    expect(resolveFlags({ host }, sources).values).toEqual({ host: '127.0.0.1' });
  });

  test('that is wrong is named by what named it', () => {
    const environment = { BRIDGEKEEPER_CONFIG: 'serve.yaml' };
    for (const file of ['- port', 'port', '3']) {
      const wrong = 'serve.yaml: must hold "flag: value" lines';
      expect(failure({ flags }, file).message).toBe(`--config ${wrong}`);
      expect(failure({ environment }, file).message).toBe(`BRIDGEKEEPER_CONFIG ${wrong}`);
    }
    expect(failure({ environment }, 'port: [1').message).toMatch(/^BRIDGEKEEPER_CONFIG serve.yaml/);
  });

  test('names no other file, and nothing that is not a setting', () => {
    for (const key of ['config', 'prot', 'maxNumSeqs']) {
      const { code, message } = failure({ flags }, `${key}: x`);
      expect(code).toBe('unknown-setting');
      expect(message).toBe(`${key} in serve.yaml: is not a setting of serve`);
    }
  });

  test('has no list where one value is taken', () => {
    const error = failure({ flags }, 'port: [1, 2]');
    expect(error.message).toBe('port in serve.yaml: takes one value, not a list');
  });
});

test('arguments are named without dashes, and have no default', () => {
  const table = {
    first: optionalArgument(textKind('word'), 'one'),
    second: requiredArgument(textKind('word'), 'two'),
  };
  expect([table.first.argument, table.second.argument]).toEqual(['optional', 'required']);
  const sources = { environment: {}, readConfiguration: () => new Map() };
  const { values, origins } = resolveFlags(table, { ...sources, flags: { second: 'x' } });
  expect(values).toEqual({ first: undefined, second: 'x' });
  expect(origins.second).toEqual({ kind: 'flag', name: 'argument second' });
});

test('only settings come from variables and files', () => {
  const table = { config: SETTINGS.config, host: flag(textKind('address'), 'here', 'address') };
  const environment = { BRIDGEKEEPER_HOST: 'there', BRIDGEKEEPER_CONFIG: 'serve.yaml' };
  const read: Sources['readConfiguration'] = (path, named) =>
    readConfiguration(path, named, () => 'host: elsewhere');
  const sources = { flags: {}, environment, readConfiguration: read };
  const { values, origins } = resolveFlags(table, sources);
  expect(values.host).toBe('here');
  expect(origins.host).toEqual({ kind: 'default', name: 'default' });
});

test('a flag that is repeated replaces itself', () => {
  expect(resolve({ flags: { port: ['1', '2'] } }).values.port).toBe(2);
});

test('an error says what it is', () => {
  const { code, message } = failure({ flags: { port: 'x'.repeat(100) } });
  expect(code).toBe('bad-value');
  // No more of it than can be read.
  expect(message).toBe(`--port: must be an integer from 0 to 65535, got "${'x'.repeat(80)}"`);
  expect(failure({ flags: { sslCertfile: 'c' } }).code).toBe('bad-combination');
  expect(failure({ flags: { config: 'x' } }, 'port: [1, 2]').code).toBe('bad-value');
  expect(String(failure({ flags: { port: 'x' } }))).toMatch(/^UsageError: --port: must be/);
});

describe('settings by value', () => {
  test('are the defaults, but for those that are given', () => {
    const defaults = resolve({}).values;
    expect(settingsWith({})).toEqual(defaults);
    expect(settingsWith({ port: 1, apiKey: ['a'] })).toEqual({
      ...defaults,
      port: 1,
      apiKey: ['a'],
    });
  });

  test('may not contradict each other either', () => {
    expect(() => settingsWith({ sslKeyfile: 'k' })).toThrow('give both for TLS, or neither');
  });
});
