import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VENDOR_ROOTS } from '@bridgekeeper/attest';
import { consoleListener } from '@bridgekeeper/console';
import { faultsInSchemes, hasBrowser, Viewer } from '@bridgekeeper/console/testing';
import {
  askReplica,
  type ControlAddress,
  callControl,
  controlLink,
  HostAgent,
  joinControl,
  memoryFile,
  openControl,
  SYSTEM_CHANCE,
  SYSTEM_TIME,
} from '@bridgekeeper/control';
import { OPERATOR_CALLS as CALLS } from '@bridgekeeper/control/api';
import { startGatewayWith } from '@bridgekeeper/gateway/testing';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { until } from '@bridgekeeper/server/testing';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FabricTestHost } from './testing/fabric-host.ts';
import { ServerVmm } from './testing/server-vmm.ts';

const isThere = hasBrowser('the console of a fleet and of a log');

/** Both lots of pages are looked at by one browser. */
let viewer: Viewer;
beforeAll(async () => {
  if (isThere) viewer = await Viewer.open();
}, 90_000);
afterAll(() => viewer?.close());

/** A page in both schemes: what axe finds, and a picture. */
async function look(key: string, address: string, name: string, ready: string) {
  const context = await viewer.looker();
  const page = await context.newPage();
  await page.addInitScript(`sessionStorage.setItem('bridgekeeper.key', ${JSON.stringify(key)})`);
  await page.goto(address);
  await page.waitForSelector(ready);
  expect(await faultsInSchemes(page, name)).toEqual([]);
  await context.close();
}

