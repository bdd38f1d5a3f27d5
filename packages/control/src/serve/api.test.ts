import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createTlsServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VENDOR_ROOTS } from '@bridgekeeper/attest';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { controlLink, type Identity, joinControl, readIdentity } from '../agent/link.ts';
import type { HostObservation } from '../api/agent.ts';
import { OPERATOR_CALLS as CALLS } from '../api/operator-calls.ts';
import { type Call, GATEWAY_CALLS } from '../api/routes.ts';
import type { RoutingChange, RoutingTable } from '../api/routing.ts';
import { type CallInput, type ControlAddress, callControl, watchControl } from '../client.ts';
import { ControlError } from '../errors.ts';
import { type OpenControl, openControl } from '../open.ts';
import { SqlStore } from '../store/sql-store.ts';
import { openSqlite } from '../store/sqlite.ts';
import { SYSTEM_CHANCE, SYSTEM_TIME } from '../system.ts';
import { pretendedFacts } from '../vmm/pretended.ts';
import { makeRequest } from './authority.ts';
import type { Predict } from './operator.ts';

let folder: string;
let control: OpenControl;
let operator: ControlAddress;
let gateway: ControlAddress;
let predict: Predict;

const SPEC = {
  models: ['story'],
  image: 'storyteller',
  policy: 'trial',
  replicas: { min: 1, max: 2 },
};
const QUOTA = {
  requestsPerMinute: null,
  tokensPerMinute: null,
  inFlightMax: null,
  gpusMax: 1,
  weight: 1,
};

async function open(): Promise<void> {
  control = await openControl({
    folder,
    database: null,
    listen: { host: '127.0.0.1', port: 0 },
    agents: { host: '127.0.0.1', port: 0 },
    names: ['127.0.0.1'],
    admission: {
      anchors: VENDOR_ROOTS,
      allowsOperatorAsserted: true,
      services: () => ({ references: null, revocation: null, tokenKeys: null, collateral: null }),
    },
    predict: (question) => predict(question),
    version: '0.0.0',
    time: SYSTEM_TIME,
    chance: SYSTEM_CHANCE,
    onTrouble: () => undefined,
    onCrash: (error) => {
      throw error;
    },
  });
  await control.leads;
  const keyIn = (name: string) => readFileSync(join(folder, `${name}.key`), 'utf8').trim();
  operator = { url: control.url, key: keyIn('operator') };
  gateway = { url: control.url, key: keyIn('gateway') };
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'bk-control-'));
  await open();
  const spec = { policy: 'operator-asserted', maxAgeSeconds: 600 };
  await callControl(operator, CALLS.putPolicy, { params: { name: 'trial' }, body: spec });
});

afterEach(async () => {
  await control.close();
  rmSync(folder, { recursive: true });
});

const put = (pool: string, body: object, more: CallInput = {}, by = operator) =>
  callControl(by, CALLS.putPool, { params: { pool }, body, ...more });
const codeOf = (result: Promise<unknown>) =>
  result.then(
    () => 'done',
    (error: ControlError) => error.code,
  );

async function tenantKey(tenant: string): Promise<ControlAddress> {
  const body = { quota: QUOTA };
  await callControl(operator, CALLS.putTenant, { params: { tenant }, body });
  const made = await callControl(operator, CALLS.makeKey, { body: { role: 'tenant', tenant } });
  return { url: control.url, key: made.key };
}

async function joinHost(host: string) {
  const { token } = await callControl(operator, CALLS.makeJoinToken, { body: { host } });
  const identity = await joinControl([control.agentUrl], token, host, join(folder, host));
  return { identity, link: controlLink([control.agentUrl], identity), token };
}

