import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterAll, describe, expect, test } from 'vitest';
import { loadingLog } from './engine/start-configured-engine.ts';
import { tenantOfKey } from './http/auth.ts';
import type { Settings } from './settings/table.ts';
import { startTestServer } from './testing/test-server.ts';
import { until } from './testing/until.ts';

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

async function logged(
  changes: Partial<Settings> = {},
  options: Parameters<typeof startTestServer>[0] = {},
) {
  const lines: Line[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Line);
      done();
    },
  });
  const log = pino({ level: 'debug', base: null }, stream);
  const server = await startTestServer(options, changes, undefined, undefined, log);
  const line = async (start: string): Promise<Line> => {
    const find = () => lines.find(({ msg }) => msg.startsWith(start));
    await until(`a line begins with ${start}`, () => find() !== undefined);
    return find()!;
  };
  return { server, lines, line };
}

const AUTHORIZED = { Authorization: 'Bearer hunter2', 'X-Request-Id': 'mine' };
const SECRET = 'a secret that nobody logs';

describe('the access log', () => {
  test('has a line for each answer: who, what, how it ended, tokens and times', async () => {
    const { server, lines, line } = await logged({ apiKey: ['hunter2'] });
    const body = { prompt: SECRET, max_tokens: 5, stream: true };
    await (await server.post('/v1/completions', body, AUTHORIZED)).text();
    const entry = await line('POST /v1/completions');
    expect(entry).toMatchObject({
      level: 30,
      msg: 'POST /v1/completions 200',
      id: 'mine',
      tenant: tenantOfKey('hunter2'),
      cached: 0,
      generated: 5,
    });
    expect(entry.prompt).toBeGreaterThan(0);
    expect(entry.ttftMs).toBeLessThanOrEqual(entry.ms as number);
    expect(entry).not.toHaveProperty('error');
    await server.stop(0);
    expect(JSON.stringify(lines)).not.toMatch(/secret|hunter2/);
  });

  test('has a line for what was refused, with the code', async () => {
    const { server, line, lines } = await logged({ apiKey: ['hunter2'] });
    await server.post('/v1/completions', { prompt: SECRET, top_p: 7 }, AUTHORIZED);
    expect(await line('POST /v1/completions 400')).toMatchObject({ error: 'invalid_value' });
    await server.post('/v1/chat/completions', {});
    const refused = await line('POST /v1/chat/completions 401');
    expect(refused).toMatchObject({ error: 'invalid_api_key' });
    expect(refused).not.toHaveProperty('tenant');
    await fetch(`${server.url}/${'x'.repeat(500)}`, { headers: AUTHORIZED });
    expect((await line('GET /xxx')).msg).toHaveLength('GET  404'.length + 100);
    await fetch(`${server.url}/v1/models/storyteller`, { headers: AUTHORIZED });
    expect((await line('GET /v1/models/{id} 200')).level).toBe(30);
    await fetch(`${server.url}/health`);
    expect((await line('GET /health 200')).level).toBe(20);
    await server.stop(0);
    expect(JSON.stringify(lines)).not.toMatch(/secret|hunter2/);
  });

  test('says that a client left, and is off when told so', async () => {
    const { server, line } = await logged();
    const leaving = new AbortController();
    const body = JSON.stringify({ prompt: 'Once', max_tokens: 400, stream: true });
    const headers = { 'Content-Type': 'application/json' };
    const url = `${server.url}/v1/completions`;
    await fetch(url, { method: 'POST', body, headers, signal: leaving.signal });
    leaving.abort();
    expect((await line('POST /v1/completions')).msg).toMatch(/ (499|200)$/);
    await server.stop(0);
    const quiet = await logged({ accessLog: false });
    await quiet.server.post('/v1/completions', { prompt: 'a', max_tokens: 1 });
    await quiet.server.stop(0);
    expect(quiet.lines.filter(({ msg }) => msg.startsWith('POST'))).toEqual([]);
  });
});

describe('keys from a file', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'keys-'));
  afterAll(() => rmSync(scratch, { recursive: true }));

  test('are let in with their limits, and those of the flag with the others', async () => {
    const apiKeyFile = join(scratch, 'keys');
    writeFileSync(apiKeyFile, 'small tokens-per-minute=6 weight=2\n');
    chmodSync(apiKeyFile, 0o600);
    const { server } = await logged({ apiKeyFile, apiKey: ['large'] });
    const ask = (key: string) =>
      server.post(
        '/v1/completions',
        { prompt: [1, 2, 3, 4, 5, 6, 7, 8], max_tokens: 1 },
        { Authorization: `Bearer ${key}` },
      );
    expect((await ask('unknown')).status).toBe(401);
    expect((await ask('small')).status).toBe(200);
    const refused = await ask('small');
    expect(refused.status).toBe(429);
    // Nine of six were used: four tokens more at six a minute.
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(30);
    expect(await refused.json()).toMatchObject({ error: { code: 'rate_limited' } });
    for (let round = 0; round < 3; round++) expect((await ask('large')).status).toBe(200);
    await server.stop(0);
  });

  test('what one key has waiting is bounded, and what ended counts no more', async () => {
    const limits = { maxRunningPerKey: 1, maxWaitingPerKey: 1 };
    const server = await startTestServer({ pace: 'by-hand' }, limits);
    const ask = () => server.post('/v1/completions', { prompt: 'a', max_tokens: 1 });
    const first = [ask(), ask()];
    await server.untilOpen(2);
    expect(server.stub.requestAt(0)?.share).toMatchObject({ weight: 1, maxRows: 1 });
    expect((await ask()).status).toBe(429);
    server.stub.step();
    for (const each of await Promise.all(first)) expect(each.status).toBe(200);
    const again = ask();
    await server.untilOpen(1);
    server.stub.step();
    expect((await again).status).toBe(200);
    await server.stop(0);
  });
});

test('loading tells sizes as they are, and nothing where there is nothing to load', () => {
  const clock = { now: 0, nowNs: () => clock.now };
  const lines: string[] = [];
  const log = { info: (line: string) => void lines.push(line) } as never;
  const progress = loadingLog(log, { model: 'm' }, clock);
  clock.now = 3e9;
  progress(0, 0);
  expect(lines).toEqual([]);
  progress(1.5e6, 6e6);
  expect(lines).toEqual(['loading m: 1.5 MB of 6.0 MB, 500 kB/s']);
});

test('says once that min_tokens gives way where answers are held to something', async () => {
  const { server, lines, line } = await logged({}, { card: { grammarBytes: 2 ** 20 } });
  const body = { prompt: 'x', max_tokens: 2, guided_choice: ['a'] };
  for (const more of [{}, { min_tokens: 0 }, { min_tokens: 1 }, { min_tokens: 2 }]) {
    expect((await server.post('/v1/completions', { ...body, ...more })).status).toBe(200);
  }
  await line('requests have min_tokens');
  expect(lines.filter(({ msg }) => msg.includes('min_tokens'))).toHaveLength(1);
  await server.stop(0);
});
