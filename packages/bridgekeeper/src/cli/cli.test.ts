import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EngineError } from '@bridgekeeper/engine';
import { until } from '@bridgekeeper/server/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';
import { exampleCall } from './serve.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-cli-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('version and doctor', () => {
  test('print what they know', async () => {
    const { io, out } = testIo();
    expect(await runCli(['version', '--json'], io)).toBe(0);
    expect(JSON.parse(out[0]!)).toMatchObject({ version: '0.1.0', node: process.versions.node });
  });

  test('--version says what `version` does', async () => {
    const { io, out } = testIo();
    expect(await runCli(['--version'], io)).toBe(0);
    expect(await runCli(['version'], io)).toBe(0);
    expect(out).toEqual([`bridgekeeper 0.1.0, Node ${process.versions.node}`, out[0]]);
  });

  test('doctor shows values with their origin, and counts secrets', async () => {
    const environment = { BRIDGEKEEPER_API_KEY: 'a,b' };
    const { io, out } = testIo({ environment });
    expect(await runCli(['doctor', '--port', '9', '--no-enable-prefix-caching'], io)).toBe(0);
    const text = out.join('\n');
    expect(text).toMatch(/^port +9 {2}\[--port\]$/m);
    expect(text).toMatch(/^api-key +2 set {2}\[BRIDGEKEEPER_API_KEY\]$/m);
    expect(text).toMatch(/^enable-prefix-caching +false {2}\[--enable-prefix-caching\]$/m);
    const json = testIo({ environment });
    await runCli(['doctor', '--json'], json.io);
    const { settings } = JSON.parse(json.out[0]!);
    expect(settings).toContainEqual({
      setting: 'host',
      value: '127.0.0.1',
      origin: { kind: 'default', name: 'default' },
    });
  });

  test('a switch that a variable turned on is turned off', async () => {
    const environment = { BRIDGEKEEPER_JSON: 'true' };
    const json = testIo({ environment });
    await runCli(['doctor'], json.io);
    expect(json.out).toHaveLength(1);
    const { io, out } = testIo({ environment });
    await runCli(['doctor', '--no-json'], io);
    expect(out.join('\n')).toMatch(/^json +false {2}\[--json\]$/m);
  });

  const planned = ['doctor', '--assume-cc', 'on', '--assume-gpu', 'b300'];
  const engine = [...planned, '--engine-version', '0.29.0', '--engine-command'];

  test('doctor examines a planned engine and prints the corrected command', async () => {
    const { io, out } = testIo();
    const variable = ['--engine-environment', 'CUDA_LAUNCH_BLOCKING=1'];
    expect(await runCli([...engine, 'vllm serve m --api-key hunter2', ...variable], io)).toBe(0);
    const text = out.join('\n');
    expect(text).toMatch(/^CRITICAL {2}The default model runner can read stale inputs$/m);
    expect(text).toContain('launches-block');
    expect(text).toContain('VLLM_USE_V2_MODEL_RUNNER=0 vllm serve m --api-key [hidden] --no-async');
    expect(text).not.toContain('hunter2');
    expect(text).not.toContain('\x1b');
    const coloured = testIo({ isTerminal: true });
    await runCli([...engine, 'vllm serve m'], coloured.io);
    expect(coloured.out.join('\n')).toContain('\x1b[91mCRITICAL\x1b[0m');
    const plain = testIo({ isTerminal: true, environment: { NO_COLOR: '1' } });
    await runCli([...engine, 'vllm serve m'], plain.io);
    expect(plain.out.join('\n')).not.toContain('\x1b');
  });

  test('doctor gives one document, and fails on what it is told to', async () => {
    const { io, out } = testIo();
    const sound = 'VLLM_USE_V2_MODEL_RUNNER=0 vllm serve m --no-async-scheduling';
    expect(await runCli([...engine, sound, '--json', '--fail-on', 'warning'], io)).toBe(1);
    expect(out).toHaveLength(1);
    const { findings, command, notChecked } = JSON.parse(out[0]!);
    expect(findings.map(({ id }: { id: string }) => id)).toContain('vllm-slow-loader');
    expect(command.steps[0]).toMatchObject({ finding: 'vllm-slow-loader' });
    expect(notChecked[0].rules[0]).toHaveProperty('id');
    expect(await runCli([...engine, sound, '--fail-on', 'error'], testIo().io)).toBe(0);
    expect(await runCli([...planned, '--fail-on', 'info'], testIo().io)).toBe(0);
  });

  test('doctor lists all settings and all rules when asked', async () => {
    const { io, out } = testIo();
    expect(await runCli(['doctor', '--settings'], io)).toBe(0);
    expect(out.join('\n')).toMatch(/^host +127\.0\.0\.1 {2}\[default\]$/m);
    const rules = testIo();
    expect(await runCli(['doctor', '--rules'], rules.io)).toBe(0);
    expect(rules.out[0]).toContain('### vllm-kv-offload');
  });
});