/** A call of an agent's as nobody's program makes it. */
function post(
  { certificate: cert, key, authority: ca }: Identity,
  path: string,
  body: object,
): Promise<{ readonly error?: { readonly code: string } }> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' };
    const options = { method: 'POST', cert, key, ca, headers };
    const sent = request(new URL(path, control.agentUrl), options, async (response) => {
      let text = '';
      for await (const part of response) text += part;
      resolve(JSON.parse(text));
    });
    sent.on('error', reject);
    sent.end(JSON.stringify(body));
  });
}

const observation = (host: string, part: Partial<HostObservation> = {}): HostObservation => ({
  host,
  bootId: 'boot',
  startedMs: 1,
  sequence: 1,
  appliedEpoch: 0,
  appliedSequence: 0,
  facts: pretendedFacts(host),
  replicas: [],
  checkpoint: null,
  ...part,
});

describe('the API', () => {
  it('answers nothing without a key that it knows', async () => {
    for (const key of ['', 'bk-operator-wrong']) {
      const result = codeOf(callControl({ url: control.url, key }, CALLS.status));
      expect(await result).toBe('unauthenticated');
    }
  });

  it('lets each role call what is its own', async () => {
    const tenant = await tenantKey('aurora');
    expect(await codeOf(callControl(tenant, CALLS.listHosts))).toBe('forbidden');
    expect(await codeOf(callControl(gateway, CALLS.listPools))).toBe('forbidden');
    expect(await codeOf(callControl(operator, GATEWAY_CALLS.report, { body: {} }))).toBe(
      'forbidden',
    );
    expect(await codeOf(callControl(gateway, GATEWAY_CALLS.routing))).toBe('done');
  });

  it.each([
    ['an unknown field', { ...SPEC, colour: 'red' }],
    ['a minimum above the maximum', { ...SPEC, replicas: { min: 3, max: 2 } }],
    ['a policy that is not there', { ...SPEC, policy: 'other' }],
    ['a tenant that is not there', { ...SPEC, tenant: 'nobody' }],
    ['no models', { ...SPEC, models: [] }],
  ])('refuses %s', async (_, spec) => {
    expect(await codeOf(put('story', spec))).toBe('bad-request');
    expect((await callControl(operator, CALLS.listPools)).rows).toEqual([]);
  });

  it('refuses two pools with one model', async () => {
    await put('story', SPEC);
    expect(await codeOf(put('other', SPEC))).toBe('conflict');
  });

  it('writes once what has one idempotency key', async () => {
    const first = await put('story', SPEC, { operation: 'make-it' });
    await put('story', { ...SPEC, replicas: { min: 2, max: 2 } });
    expect(await put('story', SPEC, { operation: 'make-it' })).toEqual(first);
    const now = await callControl(operator, CALLS.getPool, { params: { pool: 'story' } });
    expect(now.spec.replicas.min).toBe(2);
    const other = put('story', { ...SPEC, warm: 1 }, { operation: 'make-it' });
    expect(await codeOf(other)).toBe('conflict');
  });

  it('writes only over the version that was read', async () => {
    const { version } = await put('story', SPEC, { ifMatch: 0 });
    await put('story', { ...SPEC, warm: 1 }, { ifMatch: version });
    expect(await codeOf(put('story', SPEC, { ifMatch: version }))).toBe('conflict');
  });

  it('shows a tenant nothing of another', async () => {
    const aurora = await tenantKey('aurora');
    const boreal = await tenantKey('boreal');
    await put('secret-project', { ...SPEC, tenant: 'aurora' }, {}, aurora);
    const params = { pool: 'secret-project' };
    expect(await codeOf(callControl(boreal, CALLS.getPool, { params }))).toBe('not-found');
    expect(await codeOf(callControl(boreal, CALLS.deletePool, { params }))).toBe('not-found');
    expect((await callControl(boreal, CALLS.listPools)).rows).toEqual([]);
    const foreign = put('mine', { ...SPEC, models: ['m'], tenant: 'aurora' }, {}, boreal);
    await expect(foreign).rejects.toMatchObject({ code: 'forbidden' });
    const taken: ControlError = await put(
      'secret-project',
      { ...SPEC, tenant: 'boreal' },
      {},
      boreal,
    )
      .then(() => undefined)
      .catch((error) => error);
    expect(taken.message).not.toContain('aurora');
  });

  it('gives a tenant no more GPUs than its quota, however many ask at once', async () => {
    const aurora = await tenantKey('aurora');
    const { link } = await joinHost('host-a');
    await link.observe(observation('host-a'));
    const own = (index: number) => ({ ...SPEC, models: [`m${index}`], tenant: 'aurora' });
    await Promise.all([1, 2, 3, 4].map((index) => put(`p${index}`, own(index), {}, aurora)));
    const { rows } = await callControl(aurora, CALLS.listReplicas);
    expect(rows.length).toBeLessThanOrEqual(1);
    const big = put('big', { ...SPEC, models: ['big'], tenant: 'aurora', gpus: 2 }, {}, aurora);
    expect(await codeOf(big)).toBe('over-quota');
    link.close();
  });

  it('prices a pool, and names the nearest miss where it has no place', async () => {
    const without = { body: { pool: 'story', spec: SPEC } };
    const { trouble } = await callControl(operator, CALLS.plan, without);
    expect(trouble?.cause).toBe('there is no host: let one join');
    const { link } = await joinHost('host-a');
    await link.observe(observation('host-a'));
    const tall = { body: { pool: 'story', spec: { ...SPEC, platform: 'b300' } } };
    const missed = await callControl(operator, CALLS.plan, tall);
    expect(missed.trouble?.nearest).toEqual({
      host: 'host-a',
      cause: 'needs b300, the host is none',
      lift: 'let a host join that is b300, or ask for another',
    });
    const plan = await callControl(operator, CALLS.plan, without);
    expect(plan).toMatchObject({ placements: [{ host: 'host-a' }], trouble: null });
    const params = { plan: plan.plan };
    expect(await callControl(operator, CALLS.commitPlan, { params })).toMatchObject({
      pool: 'story',
    });
    link.close();
  });

  it('says in its OpenAPI document every call that it takes', async () => {
    const document = (await (await fetch(`${control.url}/openapi.json`)).json()) as {
      paths: Record<string, Record<string, unknown>>;
    };
    const calls: Call[] = [...Object.values(CALLS), ...Object.values(GATEWAY_CALLS)];
    for (const { method, path } of calls) expect(document.paths[path]).toHaveProperty(method);
    expect(Object.values(document.paths).flatMap((path) => Object.keys(path))).toHaveLength(
      calls.length,
    );
  });

  it('tells what changes from any sequence on, also after a restart', async () => {
    await put('story', SPEC);
    const collect = async (from: number): Promise<string[]> => {
      const stop = new AbortController();
      const kinds: string[] = [];
      for await (const event of watchControl(operator, CALLS.events, { from }, stop.signal)) {
        const { kind, id } = event as { kind: string; id: string };
        kinds.push(`${kind} ${id}`);
        if (id === 'story') break;
      }
      stop.abort();
      return kinds;
    };
    const before = await collect(0);
    expect(before.at(-1)).toBe('pool story');
    expect(JSON.stringify(before)).not.toContain('bk-');
    await control.close();
    await open();
    expect(await collect(0)).toEqual(before);
  });

  it('hands gateways the table, then what changes in it', async () => {
    const stop = new AbortController();
    const events = watchControl(gateway, GATEWAY_CALLS.routingEvents, {}, stop.signal);
    const next = async () => (await events.next()).value;
    expect((await next()) as RoutingTable).toMatchObject({ pools: [], replicas: [] });
    await put('story', SPEC);
    const change = (await next()) as RoutingChange;
    expect(change).toMatchObject({ kind: 'pool', put: { pool: 'story', state: 'waking' } });
    stop.abort();
    const again = new AbortController();
    const from = change.sequence - 1;
    const rest = watchControl(gateway, GATEWAY_CALLS.routingEvents, { from }, again.signal);
    expect((await rest.next()).value).toEqual(change);
    again.abort();
  });
});

