import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { flagOf, SETTINGS, UsageError, VLLM_ALIASES, VLLM_FLAGS } from '@bridgekeeper/server';
import { describe, expect, it, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';
import { fromVllm } from './vllm-spelling.ts';

const words = (line: string) => fromVllm(line.split(' ')).words.join(' ');

describe("vLLM's spellings", () => {
  it.each([
    ['m --max_model_len 4096', '--max-model-len 4096 -- m'],
    ['--model m --max_model_len=4096', '--max-model-len 4096 -- m'],
    [
      'm --served-model-name a b --port 1',
      '--served-model-name a --served-model-name b --port 1 -- m',
    ],
    ['--api_key k1 k2 --model m', '--api-key k1 --api-key k2 -- m'],
    // Nobody named the model yet: the second word is it, as it always was.
    ['--api-key k1 m', '--api-key k1 -- m'],
    ['-q fp8 m', '--quantization fp8 -- m'],
    ['m -tp 2 --trust-remote-code -O3', '--tensor-parallel-size 2 -- m'],
    ['m -pp 1', '-- m'],
    [
      'm --compilation-config.mode 3 -cc.level=3 --cuda-graph-sizes 1 2 4 --port 1',
      '--port 1 -- m',
    ],
    [
      'm --no-enable-prefix-caching --no_enable_lora --no-async-scheduling',
      '--no-enable-prefix-caching -- m',
    ],
    ['m --disable-uvicorn-access-log', '--no-access-log -- m'],
    ['m --json=true --enable-chunked-prefill=False', '--json --no-enable-chunked-prefill -- m'],
    ['m --hf-token --port 1', '--port 1 -- m'],
    ['m --hf-token hf_x --port 1', '--port 1 -- m'],
    [
      'm --allowed-origins ["https://a","b"]',
      '--allowed-origins https://a --allowed-origins b -- m',
    ],
    ['--seed -- m', '--seed -- -- m'],
    ['--nonsense --help', '--nonsense --help'],
  ])('%s', (line, expected) => {
    expect(words(line)).toBe(expected);
  });

  it.each([
    ['m -pp 2', '--pipeline-parallel-size: must be 1, or absent: one server has the GPUs of'],
    ['m --pipeline_parallel_size=8', '--pipeline-parallel-size: must be 1'],
    ['m --enable-lora', '--enable-lora: is not supported: adapters'],
    ['m --chat-template x.jinja', '--chat-template: is not supported: the chat template is'],
    ['m --speculative-config.model x', '--speculative-config.model: is not supported: give'],
    ['--model a b', 'a b: give one model'],
    ['m --allowed-origins [1]', '--allowed-origins: must be origins, or a JSON list'],
    ['m --json=maybe', '--json: must be true or false'],
  ])('%s is refused', (line, message) => {
    expect(() => words(line)).toThrow(UsageError);
    expect(() => words(line)).toThrow(message);
  });

  it('each that changes nothing is remarked on once, with the reason', () => {
    const { remarks } = fromVllm('m --swap-space 4 --swap_space 4 -pp 1'.split(' '));
    expect(remarks).toEqual([
      '--swap-space changes nothing here: what has no room on the device is computed again',
      '--pipeline-parallel-size changes nothing here: one server has the GPUs of one host, by ' +
        'tensor and data parallelism',
    ]);
  });

  it('every flag of the table is accepted or refused by name, in both spellings', () => {
    for (const [name, { takes, verdict, only }] of Object.entries(VLLM_FLAGS)) {
      expect(Object.keys(SETTINGS).map(flagOf)).not.toContain(name);
      const value = takes === 'none' ? [] : [only?.[0] ?? 'x'];
      for (const flag of [`--${name}`, `--${name.replaceAll('-', '_')}`]) {
        const run = () => fromVllm(['m', flag, ...value, '--port', '1']);
        if (verdict === 'refused') expect(run).toThrow(`--${name}: is not supported`);
        else expect(run().words.slice(-4)).toEqual(['--port', '1', '--', 'm']);
      }
    }
    const known = [...Object.keys(VLLM_FLAGS), ...Object.keys(SETTINGS).map(flagOf)];
    for (const name of Object.values(VLLM_ALIASES)) expect(known).toContain(name);
  });

  it('what is refused ends with 2, before anything starts', async () => {
    const { io, err } = testIo();
    expect(await runCli(['serve', 'm', '--enable-lora'], io)).toBe(2);
    expect(err).toEqual([
      'bridgekeeper: --enable-lora: is not supported: adapters are not supported',
    ]);
  });
});

const PAGE = fileURLToPath(new URL('../../../../docs/reference/vllm-flags.md', import.meta.url));

/** The flags of ours that `vllm serve` has too. */
const SHARED = [
  'model host port uds api-key allowed-origins ssl-keyfile ssl-certfile served-model-name',
  'tensor-parallel-size revision download-dir max-model-len max-num-seqs max-num-batched-tokens',
  'seed dtype load-format',
  'gpu-memory-utilization kv-cache-memory-bytes kv-cache-dtype kv-offloading-size block-size',
  'quantization config',
  'enable-prefix-caching enable-chunked-prefill shutdown-timeout',
].flatMap((line) => line.split(' '));

const WHAT =
  'What `bridgekeeper serve` does with a command line that was written for vLLM. This page is ' +
  'made from the table that is used, `packages/server/src/settings/vllm-flags.ts`; a test holds ' +
  'it to that, and writes it anew with `-u`: ' +
  '`npm test -- packages/bridgekeeper/dist/cli/vllm-spelling -u`.';
const SPELLINGS =
  'Underscores are read as dashes, `--flag=value` as `--flag value`, and settings within a flag ' +
  '(`-cc.mode 3`) as the flag. Several words may follow `--served-model-name` and `--api-key` ' +
  'once the model was named, before them or by `--model`. `VLLM_API_KEY` is read where ' +
  '`BRIDGEKEEPER_API_KEY` is not set. `--allowed-origins` also takes a JSON list. A flag that ' +
  'neither knows is refused, with the nearest that there is. The table was held against the ' +
  "argument parser in vLLM's repository (0.11, the frontend's flags as of 2026).";
const HARMLESS =
  'They change nothing here, which the log says once; with other values than these they are ' +
  'refused. The `--no-` form of a switch is harmless too, also of one that is refused.';

function page(): string {
  const short = (name: string) =>
    Object.entries(VLLM_ALIASES).flatMap(([alias, of]) => (of === name ? [`\`${alias}\``] : []));
  const named = (name: string) => [`\`--${name}\``, ...short(name)].join(', ');
  const harmless: string[] = [];
  const refused: string[] = [];
  for (const [name, { verdict, only, why }] of Object.entries(VLLM_FLAGS)) {
    const values = (only ?? []).map((value) => `\`${value}\``).join(', ');
    if (verdict === 'refused') refused.push(`| ${named(name)} | ${why} |`);
    else harmless.push(`| ${named(name)} | ${values || 'any'} | ${why} |`);
  }
  return `# Flags of \`vllm serve\`

${WHAT}

${SPELLINGS}

## Accepted
They mean what they mean in vLLM; [all of ours](flags.md#serve).

${SHARED.map(named).join(', ')}

## Harmless
${HARMLESS}

| flag | values | why |
|---|---|---|
${harmless.join('\n')}

## Refused
Each ends the start with exit code 2 and this reason, before anything is loaded.

| flag | why |
|---|---|
${refused.join('\n')}
`;
}

test('vllm-flags.md is what the table says', async () => {
  for (const name of SHARED) expect(Object.keys(SETTINGS).map(flagOf)).toContain(name);
  await expect(page()).toMatchFileSnapshot(PAGE);
  expect(readFileSync(PAGE, 'utf8')).toContain('| `--enable-lora` |');
});
