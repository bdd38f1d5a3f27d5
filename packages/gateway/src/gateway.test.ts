import { createHash, createPublicKey } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  makeCertificate,
  startTestServer,
  type TestServer,
  until,
} from '@bridgekeeper/server/testing';
import OpenAI from 'openai';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { routesTo, startTestGateway, type TestGateway } from './testing/test-gateway.ts';

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function replica(...args: Parameters<typeof startTestServer>): Promise<TestServer> {
  const server = await startTestServer(...args);
  closing.push(() => server.stop(0));
  return server;
}

async function gatewayOf(...args: Parameters<typeof startTestGateway>): Promise<TestGateway> {
  const gateway = await startTestGateway(...args);
  closing.push(() => gateway.stop(0));
  return gateway;
}

const digestOf = (key: string) => createHash('sha256').update(key).digest('hex');
const clientOf = ({ url }: TestGateway, apiKey = 'none') =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });

const COMPLETION = { model: 'storyteller', prompt: 'a', max_tokens: 5 } as const;

describe('a gateway before servers', () => {
  it('serves the openai client, and what is kept is found where it is', async () => {
    const servers = [await replica(), await replica()];
    const gateway = await gatewayOf(routesTo(...servers.map(({ port }) => port)));
    const client = clientOf(gateway);
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['storyteller']);
    expect((await client.models.retrieve('storyteller')).id).toBe('storyteller');
    const kept: string[] = [];
    // So many that each replica has some, whatever key orders them.
    for (const input of Array.from({ length: 24 }, (_, at) => `question ${at}`)) {
      const options = { model: 'storyteller', input, max_output_tokens: 4 };
      kept.push((await client.responses.create(options)).id);
    }
    for (const id of kept) {
      expect((await client.responses.retrieve(id)).id).toBe(id);
      const options = { model: 'storyteller', input: 'more', max_output_tokens: 4 };
      const next = await client.responses.create({ ...options, previous_response_id: id });
      expect(next.previous_response_id).toBe(id);
    }
    await expect(client.responses.retrieve('resp_unknown')).rejects.toMatchObject({
      status: 404,
      code: 'response_not_found',
    });
    const shares = [...gateway.fleet.replicas].map(({ requests }) => requests);
    expect(Math.min(...shares)).toBeGreaterThan(0);
  });

  it('says that nothing is kept only where all replicas say so', async () => {
    const servers = [await replica({}, { receipts: 'memory' }), await replica()];
    const gateway = await gatewayOf(routesTo(...servers.map(({ port }) => port)));
    const code = async (path: string, init = {}) => {
      const answer = await fetch(`${gateway.url}${path}`, init);
      const { error } = (await answer.json()) as { error: { code: string } };
      return [answer.status, error.code, answer.headers.get('retry-after')];
    };
    expect(await code('/v1/receipts/rcpt_none')).toEqual([404, 'receipt_not_found', null]);
    expect(await code('/v1/responses/resp_none')).toEqual([404, 'response_not_found', null]);
    await servers[1]!.stop(0);
    expect(await code('/v1/receipts/rcpt_none')).toEqual([503, 'no_replica', '5']);
    expect(await code('/v1/responses/resp_none')).toEqual([503, 'no_replica', '5']);
    const next = { model: 'storyteller', input: 'more', previous_response_id: 'resp_none' };
    const headers = { 'content-type': 'application/json' };
    const post = { method: 'POST', headers, body: JSON.stringify(next) };
    expect(await code('/v1/responses', post)).toEqual([503, 'no_replica', '5']);
  });

  it('lets the streams of a replica that drains end, and starts none there', async () => {
    const servers = [await replica({ pace: 'by-hand' }), await replica({ pace: 'by-hand' })];
    const ports = servers.map(({ port }) => port);
    const gateway = await gatewayOf(routesTo(...ports));
    const client = clientOf(gateway);
    const answer = client.completions.create({ ...COMPLETION, stream: true });
    await until('it is at a replica', () => servers.some(({ stub }) => stub.openIds.length === 1));
    const [at, other] = servers[0]!.stub.openIds.length === 1 ? [0, 1] : [1, 0];
    servers[at]!.stub.step();
    const stream = await answer;
    const routes = routesTo(...ports);
    const draining = (drained: number) => {
      const [pool] = routes.pools as [{ replicas: object[] }];
      const replicas = pool.replicas.map((each, index) => ({
        ...each,
        draining: index === drained,
      }));
      return { pools: [{ ...pool, replicas }] };
    };
    await gateway.reroute(draining(at));
    const next = client.completions.create({ ...COMPLETION, stream: true });
    await servers[other]!.untilOpen(1);
    expect(servers[at]!.stub.openIds).toHaveLength(1);
    // It is even gone from the table before its stream has ended.
    await gateway.reroute(routesTo(ports[other]!));
    let text = '';
    const reading = (async () => {
      for await (const { choices } of stream) text += choices[0]?.text ?? '';
    })();
    for (let step = 0; step < 5; step++) for (const { stub } of servers) stub.step();
    await reading;
    expect(text).not.toBe('');
    for await (const _ of await next);
    expect(gateway.openAnswers).toBe(0);
  });

  it('tells a client what there is, and takes no new requests, without any replica', async () => {
    const server = await replica({ pace: 'by-hand' });
    const gateway = await gatewayOf(routesTo(server.port));
    const client = clientOf(gateway);
    const answer = client.completions.create({ ...COMPLETION, stream: true });
    await server.untilOpen(1);
    await gateway.reroute({ pools: [{ name: 'none', models: ['other'], replicas: [] }] });
    await expect(client.completions.create(COMPLETION)).rejects.toMatchObject({
      code: 'model_not_found',
    });
    await expect(
      client.completions.create({ ...COMPLETION, model: 'other' }),
    ).rejects.toMatchObject({ status: 503, code: 'no_replica' });
    for (let step = 0; step < 5; step++) server.stub.step();
    let chunks = 0;
    for await (const _ of await answer) chunks += 1;
    expect(chunks).toBeGreaterThan(0);
    const health = await (await fetch(`${gateway.url}/health`)).json();
    expect(health).toMatchObject({
      status: 'ready',
      transport: 'loopback',
      pools: { total: 1, serving: 0 },
    });
  });
});