describe('a control that another has replaced', () => {
  it('ends what follows it, refuses calls, and its metrics say that it does not lead', async () => {
    const stop = new AbortController();
    const events = watchControl(operator, CALLS.events, { from: 0 }, stop.signal);
    const routing = watchControl(gateway, GATEWAY_CALLS.routingEvents, {}, stop.signal);
    await Promise.all([events.next(), routing.next()]);
    const other = await SqlStore.open(openSqlite(join(folder, 'control.db')));
    expect(await other.acquire('other', SYSTEM_TIME.nowMs() + 60_000, 60_000)).not.toBeNull();
    await other.close();
    for (const stream of [events, routing]) {
      let isDone = false;
      while (!isDone) isDone = (await stream.next()).done === true;
    }
    expect(await codeOf(callControl(operator, CALLS.status))).toBe('not-leader');
    // Without a term no key is known: nothing is shown that names anybody.
    const text = await (await fetch(`${control.url}/metrics`)).text();
    expect(text).toContain('\nbridgekeeper:control_leads 0\n');
    expect(text).toContain('bridgekeeper:control_troubles_total{code="fenced"} 1');
    expect(text).not.toMatch(/pool="|state="/);
  });
});

describe('what Prometheus reads', () => {
  const scrape = async (key: string) => {
    const headers = { authorization: `Bearer ${key}` };
    const response = await fetch(`${control.url}/metrics`, { headers });
    return { status: response.status, text: await response.text() };
  };
  const readingOf = (text: string, name: string) => {
    const start = `bridgekeeper:control_${name} `;
    const line = text.split('\n').find((each) => each.startsWith(start));
    return line === undefined ? null : Number(line.slice(start.length));
  };

  it('says what the fleet is, to a key that may read nothing else', async () => {
    const { link } = await joinHost('host-a');
    await link.observe(observation('host-a'));
    await put('story', { ...SPEC, gpus: 4 });
    await put('large', { ...SPEC, models: ['large'], gpus: 16 });
    const { key } = await callControl(operator, CALLS.makeKey, { body: { role: 'metrics' } });
    const placed = async () => (await callControl(operator, CALLS.listReplicas)).rows.length === 1;
    while (!(await placed())) await SYSTEM_TIME.sleep(20);
    const troubled = async () =>
      (await callControl(operator, CALLS.listPools)).rows.some(({ trouble }) => trouble !== null);
    while (!(await troubled())) await SYSTEM_TIME.sleep(20);
    const { text } = await scrape(key);
    const found = (line: string) => readingOf(text, line);
    expect(found('leads')).toBe(1);
    expect(found('terms_total')).toBe(1);
    expect(found('hosts{state="ready"}')).toBe(1);
    expect(found('gpus{state="claimed"}')).toBe(4);
    expect(found('gpus{state="free"}')).toBe(4);
    expect(found('replicas{pool="story",phase="starting"}')).toBe(1);
    expect(found('replicas_wanted{pool="story"}')).toBe(1);
    expect(found('pool_trouble{pool="large"}')).toBe(1);
    expect(found('pool_trouble{pool="story"}')).toBe(0);
    expect(found('requests_total{call="PUT /v1/pools/{pool}",code="ok"}')).toBe(2);
    expect(found('commit_seconds_count')).toBeGreaterThan(3);
    expect(found('round_seconds_count')).toBeGreaterThan(0);
    const reader = { url: control.url, key };
    expect(await codeOf(callControl(reader, CALLS.listPools))).toBe('forbidden');
    expect((await scrape(operator.key)).status).toBe(200);
    const tenant = await tenantKey('aurora');
    expect((await scrape(tenant.key)).status).toBe(403);
    expect((await scrape(gateway.key)).status).toBe(403);
    expect((await scrape('none')).status).toBe(401);
    link.close();
  });
});

