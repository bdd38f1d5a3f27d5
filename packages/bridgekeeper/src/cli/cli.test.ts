import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EngineError } from '@bridgekeeper/engine';
import { afterAll, describe, expect, test } from 'vitest';
import { StubEngine } from '../testing/stub-engine.ts';
import type { CliIo } from './io.ts';
import { runCli } from './program.ts';
import { exampleCall } from './serve.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-cli-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A process for the command line that is none: what it printed, and a way to signal it. */
function testIo(more: Partial<CliIo> = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const exits: number[] = [];
  const time = { nowNs: 0 };
  let signal: (name: string) => void = () => {};
  const stub = new StubEngine();
  const io: CliIo = {
    environment: {},
    readFile: () => '',
    writeFile: () => {},
    out: (line) => out.push(line),
    err: (line) => err.push(line),
    isTerminal: false,
    onSignal: (action) => {
      signal = action;
    },
    nowNs: () => time.nowNs,
    exit: (code) => exits.push(code),
    startEngine: async () => ({
      engine: stub,
      law: { name: 'off', reason: 'stub' },
      policy: { name: 'drain-first', reason: 'stub' },
      bridge: { name: 'none', reason: 'a stub crosses nothing' },
    }),
    ...more,
  };
  return { io, out, err, exits, stub, time, signal: (name: string) => signal(name) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('version and doctor', () => {
  test('print what they know', async () => {
    const { io, out } = testIo();
    expect(await runCli(['version', '--json'], io)).toBe(0);
    expect(JSON.parse(out[0]!)).toMatchObject({ version: '0.1.0', node: process.versions.node });
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
});

describe('bad usage exits with 2', () => {
  test.each([
    [['serve', '--port', 'x'], '--port: must be an integer'],
    [['serve', '--nonsense'], 'unknown option'],
    [['fly'], 'unknown command'],
    [['bench', 'sse', '--streams', '0'], '--streams: must be an integer'],
    [['serve', '/nowhere'], '/nowhere'],
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
    while (test.out.length === 0) await turn();
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
    const { io, err } = testIo();
    const port = new URL(document.url).port;
    expect(await runCli(['serve', '--json', '--port', port], io)).toBe(2);
    expect(err.join()).toContain('EADDRINUSE');
    signal('SIGTERM');
    await code;
  });
});

test('the example is a command for this server', () => {
  const server = { url: 'http://127.0.0.1:8000', modelName: 'storyteller' };
  const call = exampleCall(server, { uds: undefined, apiKey: [] });
  expect(call).toMatch(/^curl -N http:\/\/127.0.0.1:8000\/v1\/completions /);
  expect(JSON.parse(/-d '(.*)'$/.exec(call)![1]!)).toMatchObject({ model: 'storyteller' });
  expect(exampleCall(server, { uds: '/s', apiKey: ['k'] })).toContain("--unix-socket '/s'");
});