describe.runIf(isThere)('the console of a fleet', { timeout: 90_000 }, () => {
  let folder: string;
  let control: Awaited<ReturnType<typeof openControl>>;
  let operator: ControlAddress;
  let page: Page;
  const vmms = new Map<string, ServerVmm>();
  const closing: (() => unknown)[] = [];

  const start = async (port: number, agentPort: number) => {
    control = await openControl({
      folder,
      database: null,
      listen: { host: '127.0.0.1', port },
      agents: { host: '127.0.0.1', port: agentPort },
      names: ['127.0.0.1'],
      admission: {
        anchors: VENDOR_ROOTS,
        allowsOperatorAsserted: true,
        services: () => ({ references: null, revocation: null, tokenKeys: null, collateral: null }),
      },
      predict: null,
      page: (calls) => consoleListener('control', calls),
      version: '0.0.0',
      time: SYSTEM_TIME,
      chance: SYSTEM_CHANCE,
      onTrouble: () => undefined,
      onCrash: () => undefined,
    });
    void control.ended.catch(() => undefined);
    await control.leads;
    operator = { url: control.url, key: keyIn('operator.key') };
  };
  const keyIn = (name: string) => readFileSync(join(folder, name), 'utf8').trim();

  /** A host of the demo: its agent, a board that is pretended, and guests that are real servers. */
  const joins = async (host: string, quarantined: { module: number; reason: string }[]) => {
    const { token } = await callControl(operator, CALLS.makeJoinToken, { body: { host } });
    const place = join(folder, host);
    const identity = await joinControl([control.agentUrl], token, host, place);
    const link = controlLink([control.agentUrl], identity);
    const vmm = new ServerVmm(host);
    vmm.quarantined = quarantined;
    vmms.set(host, vmm);
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
    const stop = new AbortController();
    const run = agent.run(stop.signal);
    closing.push(async () => {
      stop.abort();
      link.close();
      await run.catch(() => undefined);
      await vmm.close();
    });
  };

  const put = (
    call: 'putPool' | 'putHost' | 'putTenant' | 'putPolicy',
    name: string,
    body: object,
  ) => {
    const param = { putPool: 'pool', putHost: 'host', putTenant: 'tenant', putPolicy: 'name' }[
      call
    ];
    const input = { params: { [param]: name }, body } as unknown as { body: never };
    return callControl(operator, CALLS[call], input);
  };
  const keyOf = async (tenant: string) => {
    const body = { role: 'tenant', tenant } as const;
    return (await callControl(operator, CALLS.makeKey, { body })).key;
  };

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'bk-console-'));
    await start(0, 0);
    await put('putPolicy', 'trial', { policy: 'operator-asserted', maxAgeSeconds: 600 });
    const quota = {
      requestsPerMinute: 600,
      tokensPerMinute: null,
      inFlightMax: null,
      gpusMax: 2,
      weight: 1,
    };
    for (const tenant of ['aurora', 'borealis']) {
      await put('putTenant', tenant, { quota, pools: null });
    }
    await joins('host-a', []);
    await joins('host-b', [{ module: 3, reason: 'Xid 145 on a link' }]);
    const spec = { image: 'storyteller', policy: 'trial', replicas: { min: 1, max: 2 } };
    await put('putPool', 'stories', { ...spec, models: ['story'], gpus: 2 });
    await put('putPool', 'aurora-own', { ...spec, models: ['own'], gpus: 2, tenant: 'aurora' });
    // Together they are more than its quota lets it have.
    for (const model of ['first', 'second']) {
      const one = { ...spec, models: [model], gpus: 2, tenant: 'borealis' };
      await put('putPool', `borealis-${model}`, one);
    }
    await put('putPool', 'tall', { ...spec, models: ['tall'], gpus: 2, platform: 'b300' });
    page = await viewer.page();
  }, 90_000);

  afterAll(async () => {
    await Promise.all(closing.map((close) => close()));
    await page?.context().close();
    await control?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('asks for a key, then shows boards, quarantines and what is refused', async () => {
    await page.goto(`${control.url}/console`);
    await page.getByLabel('API key').fill(operator.key);
    await page.keyboard.press('Enter');
    await page.waitForSelector('.freshness.live');
    await page.waitForSelector('svg.board[aria-label*="host-b"][aria-label*="3 quarantined"]');
    await page.waitForSelector('td:has-text("Xid 145 on a link")');
    await page.waitForSelector(
      'tr:has-text("over-quota"):has-text("borealis has 2 of its 2 GPUs")',
    );
    await page.waitForSelector(
      'tr:has-text("does-not-fit"):has-text("let a host join that is b300")',
    );
    // Quarantines come first.
    expect(await page.locator('tbody th').first().textContent()).toBe('⬢ quarantined');
    await page.waitForSelector('tr:has-text("stories") .steps:has-text("serving")');
    await page.waitForSelector('tr:has-text("aurora-own") .steps:has-text("serving")');
    expect(await page.locator('svg .partition.held').count()).toBeGreaterThanOrEqual(3);
  });

  test('shows a drain as it happens, with its reason, until it has ended', async () => {
    const gateway = await startGatewayWith({
      kind: 'control',
      urls: [control.url],
      key: keyIn('gateway.key'),
      name: 'test',
      stateFile: join(folder, 'routes.json'),
    });
    closing.push(() => gateway.stop(0));
    const { rows } = await callControl(operator, CALLS.listReplicas);
    const { host, replica } = rows.find(({ pool }) => pool === 'stories')!;
    await until('the gateway routes to it', () =>
      [...gateway.fleet.replicas].some(
        ({ route }) => route.replica === replica && route.state === 'serving',
      ),
    );
    // A stream that is stepped by hand holds the replica while its host drains.
    const answering = fetch(`${gateway.url}/v1/completions`, {
      method: 'POST',
      headers: {
        Authorization: `Bearer ${await keyOf('aurora')}`,
        'Content-Type': 'application/json',
      },
      body: JSON.stringify({ model: 'story', prompt: 'a', max_tokens: 4, stream: true }),
    });
    const { stub } = vmms.get(host)!.servers.get(replica)!;
    await until('the stream is at the replica', () => stub.openIds.length > 0);
    stub.step();
    const reading = (await answering).text();
    await put('putHost', host, { state: 'draining' });
    await page.waitForSelector(`article:has-text("${host}"):has-text("◐ draining")`);
    await page.waitForSelector('td:has-text("an operator empties it")');
    // Its successor serves before it drains itself.
    await page.waitForSelector(`tr:has-text("${replica}") .steps:has-text("draining")`);
    const other = host === 'host-a' ? 'host-b' : 'host-a';
    await page.waitForSelector(`tr:has-text("stories"):has-text("${other}"):has-text("serving")`);
    await page.locator(`article a:has-text("${host}")`).click();
    await page.waitForURL(new RegExp(`host=${host}`));
    expect(await page.locator('article.host').count()).toBe(1);
    await until('the stream has ended', () => {
      stub.step();
      return stub.openIds.length === 0;
    });
    expect(await reading).toContain('"finish_reason":"length"');
    await page.waitForSelector(`tr:has-text("${replica}")`, { state: 'detached' });
  }, 240_000);

  test('shows a tenant its own, and nothing of others', async () => {
    const key = await keyOf('aurora');
    const own = await viewer.page();
    await own.addInitScript(`sessionStorage.setItem('bridgekeeper.key', '${key}')`);
    await own.goto(`${control.url}/console#/fleet`);
    await own.waitForSelector('th:has-text("aurora-own")');
    expect(await own.textContent('main')).not.toContain('borealis');
    expect(await own.locator('svg.board').count()).toBe(0);
    await own.context().close();
    for (const path of ['/v1/status', '/v1/hosts', '/v1/events', '/v1/tenants', '/v1/audit']) {
      const headers = { Authorization: `Bearer ${key}` };
      expect((await fetch(`${control.url}${path}`, { headers })).status).toBe(403);
    }
    // What the browser says of the first question, which was refused.
    viewer.complaints.splice(0);
  });

  test('nothing is out of reach, in light and dark', async () => {
    const at = `${control.url}/console`;
    await look(operator.key, `${at}#/fleet`, 'fleet', 'svg.board');
    await look(operator.key, `${at}#/log`, 'log-heads', 'td:has-text("no fabric log")');
  }, 120_000);

  test('asked nobody else, and says how old it is while control is away', async () => {
    expect(viewer.asked.filter((url) => !url.startsWith(control.url))).toEqual([]);
    // Before the key was given.
    expect(viewer.complaints.filter((text) => !/401 \(Unauthorized\)/.test(text))).toEqual([]);
    const [port, agentPort] = [control.url, control.agentUrl].map((url) =>
      Number(new URL(url).port),
    );
    await page.goto(`${control.url}/console#/fleet`);
    await page.waitForSelector('.freshness.live');
    await control.close();
    await page.waitForSelector('.freshness.old:has-text("what is shown is")');
    await start(port!, agentPort!);
    await page.waitForSelector('.freshness.live');
    // What the browser said while control was away.
    viewer.complaints.splice(0);
  });
});

