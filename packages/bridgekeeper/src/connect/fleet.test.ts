import { once } from 'node:events';
import { type AddressInfo, connect as connectTcp, createServer } from 'node:net';
import { connect } from '@bridgekeeper/client';
import { startTestGateway } from '@bridgekeeper/gateway/testing';
import { afterAll, afterEach, expect, test } from 'vitest';
import { AttestedConnections, complete } from '../testing/attested-connections.ts';

const connections = await AttestedConnections.open();
afterEach(() => connections.endTest());
afterAll(() => connections.close());

interface Wire {
  readonly port: number;
  /** Everything that passed, both ways. */
  readonly text: () => string;
}

/** Passes bytes on to a port of this machine, and keeps all of them, both ways. */
async function record(port: number): Promise<Wire> {
  const seen: Buffer[] = [];
  const server = createServer((client) => {
    const target = connectTcp(port, '127.0.0.1');
    for (const [from, to] of [
      [client, target],
      [target, client],
    ] as const) {
      from.on('data', (bytes: Buffer) => {
        seen.push(bytes);
        to.write(bytes);
      });
      from.on('error', () => undefined);
      from.once('close', () => to.destroy());
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  connections.atEnd(() => server.close());
  const text = () => Buffer.concat(seen).toString('latin1');
  return { port: (server.address() as AddressInfo).port, text };
}

const SECRET = 'the bridge keeper asked me three questions';
const PROMPT = { prompt: SECRET, max_tokens: 6, stream: true };

/** Replicas behind a gateway, with everything on the wires before and behind it on record. */
async function serveFleet(count: number) {
  const wires: Wire[] = [];
  for (let index = 0; index < count; index++) {
    const { port } = await connections.serve();
    wires.push(await record(port));
  }
  const routes = (of: readonly { readonly port: number }[]) => ({
    pools: [
      {
        name: 'stories',
        models: ['storyteller'],
        replicas: of.map(({ port }) => ({ url: `http://127.0.0.1:${port}` })),
      },
    ],
  });
  const gateway = await startTestGateway(routes(wires));
  connections.atEnd(() => gateway.stop(0));
  const front = await record(gateway.port);
  const url = `http://127.0.0.1:${front.port}`;
  const text = () => [front, ...wires].map((wire) => wire.text()).join('');
  return { wires, gateway, url, text, routes };
}

test('a gateway passes on what a replica alone can read, and never sees it', async () => {
  const { url, text } = await serveFleet(3);
  const verified = await connections.verify(connect, url);
  let said = '';
  for (let index = 0; index < 4; index++) {
    said = await (await complete(verified, PROMPT)).text();
    expect(said).toMatch(/data: \{.*data: \[DONE\]\n\n$/s);
  }
  expect(text()).toContain('message/ohttp');
  for (const word of [SECRET, 'data: {', '/v1/completions', 'max_tokens']) {
    expect(text()).not.toContain(word);
  }
  // The record would show it: the same request, to be read by whoever carries it.
  const body = JSON.stringify({ ...PROMPT, model: 'storyteller' });
  const headers = { 'content-type': 'application/json' };
  const plain = await fetch(`${url}/v1/completions`, { method: 'POST', headers, body });
  await plain.text();
  expect(text()).toContain(SECRET);
});

test('a client of a replica that is gone verifies another one before it sends more', async () => {
  const { url, wires, gateway, routes, text } = await serveFleet(2);
  const verified = await connections.verify(connect, url);
  await (await complete(verified, PROMPT)).text();
  const first = verified.report;
  const at = [...gateway.fleet.replicas].find(({ requests }) => requests > 0)!;
  const others = wires.filter(({ port }) => port !== Number(new URL(at.route.address).port));
  await gateway.reroute(routes(others));
  expect(await (await complete(verified, PROMPT)).text()).toContain('[DONE]');
  expect(verified.report).not.toBe(first);
  expect(text()).not.toContain(SECRET);
});
