import { CommandError, quoteWord } from '@bridgekeeper/server';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type EngineCommand, readEngineCommand } from './engine-command.ts';
import { hideSecrets } from './hide-secrets.ts';
import { optionNumber, optionText, parallelGpus, structuredValue, switchState } from './queries.ts';

const program = (command: EngineCommand) => command.words[command.program]!.text;

describe('an engine is found behind what stands in front of it', () => {
  test.each([
    ['vllm serve m', 'vllm', 'vllm'],
    ['A=1 B=2 /opt/venv/bin/vllm serve m', 'vllm', '/opt/venv/bin/vllm'],
    ['python3 -m vllm.entrypoints.openai.api_server --model m', 'vllm', 'python3'],
    ['python -u -m vllm serve m', 'vllm', '-u'],
    ['sudo -E env A=1 numactl -m 0 vllm serve m', 'vllm', 'vllm'],
    ['sglang serve --model-path m', 'sglang', 'sglang'],
    ['nohup python -m sglang.launch_server --model-path m > log 2>&1 &', 'sglang', 'python'],
    ['trtllm-serve m --tp_size 8', 'tensorrt-llm', 'trtllm-serve'],
    ['python -m tensorrt_llm.commands.serve m', 'tensorrt-llm', 'python'],
    [
      'docker run --gpus all vllm/vllm-openai:v0.29.0 --model m',
      'vllm',
      'vllm/vllm-openai:v0.29.0',
    ],
    ['docker run --name sglang lmsysorg/sglang:v0.5.9 sglang serve --model m', 'sglang', 'sglang'],
  ])('%s', (source, engine, first) => {
    const command = readEngineCommand(source);
    expect(command.engine).toBe(engine);
    expect(program(command)).toBe(first);
  });

  test.each(['ls -l', 'vllm bench serve', 'docker run vllm-openai', 'sglang bench'])(
    'and not in %s',
    (source) => {
      expect(() => readEngineCommand(source)).toThrow(CommandError);
    },
  );

  test('with its variables and the version of its image', () => {
    const image = 'vllm/vllm-openai:v0.29.0-cu130';
    const docker = `docker run -e A=1 --env B=2 -v C=3 ${image} --model m`;
    const command = readEngineCommand(docker, { variables: new Map([['A', '0']]) });
    expect([...command.variables]).toEqual([
      ['A', '1'],
      ['B', '2'],
    ]);
    expect(command.taggedVersion).toBe('0.29.0');
    expect([...readEngineCommand('X=1 env Y=2 vllm serve Z=3').variables.keys()]).toEqual([
      'X',
      'Y',
    ]);
  });
});

describe('options', () => {
  test('in every spelling', () => {
    const command = readEngineCommand(
      'vllm serve m -tp 4 --pipeline_parallel_size=2 --no-enable_prefix_caching ' +
        '--enforce-eager --swap-space -1 --cpu-offload-gb=0.5 -O3',
    );
    expect(parallelGpus(command)).toBe(8);
    expect(switchState(command, 'enable-prefix-caching')).toBe(false);
    expect(switchState(command, 'enforce-eager')).toBe(true);
    expect(switchState(command, 'async-scheduling')).toBeUndefined();
    expect(optionNumber(command, 'swap-space')).toBe(-1);
    expect(optionNumber(command, 'cpu-offload-gb')).toBe(0.5);
    expect(optionText(command, 'optimization-level')).toBe('3');
  });

  test('the last one counts, a switch leaves the word behind it alone, -- ends them', () => {
    const command = readEngineCommand('vllm serve --enforce-eager m -tp 2 -tp 4 -- -tp 8');
    expect(optionNumber(command, 'tensor-parallel-size')).toBe(4);
    expect(optionText(command, 'enforce-eager')).toBeUndefined();
  });

  test('with structure, by JSON, by dots, and from a file under the command line', () => {
    const read = (options: string, settings = {}) => {
      const file = { path: 'x.yaml', settings };
      const command = readEngineCommand(`vllm serve m ${options}`, { file });
      return structuredValue(command, 'compilation-config', ['pass_config', 'fuse']);
    };
    expect(read(`-cc '{"pass_config":{"fuse":1}}'`)).toBe(1);
    expect(read('--compilation-config.pass_config.fuse=false')).toBe(false);
    expect(read('', { compilation_config: { pass_config: { fuse: 2 } } })).toBe(2);
    expect(read('', { 'compilation-config': '{"pass_config":{"fuse":3}}' })).toBe(3);
    expect(read(`-cc '{}'`, { compilation_config: { pass_config: { fuse: 2 } } })).toBeUndefined();
    expect(read('-cc {broken')).toBeUndefined();
    const file = { path: 'x', settings: { tensor_parallel_size: 2, 'enforce-eager': true } };
    const command = readEngineCommand('vllm serve m', { file });
    expect(parallelGpus(command)).toBe(2);
    expect(switchState(command, 'enforce-eager')).toBe(true);
  });
});

describe('secrets', () => {
  test.each([
    [
      'vllm serve m --api-key k1 k2 --port 1',
      'vllm serve m --api-key [hidden] [hidden] --port 1',
      2,
    ],
    ['A_TOKEN=x vllm serve m --hf-token=y', 'A_TOKEN=[hidden] vllm serve m --hf-token=[hidden]', 2],
    ['docker run -e HF_TOKEN=x a', 'docker run -e HF_TOKEN=[hidden] a', 1],
    ['a --env=AWS_SECRET_ACCESS_KEY=x', 'a --env=AWS_SECRET_ACCESS_KEY=[hidden]', 1],
    ['a hf_abcdefghijk https://u:p@host/x', 'a [hidden] https://[hidden]@host/x', 2],
    [`a --c '{"s3": {"secret": "x", "n": 1}}'`, `a --c '{"s3":{"secret":"[hidden]","n":1}}'`, 1],
    ['a --max-tokens 5 --ssl-keyfile f "q r"', 'a --max-tokens 5 --ssl-keyfile f "q r"', 0],
    [`a --c '{"api_key": hunter2}'`, 'a --c [hidden]', 1],
    [`a --config '{"b": 1}'`, `a --config '{"b": 1}'`, 0],
  ])('of %s', (source, text, count) => {
    expect(hideSecrets(source)).toEqual({ text, count });
  });

  test('do not end in a stack that is too deep', () => {
    const deep = `${'['.repeat(60_000)}${']'.repeat(60_000)}`;
    expect(hideSecrets(`vllm serve m -cc '${deep}'`).count).toBe(0);
    const command = readEngineCommand(`vllm serve m -cc '${deep}'`);
    expect(structuredValue(command, 'compilation-config', ['a'])).toBeUndefined();
  });

  test('are not shown whatever they are', () => {
    const secret = fc.stringMatching(/^[\w '"$\\]{12,20}$/).map((text) => `S3cr3t${text}`);
    fc.assert(
      fc.property(secret, (text) => {
        const quoted = quoteWord(text, 'single');
        const json = quoteWord(JSON.stringify({ api_key: text }), 'double');
        const source = `PASSWORD=${quoted} vllm serve m --api-key ${quoted} --x=${json}`;
        const hidden = hideSecrets(source);
        expect(hidden.text).not.toContain('S3cr3t');
        expect(hidden.count).toBe(3);
      }),
    );
  });
});
