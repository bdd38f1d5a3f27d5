import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { RunningServer } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { startBundledModel, startTestServer } from '@bridgekeeper/server/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { type Shown, screen } from '../top/screen.ts';
import { runCli } from './program.ts';

let server: RunningServer;
beforeAll(async () => {
  server = await startBundledModel({ law: 'emulate:b300-cc' });
}, 60_000);
afterAll(() => server.stop(0));

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + 2e7);
}

const ask = () =>
  fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ model: server.modelName, prompt: 'Once', max_tokens: 30 }),
  });

describe('top', () => {
  test('looks once where nobody watches, with law, policy and ledger', async () => {
    await (await ask()).text();
    const { io, out } = testIo();
    expect(await runCli(['top', '--url', server.url], io)).toBe(0);
    const text = out.join('\n');
    expect(text).toContain('● live');
    expect(text).toContain('law b300-cc, policy resident');
    expect(text).toMatch(/▼ tokens +\d+/);
    const json = testIo();
    expect(await runCli(['top', '--url', server.url, '--json'], json.io)).toBe(0);
    const shown = JSON.parse(json.out[0]!) as Shown;
    expect(shown.bridge).toMatchObject({ law: { name: 'b300-cc' } });
  });

  test('writes down what happens, as a recording', async () => {
    const files = new Map<string, string>();
    const { io } = testIo({ writeFile: (path, text) => files.set(path, text) });
    const words = ['top', '--url', server.url, '--record', 'r.json', '--seconds', '1'];
    const recording = runCli(words, io);
    await (await ask()).text();
    expect(await recording).toBe(0);
    const { accounts, moments } = JSON.parse(files.get('r.json')!) as {
      accounts: unknown[];
      moments: { seq: number }[];
    };
    expect(accounts.length).toBeGreaterThan(5);
    const seqs = moments.map(({ seq }) => seq);
    expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
  });

  test('goes on when a server vanishes, and says how old what it shows is', async () => {
    const other = await startTestServer();
    const written: string[] = [];
    const { io, signal } = testIo({
      isTerminal: true,
      dialogue: { write: (text) => written.push(text), async *lines() {} },
    });
    // An engine that cannot be watched: the same as one that is away.
    const running = runCli(['top', '--url', other.url, '--interval', '0.1'], io);
    await until(() => written.some((text) => text.includes('cannot be watched')));
    await other.stop(0);
    await until(() => written.some((text) => text.includes('no server answers')));
    expect(written.at(-1)).toContain('nothing was heard yet');
    signal('SIGINT');
    expect(await running).toBe(0);
  });

  test('says why there is nothing to look at', async () => {
    const locked = await startTestServer({}, { apiKey: ['one'], operatorKey: ['op'] });
    const { io, err } = testIo({ environment: { BRIDGEKEEPER_API_KEY: 'one' } });
    expect(await runCli(['top', '--url', locked.url], io)).toBe(1);
    expect(err.join()).toMatch(/refused \(403\).* BRIDGEKEEPER_API_KEY to an operator key/);
    await locked.stop(0);
    const closed = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => closed.once('listening', resolve));
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    const nobody = testIo();
    expect(await runCli(['top', '--url', `http://127.0.0.1:${port}`], nobody.io)).toBe(1);
    expect(nobody.err.join()).toContain('no server answers');
  });

  test('draws a lane by how busy it was, and what is old as old', () => {
    const bridge = {
      device: { kind: 'cpu' },
      law: { name: 'off', reason: 'why' },
      policy: { name: 'resident', reason: 'why' },
      uptime_seconds: 1,
      running: 0,
      waiting: 0,
      generated_tokens: 0,
      steps_per_launch: 1,
      steps_per_launch_reason: 'why',
      per_generated_token: { crossings: 0, bytes: 0, launches: 0 },
      lanes: [],
      ledger: [],
    };
    // Busy in the second half of ten seconds, at a half of the time.
    const crossings = Array.from({ length: 50 }, (_, at) => [
      0,
      0,
      100e3 * (at + 1),
      50e3,
      0,
      0,
      1,
      1,
    ]);
    const moment = { seq: 1, now_us: 10e6, lanes: ['drain'], crossings, launches: [], dropped: 3 };
    const shown: Shown = {
      bridge,
      moments: [moment],
      tokensPerSecond: null,
      age: { seconds: 12.4, reason: 'no server answers' },
    };
    const lines = screen('http://x', shown, 64);
    expect(lines[0]).toBe('http://x  ✕ no server answers; what is shown is 12 s old');
    const lane = lines.find((line) => line.startsWith('lane drain'))!;
    const strip = lane.slice(14);
    expect(strip.slice(0, 23).trim()).toBe('');
    expect(strip.slice(26, 48)).toMatch(/^[▃▄▅]+$/);
    expect(lines).toContainEqual(expect.stringContaining('3 crossings found no room'));
  });
});