describe('a plan with a load', () => {
  const load = {
    model: 'm',
    gpu: 'g',
    requestsPerSecond: 1,
    promptTokens: 10,
    outputTokens: 10,
    slo: null,
  };
  const predicted = {
    ttftSeconds: { p50: 0.1, p99: 0.2 },
    tpotSeconds: { p50: 0.01, p99: 0.02 },
    tokensPerSecond: 100,
    law: 'off',
    coldStartSeconds: 30,
    bridgeSecondsPerToken: 0,
    sloMissed: null,
    overload: null,
    requests: 50,
  };
  const plan = (spec: object) =>
    callControl(operator, CALLS.plan, { body: { pool: 'story', spec, load } });

  it('is asked of the planner, for the slowest bridge where it would go', async () => {
    const asked: unknown[] = [];
    predict = async (question) => {
      asked.push(question);
      return predicted;
    };
    expect((await plan(SPEC)).predicted).toBeNull();
    for (const [index, tollNs] of [1e3, 9e3, 5e3].entries()) {
      const host = `host-${index}`;
      const { link } = await joinHost(host);
      const facts = { ...pretendedFacts(host), bridge: { profile: `of ${host}`, tollNs } };
      await link.observe(observation(host, { facts }));
      link.close();
    }
    const wide = { ...SPEC, gpus: 8, replicas: { min: 3, max: 3 } };
    expect((await plan(wide)).predicted).toEqual(predicted);
    expect(asked).toEqual([{ load, gpus: 8, bridge: { profile: 'of host-1', tollNs: 9e3 } }]);
  });

  it('is planned one at a time for one key, and what the planner refuses is said', async () => {
    const { link } = await joinHost('host-a');
    await link.observe(observation('host-a'));
    link.close();
    let refuse = (_: ControlError): void => undefined;
    predict = () =>
      new Promise((_, reject) => {
        refuse = reject;
      });
    const first = codeOf(plan(SPEC));
    await SYSTEM_TIME.sleep(50);
    expect(await codeOf(plan(SPEC))).toBe('busy');
    refuse(new ControlError('does-not-fit', 'the model needs two GPUs'));
    expect(await first).toBe('does-not-fit');
    predict = async () => predicted;
    expect(await codeOf(plan(SPEC))).toBe('done');
  });
});