describe.runIf(isThere && hasCompiler)('the console of a log', { timeout: 90_000 }, () => {
  let folder: string;
  let host: FabricTestHost;
  let agent: ChildProcess;
  let url = '';
  let vkey = '';

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'fc-'));
    host = new FabricTestHost(folder);
    const guest = { image: 'sha256:x', memoryBytes: 2 ** 30 };
    const chat = { id: 'chat', tenant: 'aurora', modules: [1, 2], order: 'stop-first', guest };
    const desired = { host: 'host-1', epoch: 1, sequence: 1, tenancies: [chat] };
    const path = join(folder, 'desired.json');
    writeFileSync(path, JSON.stringify(desired));
    agent = host.start('agent', '--desired', path, '--round', '0.03', '--log-port', '0');
    let output = '';
    agent.stdout!.on('data', (data) => {
      output += data;
    });
    while (!/http:\/\/\S+\n/.test(output)) await HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + 2e7);
    [vkey, url] = output.trim().split('\n').slice(0, 2) as [string, string];
    // A tenancy's life has more than ten entries until it is admitted.
    while (Number((await (await fetch(`${url}/checkpoint`)).text()).split('\n')[1]) < 12) {
      await HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + 5e7);
    }
  }, 90_000);

  afterAll(async () => {
    agent?.kill('SIGKILL');
    if (agent !== undefined && agent.exitCode === null && agent.signalCode === null) {
      await once(agent, 'exit');
    }
    host?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('shows checkpoint, signers and entries, hands out proofs, and verifies them', async () => {
    const page = await viewer.page();
    await page.goto(`${url}/console`);
    await page.waitForSelector('.freshness.live');
    await page.waitForSelector('td:has-text("▣ ")');
    await page.waitForSelector('td:has-text("fact: activate of modules 1, 2")');
    const saving = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Download the proof of entry 3', exact: true }).click();
    const proof = readFileSync((await (await saving).path())!, 'utf8');
    expect(proof).toMatch(/^c2sp\.org\/tlog-proof@v1\nindex 3\n/);
    await page.getByRole('button', { name: 'Verify entry 3 here', exact: true }).click();
    await page.waitForSelector('.problem:has-text("Give the key of the log")');
    await page.getByLabel('Keys of the log').fill(vkey);
    await page.getByRole('button', { name: 'Verify entry 3 here', exact: true }).click();
    await page.waitForSelector('p[role=status]:has-text("● Entry 3 is in the log of")');
    await page.setInputFiles('input.open', {
      name: 'entry-3.tlog-proof',
      mimeType: 'text/plain',
      buffer: Buffer.from(proof),
    });
    await page.waitForSelector('p:has-text("A proof of entry 3 from a file")');
    expect(viewer.complaints).toEqual([]);
  });

  test('nothing is out of reach, in light and dark', async () => {
    await look('', `${url}/console#/log`, 'log', 'td:has-text("fact: activate")');
  }, 120_000);
});
