import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VENDOR_ROOTS } from '@bridgekeeper/attest';
import { consoleListener } from '@bridgekeeper/console';
import { faultsOf, hasBrowser, picture, SCHEMES, Viewer } from '@bridgekeeper/console/testing';
import {
  type ControlAddress,
  callControl,
  controlLink,
  joinControl,
  openControl,
  pretendedFacts,
  SYSTEM_CHANCE,
  SYSTEM_TIME,
} from '@bridgekeeper/control';
import { OPERATOR_CALLS as CALLS } from '@bridgekeeper/control/api';
import { SystemClock } from '@bridgekeeper/device/clock';
import { hasCompiler } from '@bridgekeeper/native/testing';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FabricTestHost } from './testing/fabric-host.ts';

const clock = new SystemClock();
const isThere = hasBrowser('the console of a fleet and of a log');

/** Each page in both schemes: what axe finds, and a picture. */
async function look(viewer: Viewer, key: string, address: string, name: string, ready: string) {
  for (const scheme of SCHEMES) {
    const context = await viewer.looker(scheme);
    const page = await context.newPage();
    await page.addInitScript(`sessionStorage.setItem('bridgekeeper.key', ${JSON.stringify(key)})`);
    await page.goto(address);
    await page.waitForSelector(ready);
    expect([name, scheme, await faultsOf(page)]).toEqual([name, scheme, []]);
    await picture(page, `${name}-${scheme}`);
    await context.close();
  }
}

describe.runIf(isThere)('the console of a fleet', { timeout: 90_000 }, () => {
  let folder: string;
  let control: Awaited<ReturnType<typeof openControl>>;
  let operator: ControlAddress;
  let viewer: Viewer;
  let page: Page;
  const links: { close(): void }[] = [];

  const start = async (port: number) => {
    control = await openControl({
      folder,
      database: null,
      listen: { host: '127.0.0.1', port },
      agents: { host: '127.0.0.1', port: 0 },
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
      onCrash: (error) => {
        throw error;
      },
    });
    await control.leads;
    const key = readFileSync(join(folder, 'operator.key'), 'utf8').trim();
    operator = { url: control.url, key };
  };

  const joins = async (host: string, quarantined: { module: number; reason: string }[]) => {
    const { token } = await callControl(operator, CALLS.makeJoinToken, { body: { host } });
    const identity = await joinControl([control.agentUrl], token, host, join(folder, host));
    const link = controlLink([control.agentUrl], identity);
    links.push(link);
    await link.observe({
      host,
      bootId: 'boot',
      startedMs: 1,
      sequence: 1,
      appliedEpoch: 0,
      appliedSequence: 0,
      facts: { ...pretendedFacts(host), quarantined },
      replicas: [],
      checkpoint: null,
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

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'bk-console-'));
    await start(0);
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
    await put('putPool', 'stories', { ...spec, models: ['story'], gpus: 4 });
    await put('putPool', 'aurora-own', { ...spec, models: ['own'], gpus: 2, tenant: 'aurora' });
    // Together they are more than its quota lets it have.
    for (const model of ['first', 'second']) {
      const one = { ...spec, models: [model], gpus: 2, tenant: 'borealis' };
      await put('putPool', `borealis-${model}`, one);
    }
    viewer = await Viewer.open();
    page = await viewer.page();
  }, 90_000);

  afterAll(async () => {
    for (const link of links) link.close();
    await viewer?.close();
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
    // Quarantines come first.
    expect(await page.locator('tbody th').first().textContent()).toBe('⬢ quarantined');
    const held = await page.locator('svg .partition.held').count();
    expect(held).toBeGreaterThanOrEqual(3);
    await page.waitForSelector('tr:has-text("stories") .steps:has-text("starting")');
  });

  test('shows a drain as it happens, with its reason', async () => {
    const { rows } = await callControl(operator, CALLS.listReplicas);
    const { host } = rows.find(({ pool }) => pool === 'stories')!;
    await put('putHost', host, { state: 'draining' });
    await page.waitForSelector(`article:has-text("${host}"):has-text("◐ draining")`);
    await page.waitForSelector('td:has-text("an operator empties it")');
    await page.locator(`article a:has-text("${host}")`).click();
    await page.waitForURL(new RegExp(`host=${host}`));
    expect(await page.locator('article.host').count()).toBe(1);
  });

  test('shows a tenant its own, and nothing of others', async () => {
    const made = await callControl(operator, CALLS.makeKey, {
      body: { role: 'tenant', tenant: 'aurora' },
    });
    const own = await viewer.page();
    await own.addInitScript(`sessionStorage.setItem('bridgekeeper.key', '${made.key}')`);
    await own.goto(`${control.url}/console#/fleet`);
    await own.waitForSelector('th:has-text("aurora-own")');
    expect(await own.textContent('main')).not.toContain('borealis');
    expect(await own.locator('svg.board').count()).toBe(0);
    await own.context().close();
    for (const path of ['/v1/status', '/v1/hosts', '/v1/events', '/v1/tenants', '/v1/audit']) {
      const headers = { Authorization: `Bearer ${made.key}` };
      expect((await fetch(`${control.url}${path}`, { headers })).status).toBe(403);
    }
    // What the browser says of the first question, which was refused.
    viewer.complaints.splice(0);
  });

  test('nothing is out of reach, in light and dark', async () => {
    const at = `${control.url}/console`;
    await look(viewer, operator.key, `${at}#/fleet`, 'fleet', 'svg.board');
    await look(viewer, operator.key, `${at}#/log`, 'log-heads', 'td:has-text("no fabric log")');
  }, 120_000);

  test('asked nobody else, and says how old it is while control is away', async () => {
    expect(viewer.asked.filter((url) => !url.startsWith(control.url))).toEqual([]);
    // Before the key was given.
    expect(viewer.complaints.filter((text) => !/401 \(Unauthorized\)/.test(text))).toEqual([]);
    const port = Number(new URL(control.url).port);
    await page.goto(`${control.url}/console#/fleet`);
    await page.waitForSelector('.freshness.live');
    await control.close();
    await page.waitForSelector('.freshness.old:has-text("what is shown is")');
    await start(port);
    await page.waitForSelector('.freshness.live');
  });
});

describe.runIf(isThere && hasCompiler)('the console of a log', { timeout: 90_000 }, () => {
  let folder: string;
  let host: FabricTestHost;
  let agent: ChildProcess;
  let viewer: Viewer;
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
    while (!/http:\/\/\S+\n/.test(output)) await clock.sleepUntilNs(clock.nowNs() + 2e7);
    [vkey, url] = output.trim().split('\n').slice(0, 2) as [string, string];
    // A tenancy's life has more than ten entries until it is admitted.
    while (Number((await (await fetch(`${url}/checkpoint`)).text()).split('\n')[1]) < 12) {
      await clock.sleepUntilNs(clock.nowNs() + 5e7);
    }
    viewer = await Viewer.open();
  }, 90_000);

  afterAll(async () => {
    await viewer?.close();
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
    await look(viewer, '', `${url}/console#/log`, 'log', 'td:has-text("fact: activate")');
  }, 120_000);
});
