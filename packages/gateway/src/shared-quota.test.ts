import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { QuotaShare } from '@bridgekeeper/control/api';
import { unixMs } from '@bridgekeeper/server/host-clock';
import { until } from '@bridgekeeper/server/testing';
import { afterEach, expect, test } from 'vitest';
import { readRoutes } from './table/routes-file.ts';
import { startScriptedUpstream, whole } from './testing/scripted-upstream.ts';
import { startGatewayWith } from './testing/test-gateway.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const KEY = 'a';

/** A tenant with that quota, whose requests go to one replica. */
function tableFor(port: number, quota: object) {
  const keySha256 = [createHash('sha256').update(KEY).digest('hex')];
  const replicas = [{ url: `http://127.0.0.1:${port}`, inFlightMax: 1000 }];
  const pools = [{ name: 'stories', models: ['storyteller'], replicas }];
  const tenants = [{ name: 'aurora', keySha256, ...quota }];
  return readRoutes(JSON.stringify({ pools, tenants }), 1, 'a test').table;
}

/** Gateways of one control, each with its part of what the tenant may take. */
async function gatewaysOf(count: number, port: number, quota: object) {
  const names = Array.from({ length: count }, (_, index) => `gateway-${index}`);
  const server = createServer(async (request, response) => {
    if (request.url?.startsWith('/v1/routing/events')) {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const data = JSON.stringify(tableFor(port, quota));
      response.write(`event: table\nid: 1\ndata: ${data}\n\n`);
      return;
    }
    let text = '';
    for await (const part of request) text += part;
    const { gateway } = JSON.parse(text) as { gateway: string };
    const share: QuotaShare = { index: names.indexOf(gateway), of: names.length };
    response.end(JSON.stringify({ share }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  const urls = [`http://127.0.0.1:${(server.address() as AddressInfo).port}`];
  const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-quota-'));
  closing.push(() => rm(folder, { recursive: true }));
  const gateways = await Promise.all(
    names.map(async (name) => {
      const stateFile = join(folder, `${name}.json`);
      const source = { kind: 'control', urls, key: 'k', name, stateFile } as const;
      const gateway = await startGatewayWith(source);
      closing.push(() => gateway.stop(0));
      return gateway;
    }),
  );
  await until('all know their part', () =>
    gateways.every(({ fleet }) => fleet.share.of === count && fleet.table.sequence === 1),
  );
  return gateways;
}

const ask = (url: string) =>
  fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${KEY}` },
    body: JSON.stringify({ model: 'storyteller', prompt: 'x' }),
  }).then(({ status }) => status);

test.each([
  [2, 3],
  [3, 2],
])('%i gateways together let in %i requests of a tenant at once', async (count, inFlightMax) => {
  let open = 0;
  let most = 0;
  const held: (() => void)[] = [];
  const upstream = await startScriptedUpstream(({ socket }) => {
    open += 1;
    most = Math.max(most, open);
    held.push(() => {
      open -= 1;
      socket.write(whole(200, '{}'));
    });
  });
  closing.push(() => upstream.close());
  const gateways = await gatewaysOf(count, upstream.port, { inFlightMax });
  const asking = Array.from({ length: 30 }, (_, index) => ask(gateways[index % count]!.url));
  let refused = 0;
  const answered = asking.map(async (status) => {
    if ((await status) === 429) refused += 1;
  });
  // None of those that were let in is answered before all others were refused.
  await until('all others are refused', () => refused === 30 - inFlightMax);
  await until('those are at the replica', () => open === inFlightMax);
  for (const answer of held) answer();
  await Promise.all(answered);
  expect(most).toBe(inFlightMax);
  expect(refused).toBe(30 - inFlightMax);
});

test('gateways together let in no more requests a minute than the tenant has', async () => {
  const upstream = await startScriptedUpstream(({ socket }) => socket.write(whole(200, '{}')));
  closing.push(() => upstream.close());
  const startedMs = unixMs();
  const gateways = await gatewaysOf(2, upstream.port, { requestsPerMinute: 10 });
  const statuses = await Promise.all(
    Array.from({ length: 40 }, (_, index) => ask(gateways[index % 2]!.url)),
  );
  const letIn = statuses.filter((status) => status === 200).length;
  // Ten at first, and what came in since.
  const earned = ((unixMs() - startedMs) / 60_000) * 10;
  expect(letIn).toBeGreaterThanOrEqual(10);
  expect(letIn).toBeLessThanOrEqual(10 + Math.ceil(earned));
  expect(statuses.every((status) => status === 200 || status === 429)).toBe(true);
  expect(upstream.requests).toHaveLength(letIn);
});
