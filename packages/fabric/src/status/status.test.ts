import { expect, test } from 'vitest';
import type { ObservedGpu } from '../host/host.ts';
import type { Sight } from '../tenancy/sight.ts';
import { type AgentState, emptyState } from '../tenancy/state.ts';
import { statusLines, statusOf } from './status.ts';

const DEVICES = {
  1: { bdf: '0000:2a:00.0', identity: '00000000000000a1' },
  2: { bdf: '0000:1b:00.0', identity: '00000000000000a2' },
};
const STATE: AgentState = { ...emptyState('host-1'), bootId: 'boot-1', devices: DEVICES };
const GPU: ObservedGpu = {
  bdf: DEVICES[1].bdf,
  driver: 'nvidia',
  configWord: 0x2901_10de,
  moduleId: 1,
  identity: DEVICES[1].identity,
  fabric: { state: 'completed', status: 0, unhealthy: [], isPartitionAssigned: true },
  encryption: { isOn: true, takesKeys: true },
  holders: [],
  resetReaches: [],
};

const linesFor = (gpu: Partial<ObservedGpu>) => {
  const sight = {
    nowNs: 0,
    host: {
      bootId: 'boot-1',
      driverVersion: null,
      daemon: { isRunning: true, instance: null, hasState: false },
      gpus: [{ ...GPU, ...gpu }],
      vms: [],
      faults: [],
    },
    partitions: [],
    fmTrouble: null,
    gateway: [],
  } satisfies Sight;
  const lines = statusLines(statusOf(STATE, sight, 'host'));
  return lines.filter((line) => line.startsWith('links')).map((line) => line.slice(12));
};

test('says in words what NVML says of each GPU’s links', () => {
  const joined =
    'has joined the fabric, a partition is assigned, encryption on, a guest can key it';
  expect(linesFor({})).toEqual([joined]);
  const waiting = { state: 'in-progress', status: 0, isPartitionAssigned: null } as const;
  expect(
    linesFor({
      fabric: { ...waiting, unhealthy: ['its routes are unhealthy'] },
      encryption: { isOn: false, takesKeys: false },
    }),
  ).toEqual(['waits for a partition, its routes are unhealthy, encryption off']);
  const failed = { ...GPU.fabric!, status: 3, isPartitionAssigned: false };
  expect(linesFor({ fabric: failed, encryption: { isOn: null, takesKeys: false } })).toEqual([
    'has joined the fabric, its registration failed with 3, encryption not told',
  ]);
});

test('says nothing of links that cannot be seen', () => {
  expect(linesFor({ fabric: null, encryption: null })).toEqual([]);
  const [gpu] = statusOf(STATE, null, 'host').gpus;
  expect(gpu).toMatchObject({ module: 1, fabric: null, encryption: null });
});
