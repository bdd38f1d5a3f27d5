import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LAUNCHER } from './launcher.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs an example as a reader does, from the repository's root. */
async function run(name: string, ...args: readonly string[]): Promise<Ended> {
  const child = spawn(process.execPath, [join('examples', name), ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'exit');
  const [out, err] = await Promise.all([textOf(child.stdout), textOf(child.stderr)]);
  const [code] = await ended;
  return { code, out, err };
}

/** The cells of a printed table by the first cell of each line. */
function tableOf(out: string): Map<string, readonly string[]> {
  const lines = out.trim().split('\n').slice(1);
  return new Map(lines.map((line) => [line.split(' ')[0]!, line.split(/\s{2,}/).slice(1)]));
}

it('every example is in the README', async () => {
  const readme = await readFile(join(ROOT, 'examples/README.md'), 'utf8');
  const programs = (await readdir(join(ROOT, 'examples'))).filter((name) => name.endsWith('.mjs'));
  const sections = [...readme.matchAll(/^## (\S+)$/gm)].map((match) => match[1]);
  expect(sections.sort()).toEqual(programs.sort());
});

describe('examples of a running server', () => {
  let child: ChildProcess;
  let url: string;
  let stateFolder: string;
  beforeAll(async () => {
    stateFolder = await mkdtemp(join(tmpdir(), 'bridgekeeper-examples-'));
    const flags = ['--port', '0', '--json', '--device', 'cpu', '--law', 'emulate:b300-cc'];
    child = spawn(process.execPath, [LAUNCHER, 'serve', ...flags], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, XDG_STATE_HOME: stateFolder },
    });
    let out = '';
    for await (const text of child.stdout!.setEncoding('utf8')) {
      out += text;
      if (out.includes('\n')) break;
    }
    url = (JSON.parse(out) as { url: string }).url;
  });
  afterAll(async () => {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
    await rm(stateFolder, { recursive: true });
  });

  it('chat-openai streams, names a receipt and says what crossed', async () => {
    const { code, out, err } = await run('chat-openai.mjs', url, 'Call me');
    expect([code, err]).toEqual([0, '']);
    const [, streamed] = /\n\n(\d+) tokens\n/.exec(out) ?? [];
    expect(Number(streamed)).toBeGreaterThan(0);
    expect(out).toMatch(`the same answer at once: ${streamed} tokens, receipt rcpt_`);
    expect(out).toMatch(/policy resident, law b300-cc: \d\.\d\d crossings/);
  });

  it('verify-server refuses a server whose software nobody expects, with reasons', async () => {
    const { code, out, err } = await run('verify-server.mjs', url);
    expect([code, err]).toEqual([1, '']);
    expect(out).toMatch(/^\w+ +SERVER server\.receiptKey: /m);
    const [, reasons = ''] = out.split('\nREFUSED, because\n');
    expect(reasons).toMatch(/^ {2}SERVER server\.\w+: is required/m);
  });

  it('verified-client sends nothing to a server whose software nobody expects', async () => {
    const { code, out, err } = await run('verified-client.mjs', url);
    expect([code, err]).toEqual([1, '']);
    const [, reasons = ''] = out.split('REFUSED, and nothing was sent, because\n');
    expect(reasons).toMatch(/^ {2}SERVER server\.encryption: is required/m);
  });
});

it('plan-a-load prints what each engine does with and without the bridge', async () => {
  const load = '2 at a time, 32+8, 4 requests';
  const { code, out, err } = await run('plan-a-load.mjs', 'Qwen3-0.6B', 'h100', load);
  expect([code, err]).toEqual([0, '']);
  const table = tableOf(out);
  expect(table.size).toBe(4);
  for (const [off, on] of table.values()) expect(Number(on)).toBeLessThanOrEqual(Number(off));
});

it('price-a-crossing prints the tolls that the profiles state', async () => {
  const { code, out, err } = await run('price-a-crossing.mjs');
  expect([code, err]).toEqual([0, '']);
  const prices = tableOf(out);
  // 22 µs, on a queued stream as well; the issuer is blocked for the queued 5 ms, too.
  expect(prices.get('b300-cc')?.slice(0, 3)).toEqual(['22 µs', '22 µs', '5022 µs']);
  expect(prices.get('h100-native')?.slice(0, 3)).toEqual(['8 µs', '8 µs', '3 µs']);
});

it('engine-in-virtual-time shows what each policy keeps under a confidential bridge', async () => {
  const { code, out, err } = await run('engine-in-virtual-time.mjs');
  expect([code, err]).toEqual([0, '']);
  const kept = new Map(
    [...tableOf(out)].map(([policy, cells]) => [policy, Number.parseInt(cells[2]!, 10)]),
  );
  expect([...kept.keys()]).toEqual(['overlap', 'drain-first', 'drain-worker', 'resident']);
  expect(kept.get('overlap')).toBeLessThan(kept.get('drain-worker')!);
  expect(kept.get('drain-first')).toBeLessThan(kept.get('resident')!);
  expect((await run('engine-in-virtual-time.mjs')).out).toBe(out);
});
