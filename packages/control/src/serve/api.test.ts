import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VENDOR_ROOTS } from '@bridgekeeper/attest';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { controlLink, joinControl } from '../agent/link.ts';
import type { HostObservation } from '../api/agent.ts';
import { OPERATOR_CALLS as CALLS } from '../api/operator-calls.ts';
import { type Call, GATEWAY_CALLS } from '../api/routes.ts';
import type { RoutingChange, RoutingTable } from '../api/routing.ts';
import { type CallInput, type ControlAddress, callControl, watchControl } from '../client.ts';
import type { ControlError } from '../errors.ts';
import { type OpenControl, openControl } from '../open.ts';
import { SYSTEM_CHANCE, SYSTEM_TIME } from '../system.ts';
import { pretendedFacts } from '../vmm/pretended.ts';

let folder: string;
let control: OpenControl;
let operator: ControlAddress;
let gateway: ControlAddress;

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
    predict: null,
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
  const identity = await joinControl(control.agentUrl, token, host, join(folder, host));
  return { identity, link: controlLink(control.agentUrl, identity), token };
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

describe('agents', () => {
  it('join once with a token, and are refused without a certificate', async () => {
    const { identity, link, token } = await joinHost('host-a');
    await link.observe(observation('host-a'));
    const thief = joinControl(control.agentUrl, token, 'host-a', join(folder, 'thief'));
    expect(await codeOf(thief)).toBe('join-refused');
    const other = joinControl(control.agentUrl, token, 'host-b', join(folder, 'b'));
    expect(await codeOf(other)).toBe('join-refused');
    const bare = controlLink(control.agentUrl, { ...identity, certificate: '', key: '' });
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
    const result = joinControl(control.agentUrl, wrong, 'a', join(folder, 'a'));
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