describe('certificates', () => {
  const dayMs = 24 * 3600 * 1000;

  it('are renewed for the same key before they end, and not earlier', async () => {
    const { identity, link } = await joinHost('host-a');
    const place = join(folder, 'host-a');
    const nowMs = SYSTEM_TIME.nowMs();
    expect(await link.renew(place, nowMs + 200 * dayMs)).toBe(false);
    expect(await link.renew(place, nowMs + 300 * dayMs)).toBe(true);
    const renewed = readIdentity(place)!;
    expect(renewed).toMatchObject({ key: identity.key, authority: identity.authority });
    expect(renewed.certificate).not.toBe(identity.certificate);
    // Both hold until they end: an answer that was lost locks nobody out.
    await link.observe(observation('host-a'));
    await controlLink([control.agentUrl], identity).observe(observation('host-a', { sequence: 2 }));
    link.close();
  });

  it('are given for no other key and to nobody who was removed', async () => {
    const one = await joinHost('host-a');
    const two = await joinHost('host-b');
    // With its own certificate and another's key to be signed.
    const stranger = { ...one.identity, key: two.identity.key };
    const thief = controlLink([control.agentUrl], stranger);
    const due = SYSTEM_TIME.nowMs() + 300 * dayMs;
    expect(await codeOf(thief.renew(join(folder, 'host-a'), due))).not.toBe('done');
    await callControl(operator, CALLS.deleteHost, { params: { host: 'host-a' } });
    expect(await codeOf(one.link.renew(join(folder, 'host-a'), due))).toBe('unauthenticated');
    const { csr } = await makeRequest('host-a', one.identity.key);
    const swapped = await post(two.identity, '/agent/v1/certificate', { csr });
    expect(swapped.error?.code).toBe('forbidden');
  });
});

