import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ControlError,
  FabricVmm,
  HostAgent,
  type HostFabric,
  type HostObservation,
  hostFabric,
  memoryFile,
  ProcessVmm,
  pretendedFacts,
  SYSTEM_TIME,
} from '@bridgekeeper/control';
import { readLogFolder } from '@bridgekeeper/fabric';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { askAgent } from './cli/fabric-socket.ts';
import { FabricTestHost } from './testing/fabric-host.ts';

// An agent of control on a host whose partitions the real fabric agent brings up, as a process,
// over the stub of Fabric Manager's library; guests are processes that say their settings.

const REPLICA = 'rep_01m8mdytegnhfv7zk29qcntz9e';
const WANTED = {
  replica: REPLICA,
  epoch: 7,
  tenant: 'aurora',
  partition: 0,
  modules: [1, 2],
  image: 'trial',
  models: ['story'],
  credential: 'secret',
  inFlightMax: 4,
  challenge: null,
  sealedKey: null,
};
const GUEST = `require('node:http').createServer().listen(0, '127.0.0.1', function () {
  const { BRIDGEKEEPER_TENANCY_EPOCH: epoch, BRIDGEKEEPER_FABRIC_LOG_INDEX: index } = process.env;
  console.log('told ' + epoch + ' ' + index + ' http://127.0.0.1:' + this.address().port);
})`;

const fabricOf = (state: string): HostFabric =>
  hostFabric(state, (method, path, body) => askAgent(state, method, path, body));

let folder: string;
let host: FabricTestHost;
let fabricAgent: ChildProcess;
let agent: HostAgent;
let seen: HostObservation | null;

const startFabric = () => {
  fabricAgent = host.start('agent', '--round', '0.03');
};

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cf-'));
  host = new FabricTestHost(folder);
  const program = join(folder, 'guest.cjs');
  writeFileSync(program, GUEST);
  const guests = new ProcessVmm({
    folder: join(folder, 'guests'),
    facts: pretendedFacts('host-1'),
    images: { trial: { program: process.execPath, arguments: [program] } },
    environment: {},
  });
  seen = null;
  agent = new HostAgent({
    host: 'host-1',
    bootId: 'boot-1',
    vmm: new FabricVmm(guests, fabricOf(host.state)),
    memory: memoryFile(join(folder, 'memory')),
    link: {
      desired: () => new Promise(() => undefined),
      observe: async (observation) => {
        seen = observation;
      },
    },
    askEvidence: async () => null,
    time: SYSTEM_TIME,
    onTrouble: () => undefined,
  });
  startFabric();
});

afterEach(async () => {
  fabricAgent.kill('SIGKILL');
  if (fabricAgent.exitCode === null && fabricAgent.signalCode === null) {
    await once(fabricAgent, 'exit');
  }
  host.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Rounds of the agent, whatever the fabric's agent is at, until something is so. */
async function roundsUntil(isSo: () => boolean): Promise<void> {
  while (!isSo()) {
    await agent.round().catch((error) => {
      if (!(error instanceof ControlError)) throw error;
    });
    await SYSTEM_TIME.sleep(20);
  }
}

const replica = () => seen?.replicas.find((each) => each.replica === REPLICA);
const desire = (sequence: number, replicas: (typeof WANTED)[]) =>
  agent.take({ host: 'host-1', epoch: 1, sequence, replicas });
const log = () => readLogFolder(join(host.state, 'log'));

describe.skipIf(!hasCompiler)('guests on a fabric', { timeout: 300_000 }, () => {
  test('get their partition first, are told where the log has it, and give it back', async () => {
    await roundsUntil(() => seen !== null && seen.facts.partitions.length > 0);
    expect(seen!.facts).toMatchObject({ fmVersion: '590.48.01', isFrozen: false });
    expect(seen!.facts.gpus[0]).toMatchObject({ module: 1, identity: '00000000000000a1' });
    desire(1, [WANTED]);
    // Its fabric's agent is killed on the way: what was begun goes on with the next one.
    await roundsUntil(() => replica()?.state === 'preparing');
    fabricAgent.kill('SIGKILL');
    await once(fabricAgent, 'exit');
    await expect(agent.round()).rejects.toMatchObject({ code: 'vmm-unavailable' });
    startFabric();
    await roundsUntil(() => replica()?.state === 'running');
    const { logIndex, tenancyEpoch } = replica()!;
    const entry = log().entries[logIndex!]!;
    expect(entry).toMatchObject({
      kind: 'fact',
      change: 'activate',
      tenancy: { epoch: tenancyEpoch, modules: [1, 2] },
    });
    const said = readFileSync(join(folder, 'guests', REPLICA, 'log'), 'utf8');
    expect(said).toContain(`told ${tenancyEpoch} ${logIndex} `);
    expect(seen!.checkpoint).toBe(readFileSync(join(host.state, 'log/checkpoint'), 'utf8'));
    expect(host.active).toEqual(['0']);

    desire(2, []);
    await roundsUntil(() => replica() === undefined);
    expect(host.active).toEqual([]);
    const changes = log().entries.flatMap((each) => (each.kind === 'fact' ? [each.change] : []));
    expect(changes.slice(changes.lastIndexOf('activate'))).toContain('deactivate');
  });

  test('are none that may serve once an operator took their partition', async () => {
    desire(1, [WANTED]);
    await roundsUntil(() => replica()?.state === 'running');
    const fabric = fabricOf(host.state);
    await fabric.deactivate(REPLICA);
    await roundsUntil(() => replica()?.state === 'failed');
    expect(replica()).toMatchObject({ address: null });
    desire(2, []);
    await roundsUntil(() => replica() === undefined);
  });
});
