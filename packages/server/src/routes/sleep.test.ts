import { describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../testing/test-server.ts';
import { until } from '../testing/until.ts';

async function withServer(use: (server: TestServer) => Promise<void>, changes = {}) {
  const server = await startTestServer({ pace: 'by-hand' }, { enableSleepMode: true, ...changes });
  try {
    await use(server);
  } finally {
    await server.stop(0);
  }
}

const isSleeping = async ({ url }: TestServer) =>
  ((await (await fetch(`${url}/is_sleeping`)).json()) as { is_sleeping: boolean }).is_sleeping;
const completion = { model: 'storyteller', prompt: 'Once', max_tokens: 4 };

test('requests meet 503 while the engine sleeps, and are taken after /wake_up', async () => {
  await withServer(async (server) => {
    expect(await isSleeping(server)).toBe(false);
    expect((await server.post('/sleep?level=1', '')).status).toBe(200);
    expect(await isSleeping(server)).toBe(true);
    const refused = await server.post('/v1/completions', completion);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5']);
    expect(await refused.json()).toMatchObject({ error: { code: 'engine_asleep' } });
    // It is well, and says so.
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    expect((await server.post('/wake_up?tags=weights&tags=kv_cache', '')).status).toBe(200);
    expect(await isSleeping(server)).toBe(false);
    const answered = server.post('/v1/completions', completion);
    await server.untilOpen(1);
    for (let step = 0; step < 4; step++) server.stub.step();
    expect((await answered).status).toBe(200);
  });
});

test('what is in flight ends with an error, or is finished first', async () => {
  await withServer(async (server) => {
    const aborted = server.post('/v1/completions', completion);
    await server.untilOpen(1);
    expect((await server.post('/sleep', '')).status).toBe(200);
    expect(await (await aborted).json()).toMatchObject({ error: { code: 'engine_asleep' } });
    await server.post('/wake_up', '');
    const waited = server.post('/v1/completions', completion);
    await server.untilOpen(1);
    const sleeping = server.post('/sleep?mode=wait&level=2&kv=keep', '');
    await until('it is about to sleep', () => server.stub.isAsleep);
    for (let step = 0; step < 4; step++) server.stub.step();
    expect([(await waited).status, (await sleeping).status]).toEqual([200, 200]);
  });
});

test.each([
  '/sleep?level=0',
  '/sleep?level=3',
  '/sleep?mode=keep',
  '/sleep?kv=some',
  '/sleep?deep=1',
  '/wake_up?tags=weights',
  '/wake_up?now=1',
])('%s is refused and changes nothing', async (path) => {
  await withServer(async (server) => {
    expect((await server.post(path, '')).status).toBe(400);
    expect(await isSleeping(server)).toBe(false);
  });
});

describe('who may', () => {
  const status = async (server: TestServer, key: string) => {
    const headers = { Authorization: `Bearer ${key}` };
    const sleep = await server.post('/sleep', '', headers);
    const wake = await server.post('/wake_up', '', headers);
    const asks = await fetch(`${server.url}/is_sleeping`, { headers });
    return [sleep.status, wake.status, asks.status];
  };

  test('operators only, where there are several keys', async () => {
    const keys = { apiKey: ['one', 'two'], operatorKey: ['boss'] };
    await withServer(async (server) => {
      expect(await status(server, 'one')).toEqual([403, 403, 403]);
      expect(await status(server, 'boss')).toEqual([200, 200, 200]);
    }, keys);
  });

  test('nobody, unless the server was started with it', async () => {
    await withServer(
      async (server) => expect(await status(server, 'any')).toEqual([404, 404, 404]),
      { enableSleepMode: false },
    );
  });
});