describe('agents', () => {
  it('join once with a token, and are refused without a certificate', async () => {
    const { identity, link, token } = await joinHost('host-a');
    await link.observe(observation('host-a'));
    const thief = joinControl([control.agentUrl], token, 'host-a', join(folder, 'thief'));
    expect(await codeOf(thief)).toBe('join-refused');
    const other = joinControl([control.agentUrl], token, 'host-b', join(folder, 'b'));
    expect(await codeOf(other)).toBe('join-refused');
    const bare = controlLink([control.agentUrl], { ...identity, certificate: '', key: '' });
    expect(await codeOf(bare.observe(observation('host-a')))).toBe('unauthenticated');
    expect(await codeOf(link.observe(observation('host-b')))).toBe('forbidden');
    link.close();
    bare.close();
  });

  it('are refused once their host was removed', async () => {
    const { link } = await joinHost('host-a');
    await callControl(operator, CALLS.deleteHost, { params: { host: 'host-a' } });
    expect(await codeOf(link.observe(observation('host-a')))).toBe('unauthenticated');
    link.close();
  });

  it('trust only the control that their token names', async () => {
    const { token } = await callControl(operator, CALLS.makeJoinToken, { body: { host: 'a' } });
    const wrong = token.replace(/[0-9a-f]{64}$/, '0'.repeat(64));
    const result = joinControl([control.agentUrl], wrong, 'a', join(folder, 'a'));
    expect(await codeOf(result)).toBe('join-refused');
  });

  it('are not believed where two have one GPU, or where they know what was not said', async () => {
    const one = await joinHost('host-a');
    const two = await joinHost('host-b');
    await one.link.observe(observation('host-a'));
    const { facts } = observation('host-a');
    await two.link.observe(observation('host-b', { facts }));
    const { rows } = await callControl(operator, CALLS.listHosts);
    expect(rows.map(({ quarantined }) => quarantined.length)).toEqual([8, 8]);
    const ahead = observation('host-a', { sequence: 2, appliedSequence: 99 });
    expect(await codeOf(one.link.observe(ahead))).toBe('host-lied');
    one.link.close();
    two.link.close();
  });

  it('turn to the next control where one does not answer or does not lead', async () => {
    const { identity, link: direct } = await joinHost('host-a');
    direct.close();
    const waiting = createTlsServer(
      { cert: identity.certificate, key: identity.key },
      (_, answer) =>
        answer.writeHead(503).end('{"error": {"code": "not-leader", "message": "another"}}'),
    );
    waiting.listen(0, '127.0.0.1');
    await once(waiting, 'listening');
    const { port } = waiting.address() as AddressInfo;
    const urls = [`https://127.0.0.1:1`, `https://127.0.0.1:${port}`, control.agentUrl];
    const link = controlLink(urls, identity);
    const codes = [];
    for (let turn = 0; turn < 4; turn++) {
      codes.push(await codeOf(link.observe(observation('host-a', { sequence: turn + 1 }))));
    }
    expect(codes.slice(2)).toEqual(['done', 'done']);
    expect(codes.slice(0, 2)).not.toContain('done');
    link.close();
    waiting.close();
    waiting.closeAllConnections();
  });

  it('change nothing by a message that is late', async () => {
    const { link } = await joinHost('host-a');
    await link.observe(observation('host-a', { sequence: 5 }));
    const late = observation('host-a', { sequence: 4, bootId: 'before' });
    expect(await codeOf(link.observe(late))).toBe('stale');
    const { rows } = await callControl(operator, CALLS.listHosts);
    expect(rows[0]).toMatchObject({ bootId: 'boot' });
    link.close();
  });
});
