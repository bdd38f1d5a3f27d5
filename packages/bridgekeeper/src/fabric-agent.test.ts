import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { askAgent } from './cli/fabric-socket.ts';
import { runCli } from './cli/program.ts';
import { FabricTestHost } from './testing/fabric-host.ts';
import { testIo } from './testing/test-io.ts';

const UP = ['claimed', 'fenced', 'sanitized', 'activated', 'bound', 'booting', 'attesting'];
const DOWN = ['draining', 'stopping', 'unbound', 'deactivated'];
/** All of them takes a minute: `FABRIC_KILLS=all`. */
const isWhole = process.env.FABRIC_KILLS === 'all';
const KILLED_UP = isWhole ? [...UP, 'admitted'] : ['sanitized', 'activated', 'booting'];
const KILLED_DOWN = isWhole ? DOWN : ['stopping', 'deactivated'];
/**
 * Of the stub, by what an agent does that meets one while it brings a partition up: it goes
 * on by itself, or the board waits for a person, who looks or restarts the host.
 */
type Ending = 'goes-on' | 'cleared' | 'rebooted';
const FAULTS: readonly (readonly [fault: string, ends: Ending])[] = [
  ['timeout-after', 'goes-on'],
  ['lost-reply', 'goes-on'],
  ['no-effect', 'goes-on'],
  ['stale-list', 'goes-on'],
  ['gpus-beyond', 'goes-on'],
  ['version-mismatch', 'goes-on'],
  ['restart-after', 'goes-on'],
  ['table-changed', 'cleared'],
  ['route-error', 'rebooted'],
];
const OTHER_FAULTS: typeof FAULTS = [
  ['timeout-before', 'goes-on'],
  ['not-ready', 'goes-on'],
  ['partitions-beyond', 'goes-on'],
  ['module-twice', 'goes-on'],
  ['restart-before', 'goes-on'],
  // These wait: for the daemon's end, which here takes 20 s, and for a call that has 10 or 60 s.
  ['restart-to-resume', 'goes-on'],
  ['hang', 'goes-on'],
];
const TIMEOUT_MS = 300_000;

let folder: string;
let host: FabricTestHost;
const running = new Set<ChildProcess>();

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fa-'));
  host = new FabricTestHost(folder);
});

afterEach(async () => {
  for (const process of running) {
    process.kill('SIGKILL');
    if (process.exitCode === null && process.signalCode === null) await once(process, 'exit');
  }
  running.clear();
  host.close();
  rmSync(folder, { recursive: true, force: true });
});

const desire = (sequence: number, tenancies: object[]) => {
  const document = { host: 'host-1', epoch: 1, sequence, tenancies };
  writeFileSync(join(folder, 'desired.json'), JSON.stringify(document));
};
const CHAT = {
  id: 'chat',
  tenant: 'aurora',
  modules: [1, 2],
  order: 'stop-first',
  guest: { image: 'sha256:x', memoryBytes: 2 ** 30 },
};

function startAgent(...more: string[]): ChildProcess {
  const words = ['agent', '--desired', join(folder, 'desired.json'), '--round', '0.03', ...more];
  const agent = host.start(...words);
  running.add(agent);
  agent.on('exit', () => running.delete(agent));
  return agent;
}

/** What the agent of this host knows, as it is on the disk; null: nothing yet. */
function stateNow() {
  try {
    return JSON.parse(readFileSync(join(host.state, 'state'), 'utf8').slice(65));
  } catch {
    return null;
  }
}
const phaseNow = (): string => stateNow()?.tenancies[0]?.phase ?? 'none';