describe('bad usage exits with 2', () => {
  test.each([
    [['serve', '--port', 'x'], '--port: must be an integer'],
    [['serve', '--nonsense'], 'unknown option'],
    [['fly'], 'unknown command'],
    [['bench', 'sse', '--streams', '0'], '--streams: must be an integer'],
    [['bench', 'decode', '--batch', 'x'], '--batch: must be an integer'],
    [['bench', 'policies', '--policy', 'fast'], '--policy: must be one of'],
    [['bench', 'verify', '--at', 'yesterday'], '--at: must be a time'],
    [['serve', '/nowhere'], '/nowhere'],
    [['doctor', '--engine-command', 'ls'], 'no engine in the command'],
    [['doctor', '--engine-command', 'vllm serve "m'], 'line 1, column 12: a double quote'],
    [['doctor', '--engine-command', 'vllm serve m', '--pid', '1'], 'give one of them'],
    [['doctor', '--engine-version', 'new'], '--engine-version: must be a version'],
    [['doctor', '--engine-environment', 'x'], '--engine-environment: must be NAME=VALUE'],
    [['doctor', '--assume-cc', 'maybe'], '--assume-cc: must be one of on, off'],
    [['doctor', '--fail-on', 'doom'], '--fail-on: must be one of'],
    [['doctor', '--pid', '0'], '--pid: must be an integer'],
    [['doctor', '--pid', '4194304'], 'process 4194304'],
  ])('%o', async (args, message) => {
    const { io, err } = testIo();
    expect(await runCli(args, io)).toBe(2);
    expect(err.join('\n')).toContain(message);
  });

  test('and a failing engine with 1', async () => {
    const startEngine = async () => {
      throw new EngineError('out-of-memory', 'the weights do not fit');
    };
    const { io, err } = testIo({ startEngine });
    expect(await runCli(['serve'], io)).toBe(1);
    expect(err).toEqual(['bridgekeeper: the weights do not fit']);
  });
});

describe('serve', () => {
  const serving = async (args: readonly string[]) => {
    const test = testIo();
    const code = runCli(['serve', '--json', '--log-level', 'fatal', ...args], test.io);
    await until('it says where it serves', () => test.out.length > 0);
    return { ...test, code, document: JSON.parse(test.out[0]!) };
  };

  test('says where, answers, and ends with 0 at a signal, at once at the second', async () => {
    const { document, code, signal, exits, time } = await serving(['--port', '0']);
    expect((await fetch(`${document.url}/health`)).status).toBe(200);
    signal('SIGTERM');
    // npm forwards the terminal's signal: the same one again is no second thought.
    signal('SIGTERM');
    expect(exits).toEqual([]);
    time.nowNs += 2e9;
    signal('SIGINT');
    expect(exits).toEqual([1]);
    expect(await code).toBe(0);
  });

  test('ends with 1 when the engine dies', async () => {
    const { code, stub } = await serving(['--port', '0']);
    stub.fail('gone');
    expect(await code).toBe(1);
  });

  test('listens on a Unix socket, also where a dead one was left', async () => {
    const uds = join(scratch, 'socket');
    for (let round = 0; round < 2; round++) {
      const { code, signal, document } = await serving(['--uds', uds]);
      expect(document.uds).toBe(uds);
      const status = await new Promise((resolve) => {
        request({ socketPath: uds, path: '/health' }, (reply) => {
          reply.resume();
          resolve(reply.statusCode);
        }).end();
      });
      expect(status).toBe(200);
      signal('SIGTERM');
      await code;
    }
  });

  test('refuses a port that is taken', async () => {
    const { document, code, signal } = await serving(['--port', '0']);
    const startEngine = () => {
      throw new Error('the port is looked at before the model is loaded');
    };
    const { io, err } = testIo({ startEngine });
    const port = new URL(document.url).port;
    expect(await runCli(['serve', '--json', '--port', port], io)).toBe(2);
    expect(err.join()).toContain('EADDRINUSE');
    signal('SIGTERM');
    await code;
  });
});

test('the example is a command for this server', () => {
  const server = { url: 'http://127.0.0.1:8000', modelName: 'storyteller' };
  const call = exampleCall(server, { uds: undefined, apiKey: [], apiKeyFile: undefined });
  expect(call).toMatch(/^curl -N http:\/\/127.0.0.1:8000\/v1\/completions /);
  expect(JSON.parse(/-d '(.*)'$/.exec(call)![1]!)).toMatchObject({ model: 'storyteller' });
  const locked = { uds: '/s', apiKey: ['k'], apiKeyFile: undefined };
  expect(exampleCall(server, locked)).toContain("--unix-socket '/s'");
});