describe('tenants', () => {
  const GATEWAY_KEY = 'the-gateway';

  /** Two tenants, a pool that both may use, and one that is only the second's. */
  async function fleet(limits: object = {}, settings: Parameters<typeof replica>[1] = {}) {
    const server = await replica(
      { pace: 'by-hand' },
      { gatewayKey: [GATEWAY_KEY], receipts: 'memory', ...settings },
    );
    const url = `http://127.0.0.1:${server.port}`;
    const at = { url, credential: GATEWAY_KEY };
    const gateway = await gatewayOf({
      pools: [
        { name: 'shared', models: ['storyteller'], replicas: [{ ...at, name: 'a' }] },
        { name: 'own', models: ['secret'], replicas: [{ ...at, name: 'b' }] },
      ],
      tenants: [
        { name: 'one', keySha256: [digestOf('k1')], pools: ['shared'], ...limits },
        { name: 'two', keySha256: [digestOf('k2'), digestOf('k3')] },
      ],
    });
    return { server, gateway };
  }

  async function complete(server: TestServer, client: OpenAI) {
    const answer = client.completions.create(COMPLETION).withResponse();
    await server.untilOpen(1);
    for (let step = 0; step < 5; step++) server.stub.step();
    return (await answer).response.headers.get('x-receipt-id');
  }

  it('see their own models alone, by their own keys', async () => {
    const { gateway } = await fleet();
    const names = async (key: string) =>
      (await clientOf(gateway, key).models.list()).data.map(({ id }) => id);
    expect(await names('k1')).toEqual(['storyteller']);
    expect(await names('k3')).toEqual(['storyteller', 'secret']);
    await expect(names('k4')).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
    const one = clientOf(gateway, 'k1');
    const answers = ['secret', 'nothing'].map((model) =>
      one.completions.create({ ...COMPLETION, model }).catch((error: Error) => error.message),
    );
    const [hidden, absent] = await Promise.all(answers);
    expect(hidden).toBe(absent);
  });

  it('have nothing in common at a replica that knows the gateway’s key alone', async () => {
    const { server, gateway } = await fleet();
    const [one, two] = [clientOf(gateway, 'k1'), clientOf(gateway, 'k2')];
    const id = await complete(server, one);
    const receipt = (key: string) =>
      fetch(`${gateway.url}/v1/receipts/${id}`, { headers: { authorization: `Bearer ${key}` } });
    await until('it is written', async () => (await receipt('k1')).status === 200);
    expect((await receipt('k2')).status).toBe(404);
    await complete(server, two);
    // The key of a gateway without a tenant, and a tenant without the key, are nobody.
    const direct = (headers: Record<string, string>) => server.post('/v1/completions', {}, headers);
    expect((await direct({ authorization: `Bearer ${GATEWAY_KEY}` })).status).toBe(401);
    expect((await direct({ 'x-bridgekeeper-tenant': 'one' })).status).toBe(401);
  });

  it('are held to their limits, each to its own', async () => {
    const { server, gateway } = await fleet({ inFlightMax: 1 });
    const [one, two] = [clientOf(gateway, 'k1'), clientOf(gateway, 'k2')];
    const first = one.completions.create(COMPLETION);
    await server.untilOpen(1);
    await expect(one.completions.create(COMPLETION)).rejects.toMatchObject({
      status: 429,
      code: 'rate_limited',
    });
    const others = [two.completions.create(COMPLETION), two.completions.create(COMPLETION)];
    await server.untilOpen(3);
    for (let step = 0; step < 5; step++) server.stub.step();
    await Promise.all([first, ...others]);
  });

  it('wait in turn where a replica is full', async () => {
    const server = await replica({ pace: 'by-hand' });
    const tenants = ['one', 'two'].map((name, at) => ({ name, keySha256: [digestOf(`k${at}`)] }));
    const gateway = await gatewayOf({
      pools: [
        {
          name: 'p',
          models: ['storyteller'],
          replicas: [{ url: `http://127.0.0.1:${server.port}`, name: 'a', inFlightMax: 1 }],
        },
      ],
      tenants,
    });
    const order: string[] = [];
    const ask = (key: string) =>
      clientOf(gateway, key)
        .completions.create(COMPLETION)
        .then(() => order.push(key));
    const pool = [...gateway.fleet.pools][0]!;
    const all: Promise<unknown>[] = [ask('k0')];
    await server.untilOpen(1);
    for (const [at, key] of ['k0', 'k0', 'k0', 'k1', 'k1'].entries()) {
      all.push(ask(key));
      await until('it waits', () => pool.waiting.length === at + 1);
    }
    const stepping = (async () => {
      await until('all are done', () => {
        server.stub.step();
        return order.length === 6;
      });
    })();
    await Promise.all([...all, stepping]);
    expect(order).toEqual(['k0', 'k0', 'k1', 'k0', 'k1', 'k0']);
  });
});

