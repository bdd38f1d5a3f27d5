import type { WantedTenancy } from '../tenancy/state.ts';
import type { SimulationOptions } from './simulate.ts';

/** Something that happened to operators of such fabrics, and that must not happen here. */
export interface Scenario {
  readonly name: string;
  /** Whose bug it was. */
  readonly source: string;
  readonly wanted: readonly WantedTenancy[];
  readonly happen?: NonNullable<SimulationOptions['happen']>;
}

/** How many rounds a scenario is run for, at least: what happens in it happens before. */
export const SCENARIO_ROUNDS = 220;

function partition(modules: readonly number[]): WantedTenancy {
  return {
    id: `tenancy-${modules.join('-')}`,
    tenant: 'aurora-bank',
    modules,
    order: 'stop-first',
    guest: { image: 'image', memoryBytes: 64 * 2 ** 30 },
  };
}

const PAIR = partition([1, 2]);
const OTHER_PAIR = partition([3, 4]);
const BOARD = partition([1, 2, 3, 4, 5, 6, 7, 8]);

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'modules are not in PCI order',
    source: 'kubeswift #405: GPUs by NUMA node, partition by count',
    wanted: [PAIR, OTHER_PAIR],
  },
  {
    name: 'a partition is found by its modules',
    source: 'kubeswift #406: Fabric Manager’s listing taken as an index',
    wanted: [OTHER_PAIR],
  },
  {
    name: 'the agent restarts while a guest has the GPUs',
    source: 'NVIDIA k8s-dra-driver #1331: the GPU vanishes, its partition is never released',
    wanted: [PAIR],
    happen: (_world, round) => (round % 40 === 39 ? 'agent-restarts' : undefined),
  },
  {
    name: 'nothing is desired any more',
    source: 'NVIDIA infra-controller #365: an empty list read as no change',
    wanted: [PAIR, OTHER_PAIR],
  },
  {
    name: 'Fabric Manager runs and reaches no GPU',
    source: 'NVIDIA gpu-operator #2781: ready because a process runs',
    wanted: [PAIR],
    happen(world, round) {
      world.isPathLost = round < 60;
      return undefined;
    },
  },
  {
    name: 'GPUs that are in no partition stay in progress',
    source: 'NVIDIA k8s-dra-driver #1276: taken for a fault, in a crash loop',
    wanted: [PAIR],
  },
  {
    name: 'Fabric Manager was stopped and started',
    source: 'nccl #1488: invalid argument until the GPUs are reset',
    wanted: [PAIR],
    happen(world, round) {
      if (round !== 1 && round !== 80) return undefined;
      world.fm.stop();
      world.startDaemon('plain');
      return undefined;
    },
  },
  {
    name: 'an Xid 145 on one pair',
    source: 'open-gpu-kernel-modules #1355: no pair of the board works until it restarts',
    wanted: [PAIR, OTHER_PAIR],
    happen(world, round) {
      if (round !== 100) return undefined;
      world.xid(145, 1);
      world.stopVm('tenancy-3-4/2');
      return undefined;
    },
  },
  {
    name: 'the switch manager is behind Fabric Manager',
    source: 'DGX GB300 known issue 5: a race when a partition comes back after a reset',
    wanted: [BOARD],
  },
  {
    name: 'a device is reported twice, or does not come up',
    source: 'trustee #1551 and nvtrust #128: one of two devices twice, four of eight',
    wanted: [BOARD],
    happen(world, round) {
      if (round === 1) world.plannedEvidence.push('reported-twice', 'some-missing');
      return undefined;
    },
  },
];
