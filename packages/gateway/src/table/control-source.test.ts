import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RoutingTable } from '@bridgekeeper/control/api';
import { until } from '@bridgekeeper/server/testing';
import { afterEach, expect, test } from 'vitest';
import { startGatewayWith } from '../testing/test-gateway.ts';
import { readRoutes } from './routes-file.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A control that says what it is told to, good or bad. */
async function scriptedControl() {
  const asked: string[] = [];
  const reports: { sequence: number; pools: { requests: number }[] }[] = [];
  let stream: ServerResponse | undefined;
  const server = createServer((request, response) => {
    if (request.url === '/v1/gateways/report') {
      let text = '';
      request.on('data', (data) => (text += data));
      request.on('end', () => reports.push(JSON.parse(text)));
      response.end('{}');
      return;
    }
    asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    if (request.method === 'POST') {
      response.end('{}');
      return;
    }
    stream = response.writeHead(200, { 'content-type': 'text/event-stream' });
    stream.write(':\n\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  closing.push(close);
  const say = (event: string, data: object | string) => {
    const text = typeof data === 'string' ? data : JSON.stringify(data);
    stream!.write(`event: ${event}\nid: 1\ndata: ${text}\n\n`);
  };
  const { port } = server.address() as AddressInfo;
  const listens = (count: number) => until('it listens', () => asked.length >= count);
  const cut = () => stream!.destroy();
  return { url: `http://127.0.0.1:${port}`, cut, asked, reports, say, listens, close };
}

function tableOf(sequence: number, models: readonly string[]): RoutingTable {
  const pools = models.map((name) => ({ name, models: [name], replicas: [] }));
  return readRoutes(JSON.stringify({ pools, tenants: [] }), sequence, 'a test').table;
}

async function follow(
  control: { url: string; others?: string[] },
  stateFile?: string,
  changes: Parameters<typeof startGatewayWith>[1] = {},
) {
  const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-routes-'));
  closing.push(() => rm(folder, { recursive: true }));
  const path = stateFile ?? join(folder, 'routes.json');
  const source = {
    kind: 'control',
    urls: [...(control.others ?? []), control.url],
    key: 'k',
    name: 'g',
    stateFile: path,
  } as const;
  const gateway = await startGatewayWith(source, changes);
  closing.push(() => gateway.stop(0));
  const models = () => [...gateway.fleet.table.pools.keys()].sort();
  const sequence = () => gateway.fleet.table.sequence;
  return { gateway, models, sequence, path };
}

const poolChange = (sequence: number, name: string) => ({
  kind: 'pool',
  sequence,
  put: tableOf(0, [name]).pools[0],
});

test('what comes twice or late changes nothing, and a cut loses nothing', async () => {
  const control = await scriptedControl();
  const { gateway, models, sequence } = await follow(control);
  expect((await fetch(`${gateway.url}/health`)).status).toBe(503);
  await control.listens(1);
  control.say('table', tableOf(5, ['a']));
  control.say('change', poolChange(6, 'b'));
  control.say('change', poolChange(6, 'b'));
  control.say('change', poolChange(4, 'late'));
  control.say('another', { anything: 1 });
  await until('both came', () => sequence() === 6);
  expect(models()).toEqual(['a', 'b']);
  expect(await (await fetch(`${gateway.url}/health`)).json()).toMatchObject({
    status: 'ready',
    table: { sequence: 6, is_current: true },
  });
  // Of one commit, among which the connection ends.
  control.say('change', poolChange(9, 'c'));
  await until('one came', () => sequence() === 9);
  control.cut();
  await control.listens(2);
  expect(control.asked[1]).toBe('GET /v1/routing/events?from=8 Bearer k');
  for (const name of ['c', 'd']) control.say('change', poolChange(9, name));
  await until('the other came', () => models().length === 4);
  expect(models()).toEqual(['a', 'b', 'c', 'd']);
});

test('what is no table breaks nothing: the last one holds, and changes of it come', async () => {
  const control = await scriptedControl();
  const { models, sequence } = await follow(control);
  await control.listens(1);
  control.say('table', tableOf(5, ['a']));
  await until('it came', () => sequence() === 5);
  for (const [at, bad] of ['{', '{"sequence": 6}', '[]'].entries()) {
    control.say('table', bad);
    await control.listens(at + 2);
  }
  expect(control.asked.at(-1)).toBe('GET /v1/routing/events?from=4 Bearer k');
  control.say('table', tableOf(4, ['older']));
  control.say('change', poolChange(6, 'b'));
  await until('it came', () => sequence() === 6);
  expect(models()).toEqual(['a', 'b']);
});

test('a gateway that starts while control is away has the last table', async () => {
  const control = await scriptedControl();
  const first = await follow(control);
  await control.listens(1);
  control.say('table', tableOf(5, ['a']));
  const kept = async () => JSON.parse(await readFile(first.path, 'utf8')).sequence;
  await until('it is kept', () =>
    kept()
      .then((sequence) => sequence === 5)
      .catch(() => false),
  );
  expect((await stat(first.path)).mode & 0o777).toBe(0o600);
  control.close();
  const second = await follow(control, first.path);
  expect(second.models()).toEqual(['a']);
  const health = await (await fetch(`${second.gateway.url}/health`)).json();
  expect(health).toMatchObject({
    status: 'ready',
    table: { sequence: 5, age_seconds: null, is_current: false },
  });
  await writeFile(first.path, '{"sequence":');
  await expect(follow(control, first.path)).rejects.toMatchObject({ code: 'bad-table' });
});

/** The table of a pool `a` that sleeps, for a tenant whose key is "a". */
function asleep(coldStartSeconds: number): object {
  const table = tableOf(5, ['a']);
  const key = 'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb';
  const routes = {
    pools: [{ name: 'x', models: ['x'], replicas: [] }],
    tenants: [{ name: 't', keySha256: [key] }],
  };
  const [tenant] = readRoutes(JSON.stringify(routes), 0, 'a test').table.tenants;
  const pools = table.pools.map((pool) => ({ ...pool, state: 'asleep', coldStartSeconds }));
  const keys = [{ digest: key, tenant: 't', keyId: `key_${'0'.repeat(26)}`, notAfterMs: null }];
  return { ...table, pools, tenants: [tenant], keys };
}

const complete = (url: string) =>
  fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer a' },
    body: JSON.stringify({ model: 'a', prompt: 'x' }),
  });

test('a pool that sleeps is woken once, and reports say what there is', async () => {
  const control = await scriptedControl();
  const { gateway, sequence } = await follow(control);
  await control.listens(1);
  control.say('table', asleep(40));
  await until('it came', () => sequence() === 5);
  for (let count = 0; count < 3; count++) {
    const answer = await complete(gateway.url);
    expect(answer.status).toBe(503);
    expect(answer.headers.get('retry-after')).toBe('40');
  }
  await control.listens(2);
  expect(control.asked.slice(1)).toEqual(['POST /v1/pools/a/wake Bearer k']);
  await until('a report has all three', () => control.reports.at(-1)?.pools[0]?.requests === 3);
  const before = control.reports.length;
  await until('another report came', () => control.reports.length > before);
  const [first, second] = control.reports.slice(-2);
  expect(second!.sequence).toBeGreaterThan(first!.sequence);
  expect(control.reports.at(-1)!.pools).toMatchObject([{ pool: 'a', requests: 3, inFlight: 0 }]);
});

test('a request for a pool that does not come up is told so, not that all is taken', async () => {
  const control = await scriptedControl();
  const changes = { holdSeconds: 40, queueTimeout: 2 };
  const { gateway, sequence } = await follow(control, undefined, changes);
  await control.listens(1);
  control.say('table', asleep(40));
  await until('it came', () => sequence() === 5);
  const answer = await complete(gateway.url);
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({
    error: { code: 'no_replica', message: 'No replica of this model came up in time.' },
  });
});

test('of several controls the one that leads is followed, and then the next', async () => {
  const away = await scriptedControl();
  away.close();
  const waiting = createServer((_, response) => response.writeHead(503).end('{}'));
  waiting.listen(0, '127.0.0.1');
  await once(waiting, 'listening');
  closing.push(() => waiting.close());
  const { port } = waiting.address() as AddressInfo;
  const first = await scriptedControl();
  const control = await scriptedControl();
  const others = [away.url, `http://127.0.0.1:${port}`, first.url];
  const { models, sequence } = await follow({ url: control.url, others });
  await first.listens(1);
  first.say('table', tableOf(5, ['a']));
  await until('it came', () => sequence() === 5);
  first.close();
  await control.listens(1);
  expect(control.asked[0]).toBe('GET /v1/routing/events?from=4 Bearer k');
  control.say('change', poolChange(6, 'b'));
  await until('the next leader’s came', () => sequence() === 6);
  expect(models()).toEqual(['a', 'b']);
});
