import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ServedController, serveController } from '@bridgekeeper/fabric/testing';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runCli } from './cli/program.ts';
import { FabricTestHost } from './testing/fabric-host.ts';
import { testIo } from './testing/test-io.ts';

/** NVIDIA's description, whose licence lets nobody give it out: a copy of your own. */
const protoPath = process.env.BRIDGEKEEPER_NMX_PROTO ?? '';
const canRun = protoPath !== '' && hasCompiler;
if (protoPath === '') {
  const missing = 'there is no nmx_c.proto (BRIDGEKEEPER_NMX_PROTO names it)';
  process.stderr.write(`Not tested, as ${missing}: an agent of a rack.\n`);
}

const RACK = {
  places: [1, 2].map((module) => ({ module, chassis: 1, slot: 7, host: 1, gpu: module })),
  partitions: [
    { id: 101, modules: [1, 2] },
    { id: 102, modules: [1] },
  ],
};
const CHAT = {
  id: 'chat',
  tenant: 'aurora',
  modules: [1, 2],
  order: 'stop-first',
  guest: { image: 'sha256:x', memoryBytes: 2 ** 30 },
};

let folder: string;
let host: FabricTestHost;
let served: ServedController;
let agent: ChildProcess | null = null;
describe.skipIf(!canRun)('an agent of a rack, as a process', { timeout: 120_000 }, () => {
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'fn-'));
    host = new FabricTestHost(folder);
    served = await serveController(protoPath);
    writeFileSync(join(folder, 'rack.json'), JSON.stringify(RACK));
    const place = `nmx:127.0.0.1:${served.port}`;
    const files = ['--nmx-proto', protoPath, '--nmx-rack', join(folder, 'rack.json')];
    host.useManager(['--fm', place, ...files]);
  });

  afterEach(async () => {
    await end('SIGKILL');
    served.close();
    host.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const desire = (sequence: number, tenancies: object[]) => {
    const document = { host: 'host-1', epoch: 1, sequence, tenancies };
    writeFileSync(join(folder, 'desired.json'), JSON.stringify(document));
  };
  const begin = () => {
    agent = host.start('agent', '--desired', join(folder, 'desired.json'), '--round', '0.05');
  };
  const end = async (signal: 'SIGKILL' | 'SIGTERM') => {
    const ending = agent;
    agent = null;
    if (ending === null || ending.exitCode !== null || ending.signalCode !== null) return null;
    ending.kill(signal);
    return once(ending, 'exit');
  };
  const stateNow = () => {
    try {
      return JSON.parse(readFileSync(join(host.state, 'state'), 'utf8').slice(65));
    } catch {
      return null;
    }
  };
  const phaseNow = () => stateNow()?.tenancies[0]?.phase ?? 'none';
  const until = async (isSo: () => boolean) => {
    while (!isSo()) {
      if (agent?.exitCode != null) throw new Error(`the agent ended, at ${phaseNow()}`);
      await HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + 1e7);
    }
  };
  const partitions = () => [...served.controller.partitions.keys()];

  test('brings a guest up and down, is killed on the way, and its log replays', async () => {
    desire(1, [CHAT]);
    served.controller.fault = 'not-ready';
    begin();
    await until(() => phaseNow() === 'activated');
    await end('SIGKILL');
    expect(partitions()).toEqual([101]);
    begin();
    await until(() => phaseNow() === 'admitted');
    expect([partitions(), host.hasVm, stateNow().daemon.version]).toEqual([
      [101],
      true,
      '590.48.01',
    ]);

    desire(2, []);
    await until(() => phaseNow() === 'unbound' || stateNow().tenancies.length === 0);
    await end('SIGKILL');
    begin();
    await until(() => stateNow().tenancies.length === 0);
    expect([partitions(), host.hasVm, stateNow().claims]).toEqual([[], false, {}]);
    expect(await end('SIGTERM')).toEqual([0, null]);

    const vkey = readFileSync(join(host.state, 'log/vkey'), 'utf8').trim();
    const words = ['replay', join(host.state, 'log'), '--log-key', vkey, '--witness-min', '0'];
    const { io, out } = testIo({ readFile: (path) => readFileSync(path, 'utf8') });
    const code = await runCli(['fabric', ...words, '--json'], io);
    const { findings, entries, lives } = JSON.parse(out[0]!);
    expect({ code, findings, lives: lives.length }).toEqual({ code: 0, findings: [], lives: 1 });
    expect(entries).toBeGreaterThan(20);
  });

  test('goes on after replies that were lost, and finds what others made foreign', async () => {
    host.hasProgram = false;
    for (const fault of ['unanswered-before', 'lost-reply', 'refuse', 'miscount', 'version']) {
      desire(1, []);
      served.controller.fault = fault;
      const up = await host.run('activate', 'pair', '--modules', '1,2', '--round', '0.05');
      const isOver = () => served.controller.fault === null;
      expect([fault, isOver()]).toEqual([fault, true]);
      if (up.code !== 0) {
        expect([fault, up.err]).toEqual([fault, expect.stringContaining('NMX-C')]);
        const again = await host.run('activate', 'pair', '--modules', '1,2', '--round', '0.05');
        expect([fault, again]).toEqual([fault, expect.objectContaining({ code: 0 })]);
      }
      expect([fault, partitions()]).toEqual([fault, [101]]);
      const down = await host.run('deactivate', 'pair', '--round', '0.05');
      expect([fault, down.code, partitions()]).toEqual([fault, 0, []]);
    }
    const gpu = { loc: { chassis_id: 1, slot_id: 7, host_id: 1 }, gpu_id: 2 };
    served.controller.partitions.set(500, { gpus: [gpu], health: 'NMX_PARTITION_HEALTH_HEALTHY' });
    const status = await host.run('status', '--json');
    expect([status.code, JSON.parse(status.out).foreign]).toEqual([1, [2]]);
  });
});