/** Looks at the disk about as often as an agent takes a step. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) {
    if (running.size === 0) throw new Error(`no agent runs any more, at ${phaseNow()}`);
    await HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + 5e6);
  }
}

async function replay() {
  const vkey = readFileSync(join(host.state, 'log/vkey'), 'utf8').trim();
  const words = ['replay', join(host.state, 'log'), '--log-key', vkey, '--witness-min', '0'];
  const { io, out, err } = testIo({ readFile: (path) => readFileSync(path, 'utf8') });
  const code = await runCli(['fabric', ...words, '--json'], io);
  return { code, err, ...JSON.parse(out[0] ?? '{}') };
}

describe.skipIf(!hasCompiler)('an agent, as a process', { timeout: TIMEOUT_MS }, () => {
  /** Kills it once in each of the phases, as soon as the disk says that it is there. */
  async function kill(phases: readonly string[], goal: () => boolean): Promise<string[]> {
    const left = new Set(phases);
    const killed: string[] = [];
    while (left.size > 0) {
      const agent = startAgent();
      await until(() => left.has(phaseNow()) || goal());
      const phase = phaseNow();
      agent.kill('SIGKILL');
      await once(agent, 'exit');
      if (!left.has(phase)) break;
      left.delete(phase);
      killed.push(phase);
    }
    return killed;
  }

  test('that is killed on the way up and down is gone on with, and its log replays', async () => {
    desire(1, [CHAT]);
    const up = await kill(KILLED_UP, () => phaseNow() === 'admitted');
    let agent = startAgent();
    await until(() => phaseNow() === 'admitted');
    expect(host.active).toEqual(['0']);
    expect(host.hasVm).toBe(true);
    // One VM for each life: none was started twice.
    expect(new Set(host.started).size).toBe(host.started.length);
    agent.kill('SIGKILL');
    await once(agent, 'exit');

    desire(2, []);
    const isGone = () => stateNow()?.tenancies.length === 0;
    const down = await kill(KILLED_DOWN, isGone);
    agent = startAgent();
    await until(isGone);
    expect(host.active).toEqual([]);
    expect(host.hasVm).toBe(false);
    expect(stateNow().claims).toEqual({});
    agent.kill('SIGTERM');
    expect(await once(agent, 'exit')).toEqual([0, null]);

    expect([up, down]).toEqual([KILLED_UP, KILLED_DOWN]);
    const { code, findings, lives, entries } = await replay();
    expect({ code, findings }).toEqual({ code: 0, findings: [] });
    if (isWhole) {
      const result = { killedIn: [...up, ...down], lives: lives.length, entries, findings };
      process.stdout.write(`${JSON.stringify(result)}\n`);
    }
  });

  test('is told what to do by its socket', async () => {
    desire(1, []);
    host.hasProgram = false;
    const agent = startAgent();
    await until(() => stateNow()?.daemon.table != null);
    await until(() => existsSync(join(host.state, 'agent.sock')));
    const ask = (method: string, path: string, body?: unknown) =>
      askAgent(host.state, method, path, body);
    const status = await host.run('status', '--json');
    expect(JSON.parse(status.out)).toMatchObject({ host: 'host-1', tenancies: [], foreign: [] });
    const watching = host.start('watch', '--interval', '1');
    running.add(watching);
    let seen = '';
    watching.stdout.on('data', (text) => {
      seen += text;
    });
    await once(watching.stdout, 'data');

    const activated = await host.run('activate', 'pair', '--modules', '1,2', '--round', '0.05');
    expect(activated).toMatchObject({ code: 0, out: 'pair is activated\n' });
    expect(host.active).toEqual(['0']);
    await until(() => seen.includes('pair'));
    const deactivated = await host.run('deactivate', 'pair', '--round', '0.05');
    expect(deactivated).toMatchObject({ code: 0, out: 'pair is released\n' });
    const missing = await host.run('deactivate', 'pair');
    expect([missing.code, missing.err]).toEqual([2, expect.stringContaining('no tenancy pair')]);

    const tenancy = { id: 'two', tenant: 'aurora', modules: [1, 2], order: 'deactivate-first' };
    // dstack's VMM tells what shall be active, and waits until its command has ended.
    const info = [
      { partitionId: 9, gpuModuleIds: [2, 1] },
      { partitionId: 5, gpuModuleIds: [3] },
    ];
    writeFileSync(join(folder, 'd.json'), JSON.stringify({ version: 0, partitionInfo: info }));
    const dstack = async (ids: string) => {
      const environment = {
        DSTACK_NVSWITCH_PARTITION_FILE: join(folder, 'd.json'),
        DSTACK_NVSWITCH_ACTIVE_PARTITION_IDS: ids,
      };
      const readFile = (path: string) => readFileSync(path, 'utf8');
      const { io, out, err } = testIo({ environment, readFile });
      const code = await runCli(['fabric', 'dstack', '--state', host.state, '--json'], io);
      return { code, err: err.join(), ...JSON.parse(out[0] ?? '{}') };
    };
    expect(await dstack('9')).toMatchObject({ code: 0, active: ['dstack-9'], problems: [] });
    expect(host.active).toEqual(['0']);
    expect(await dstack('9')).toMatchObject({ code: 0, gone: [] });
    // Fabric Manager has no such partition, and is not restarted to have one.
    const none3 = [expect.stringContaining('no partition of modules 3')];
    expect(await dstack('9 5')).toMatchObject({ code: 1, problems: none3 });
    expect(host.active).toEqual(['0']);
    expect(await dstack('')).toMatchObject({ code: 0, gone: ['dstack-9'], active: [] });
    expect(host.active).toEqual([]);

    // A file that is being replaced is not there for a while: what was desired stays.
    let said = '';
    agent.stderr!.on('data', (text) => {
      said += text;
    });
    rmSync(join(folder, 'desired.json'));
    await until(() => said.includes('[bad-desired]'));
    desire(90, []);
    await expect(ask('DELETE', '/v1/tenancies/two')).rejects.toMatchObject({ code: 'bad-desired' });
    await expect(ask('POST', '/v1/tenancies', {})).rejects.toMatchObject({ code: 'bad-desired' });
    const none = { ...tenancy, modules: [1, 3] };
    await expect(ask('POST', '/v1/tenancies', none)).rejects.toMatchObject({
      code: 'does-not-fit',
    });
    const second = await host.run('agent');
    expect([second.code, second.err]).toEqual([1, expect.stringContaining('another agent')]);
    agent.kill('SIGTERM');
    expect(await once(agent, 'exit')).toEqual([0, null]);
    const { code, findings } = await replay();
    expect({ code, findings }).toEqual({ code: 0, findings: [] });
  });

  test('goes on, or waits for a person, after each fault of Fabric Manager', async () => {
    desire(1, []);
    host.hasProgram = false;
    const agent = startAgent();
    let said = '';
    agent.stderr!.on('data', (text) => {
      said += text;
    });
    await until(() => stateNow()?.daemon.table != null);
    await until(() => existsSync(join(host.state, 'agent.sock')));
    const ask = (method: string, path: string, body?: unknown) =>
      askAgent(host.state, method, path, body);
    const tenancy = { id: 'two', tenant: 'aurora', modules: [1, 2], order: 'deactivate-first' };
    const isUp = () => stateNow().tenancies[0]?.phase === 'activated';
    const isGone = () => stateNow().tenancies.length === 0;
    const results: object[] = [];
    for (const [fault, ends] of [...FAULTS, ...(isWhole ? OTHER_FAULTS : [])]) {
      const lives = stateNow().epoch;
      host.plant(fault);
      await ask('POST', '/v1/tenancies', tenancy);
      await until(() => host.isMet);
      if (ends !== 'goes-on') {
        const reason = ends === 'cleared' ? 'table-changed' : 'fabric-fault';
        await until(() => Object.keys(stateNow().quarantine).length > 0);
        expect([fault, stateNow().quarantine]).toEqual([fault, { 1: reason, 2: reason }]);
        const cleared = await host.run('agent', '--clear', '1,2');
        if (ends === 'cleared') {
          expect(cleared).toMatchObject({ code: 0, out: expect.stringContaining('taken them') });
        } else {
          expect([cleared.code, cleared.err]).toEqual([1, expect.stringContaining('restart the')]);
          host.reboot();
        }
        await until(() => Object.keys(stateNow().quarantine).length === 0);
      }
      await until(isUp);
      expect([fault, host.active]).toEqual([fault, ['0']]);
      results.push({ fault, ends, lives: stateNow().epoch - lives });
      await ask('DELETE', '/v1/tenancies/two');
      await until(isGone);
      expect([fault, host.active]).toEqual([fault, []]);
    }
    agent.kill('SIGTERM');
    // A call that does not return would keep it from ending.
    expect(await once(agent, 'exit')).toEqual(isWhole ? [null, 'SIGKILL'] : [0, null]);
    const { findings, entries } = await replay();
    // What a log says of modules that were taken out of service, and of nothing else.
    expect(new Set(findings.map(({ rule }: { rule: string }) => rule))).toEqual(new Set(['alarm']));
    if (isWhole) process.stdout.write(`${JSON.stringify({ results, entries, said })}\n`);
  });

  test('changes its table when told to, and brings back what has a partition in it', async () => {
    host.hasProgram = false;
    desire(1, [{ ...CHAT, guest: null }]);
    const agent = startAgent();
    await until(() => phaseNow() === 'activated');
    const before = stateNow().daemon.table.digest;
    const next = { version: 0, partitionInfo: [{ partitionId: 7, gpuModuleIds: [2, 1] }] };
    const path = join(folder, 'next.json');
    writeFileSync(path, JSON.stringify(next));
    const plan = (...more: string[]) => host.run('plan', '--table', path, '--json', ...more);
    const shown = JSON.parse((await plan()).out);
    expect(shown).toMatchObject({
      from: before,
      removed: [{ id: 1 }, { id: 2 }],
      drained: [{ tenancy: 'chat', modules: [1, 2], returns: true }],
      isRun: false,
    });
    const other = await plan('--run', before);
    expect([other.code, other.err]).toEqual([2, expect.stringContaining('the plan leads to')]);
    // Nothing was begun by either.
    expect([stateNow().daemon.maintenance, host.active]).toEqual([null, ['0']]);

    host.defineTable(['7 1,2']);
    const run = await plan('--run', shown.to);
    expect(JSON.parse(run.out)).toMatchObject({ to: shown.to, isRun: true });
    await until(() => stateNow().daemon.table.digest === shown.to && phaseNow() === 'activated');
    expect([host.active, stateNow().daemon.maintenance]).toEqual([['7'], null]);
    expect(stateNow().tenancies[0].epoch).toBe(2);
    // Fabric Manager has this one: there is nothing to do.
    expect(JSON.parse((await plan('--run', shown.to)).out).steps).toEqual([]);
    agent.kill('SIGTERM');
    expect(await once(agent, 'exit')).toEqual([0, null]);
    const { code, findings } = await replay();
    expect({ code, findings }).toEqual({ code: 0, findings: [] });
  });
});
