import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VENDOR_ROOTS } from '@bridgekeeper/attest';
import {
  askReplica,
  callControl,
  controlLink,
  HostAgent,
  joinControl,
  memoryFile,
  openControl,
  SYSTEM_CHANCE,
  SYSTEM_TIME,
} from '@bridgekeeper/control';
import { OPERATOR_CALLS } from '@bridgekeeper/control/api';
import { startGatewayWith } from '@bridgekeeper/gateway/testing';
import { until } from '@bridgekeeper/server/testing';
import OpenAI from 'openai';
import { afterEach, expect, test } from 'vitest';
import { ServerVmm } from './testing/server-vmm.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const OFFLINE = { references: null, revocation: null, tokenKeys: null, collateral: null };

/** Control in this process, at ports that stay, so that it can end and come again. */
async function startControl(folder: string, ports: { api: number; agents: number }) {
  const control = await openControl({
    folder,
    database: null,
    listen: { host: '127.0.0.1', port: ports.api },
    agents: { host: '127.0.0.1', port: ports.agents },
    names: ['127.0.0.1'],
    admission: { anchors: VENDOR_ROOTS, allowsOperatorAsserted: true, services: () => OFFLINE },
    predict: null,
    version: '0.0.0',
    time: SYSTEM_TIME,
    chance: SYSTEM_CHANCE,
    onTrouble: () => undefined,
    onCrash: () => undefined,
  });
  void control.ended.catch(() => undefined);
  return control;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ports.push((server.address() as AddressInfo).port);
  }
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
  return ports;
}

const NO_LIMITS = {
  requestsPerMinute: null,
  tokensPerMinute: null,
  inFlightMax: null,
  gpusMax: null,
  weight: 1,
};
const PROMPT = { model: 'storyteller', prompt: 'a', max_tokens: 6, stream: true } as const;

test('streams end while their host drains and control is away and comes back', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-fleet-'));
  closing.push(() => rm(folder, { recursive: true }));
  const [api, agents] = (await freePorts(2)) as [number, number];
  let control = await startControl(join(folder, 'control'), { api, agents });
  closing.push(() => control.close());
  await control.leads;
  const keyIn = async (name: string) =>
    (await readFile(join(folder, 'control', name), 'utf8')).trim();
  const reach = { url: control.url, key: await keyIn('operator.key') };
  const call = <N extends keyof typeof OPERATOR_CALLS>(
    name: N,
    input: Parameters<typeof callControl>[2] = {},
  ) => callControl(reach, OPERATOR_CALLS[name], input);

  const vmms = new Map<string, ServerVmm>();
  for (const host of ['left', 'right']) {
    const { token } = (await call('makeJoinToken', { body: { host } })) as { token: string };
    const place = join(folder, host);
    const identity = await joinControl([control.agentUrl], token, host, place);
    const link = controlLink([control.agentUrl], identity);
    const vmm = new ServerVmm(host);
    vmms.set(host, vmm);
    const stop = new AbortController();
    const agent = new HostAgent({
      host,
      bootId: 'boot',
      vmm,
      memory: memoryFile(place),
      link,
      askEvidence: askReplica,
      time: SYSTEM_TIME,
      onTrouble: () => undefined,
    });
    const run = agent.run(stop.signal);
    closing.push(async () => {
      stop.abort();
      link.close();
      await run.catch(() => undefined);
      await vmm.close();
    });
  }
  const policy = { policy: 'operator-asserted', maxAgeSeconds: 3600 };
  await call('putPolicy', { params: { name: 'nothing' }, body: policy });
  await call('putTenant', { params: { tenant: 'reader' }, body: { quota: NO_LIMITS } });
  const { key } = (await call('makeKey', { body: { role: 'tenant', tenant: 'reader' } })) as {
    key: string;
  };
  const pool = {
    models: ['storyteller'],
    image: 'storyteller',
    policy: 'nothing',
    // Room for one more, which is started before one drains.
    gpus: 4,
    replicas: { min: 2, max: 3 },
  };
  await call('putPool', { params: { pool: 'stories' }, body: pool });

  const gateway = await startGatewayWith({
    kind: 'control',
    urls: [control.url],
    key: await keyIn('gateway.key'),
    name: 'test',
    stateFile: join(folder, 'routes.json'),
  });
  closing.push(() => gateway.stop(0));
  const servers = () => [...vmms.values()].flatMap((vmm) => [...vmm.servers.values()]);
  const serving = () =>
    [...gateway.fleet.replicas].filter(({ route }) => route.state === 'serving');
  await until('two replicas are admitted and routed to', () => serving().length === 2);

  const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: key, maxRetries: 0 });
  const stepAll = () => {
    for (const { stub } of servers()) stub.step();
  };
  /** Begins a stream, and reads its first token. */
  const begin = async (prompt: string) => {
    const answer = client.completions.create({ ...PROMPT, prompt }).withResponse();
    const before = servers().reduce((sum, { stub }) => sum + stub.openIds.length, 0);
    await until('it is at a replica', () => {
      return servers().reduce((sum, { stub }) => sum + stub.openIds.length, 0) > before;
    });
    for (const { stub } of servers()) if (stub.openIds.length > 0) stub.step();
    const { data, response } = await answer;
    return { data, replica: response.headers.get('x-bridgekeeper-replica')! };
  };
  const first = await begin('one');
  const [name] = first.replica.split(';') as [string];
  const [at] = [...vmms].find(([, vmm]) => vmm.servers.has(name))!;
  expect(first.replica).toBe(`${name};epoch=${first.replica.split('epoch=')[1]}`);

  await call('putHost', { params: { host: at }, body: { state: 'draining' } });
  await until('the gateway knows that it drains', () =>
    [...gateway.fleet.replicas].some(
      ({ route }) => route.replica === name && route.state === 'draining',
    ),
  );
  const second = await begin('two');
  expect(second.replica.startsWith(name)).toBe(false);

  await control.close();
  await until('the gateway sees that control is away', async () => {
    const health = await (await fetch(`${gateway.url}/health`)).json();
    return (health as { table: { is_current: boolean } }).table.is_current === false;
  });
  const third = await begin('three');
  control = await startControl(join(folder, 'control'), { api, agents });
  await control.leads;

  for (const { data } of [first, second, third]) {
    let end: string | null = null;
    const reading = (async () => {
      for await (const { choices } of data) end = choices[0]?.finish_reason ?? end;
    })();
    await until('the stream has ended', () => {
      stepAll();
      return end !== null;
    });
    await reading;
    expect(end).toBe('length');
  }
  await until('the drained host has no replica left', () => vmms.get(at)!.servers.size === 0);
}, 120_000);
