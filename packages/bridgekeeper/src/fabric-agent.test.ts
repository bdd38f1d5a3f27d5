import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemClock } from '@bridgekeeper/device/clock';
import { hasCompiler } from '@bridgekeeper/native/testing';
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
/** Of the stub: after which an agent goes on without a person. */
const FAULTS = isWhole
  ? ['timeout-before', 'timeout-after', 'lost-reply', 'no-effect', 'stale-list', 'not-ready']
  : ['lost-reply'];
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

const clock = new SystemClock();

/** Looks at the disk about as often as an agent takes a step. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await clock.sleepUntilNs(clock.nowNs() + 5e6);
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

  test('is told what to do by its socket, through faults of Fabric Manager', async () => {
    desire(1, []);
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

    // The same by the socket itself, where each act of Fabric Manager meets a fault.
    const isUp = () => stateNow().tenancies[0]?.phase === 'activated';
    const isGone = () => stateNow().tenancies.length === 0;
    const tenancy = { id: 'two', tenant: 'aurora', modules: [1, 2], order: 'deactivate-first' };
    for (const fault of FAULTS) {
      host.plant(fault);
      await ask('POST', '/v1/tenancies', tenancy);
      await until(() => isUp() && host.isMet);
      await until(isUp);
      expect([fault, host.active]).toEqual([fault, ['0']]);
      host.plant(fault === 'table-changed' ? 'stale-list' : fault);
      await ask('DELETE', '/v1/tenancies/two');
      await until(isGone);
      expect([fault, host.active]).toEqual([fault, []]);
    }
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
});