const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-gateway-tls-'));
const certificate = makeCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));

describe.runIf(certificate.exists)('over TLS', () => {
  it('a replica is its key, and no other key is sent anything', async () => {
    const server = await replica(
      {},
      { sslKeyfile: certificate.key, sslCertfile: certificate.cert },
    );
    const key = createPublicKey(readFileSync(certificate.cert));
    const pin = createHash('sha256').update(key.export({ type: 'spki', format: 'der' }));
    const routes = (tlsSpkiSha256?: string) => ({
      pools: [
        {
          name: 'p',
          models: ['storyteller'],
          replicas: [{ url: `https://127.0.0.1:${server.port}`, name: 'a', tlsSpkiSha256 }],
        },
      ],
    });
    const gateway = await gatewayOf(routes(pin.digest('hex')), {
      sslKeyfile: certificate.key,
      sslCertfile: certificate.cert,
    });
    const ask = (path: string, body?: object) =>
      new Promise<{ status: number; text: string }>((resolve, reject) => {
        const headers = { 'content-type': 'application/json' };
        const method = body === undefined ? 'GET' : 'POST';
        const options = { port: gateway.port, path, method, headers, rejectUnauthorized: false };
        const sent = request(options, async (answer) => {
          let text = '';
          for await (const part of answer) text += part;
          resolve({ status: answer.statusCode!, text });
        });
        sent.on('error', reject);
        sent.end(body === undefined ? undefined : JSON.stringify(body));
      });
    const { text } = await ask('/v1/completions', { ...COMPLETION, stream: true });
    expect(text).toMatch(/data: \[DONE\]\n\n$/);
    expect(JSON.parse((await ask('/health')).text)).toMatchObject({ transport: 'tls' });
    for (const wrong of ['0'.repeat(64), undefined]) {
      await gateway.reroute(routes(wrong));
      expect((await ask('/v1/completions', COMPLETION)).status).toBe(502);
    }
  });
});

describe('what is written down', () => {
  it('names the replica, its tenancy and its place in the log in receipts', async () => {
    const named = { replicaId: 'rp_x', tenancyEpoch: 4, fabricLogIndex: 17, receipts: 'memory' };
    const server = await replica({}, named);
    const receipt = await (async () => {
      const answer = await server.post('/v1/completions', COMPLETION);
      expect(answer.headers.get('x-bridgekeeper-replica')).toBe('rp_x;epoch=4;log=17');
      await answer.text();
      const url = `${server.url}/v1/receipts/${answer.headers.get('x-receipt-id')}`;
      let text = '';
      await until('it is written', async () => {
        const got = await fetch(url);
        text = await got.text();
        return got.status === 200;
      });
      return JSON.parse(text) as { receipt: object };
    })();
    expect(receipt.receipt).toMatchObject({
      replica: { id: 'rp_x', tenancyEpoch: 4, logIndex: 17 },
    });
    // The table says something else: the gateway does not take its answers.
    const gateway = await gatewayOf(routesTo(server.port));
    const answer = await gateway.post('/v1/completions', COMPLETION);
    expect(await answer.json()).toMatchObject({ error: { code: 'replica_failed' } });
  });

  it('counts at /metrics what went through', async () => {
    const server = await replica();
    const gateway = await gatewayOf(routesTo(server.port));
    const stream = await gateway.post('/v1/completions', { ...COMPLETION, stream: true });
    const events = (await stream.text()).split('\n\n').length - 1;
    await gateway.post('/v1/completions', { ...COMPLETION, model: 'none' });
    const text = await (await fetch(`${gateway.url}/metrics`)).text();
    const value = (name: string) => Number(text.match(new RegExp(`^${name} (.*)$`, 'm'))?.[1]);
    const requests = 'bridgekeeper:gateway_requests_total\\{pool="stories",outcome="complete"\\}';
    expect(value(requests)).toBe(1);
    expect(value('bridgekeeper:gateway_refusals_total\\{code="model_not_found"\\}')).toBe(1);
    expect(value('bridgekeeper:gateway_events_total\\{pool="stories"\\}')).toBe(events);
    expect(value('bridgekeeper:gateway_first_byte_seconds_count')).toBe(1);
    expect(value('bridgekeeper:gateway_body_bytes')).toBe(0);
  });
});
