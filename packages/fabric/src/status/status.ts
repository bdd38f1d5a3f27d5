import { activeAmong } from '../fm/table.ts';
import type { ObservedGpu } from '../host/host.ts';
import { commitmentOf, type Grade } from '../log/entries.ts';
import { foreignModules } from '../tenancy/rules.ts';
import type { Sight } from '../tenancy/sight.ts';
import { type AgentState, isQuarantined, type Tenancy } from '../tenancy/state.ts';

/** Whose word it is. None of it is verified: that takes a guest's evidence and a replayed log. */
export type StatusVoucher = 'operator' | 'service-vm' | 'guest';

const VOUCHERS: Readonly<Record<Grade, StatusVoucher>> = {
  host: 'operator',
  'service-vm': 'service-vm',
  guest: 'guest',
};

export interface StatusDocument {
  readonly host: string;
  readonly voucher: StatusVoucher;
  readonly bootId: string;
  readonly fabricManager: {
    /** Null: it was not looked at. */
    readonly isRunning: boolean | null;
    readonly answers: boolean | null;
    readonly tableDigest: string | null;
    /** Restarted and not dealt with yet, or a table is to be changed: nothing new begins. */
    readonly isFrozen: boolean;
    readonly maintenance: string | null;
  };
  readonly partitions: readonly {
    readonly id: number;
    readonly modules: readonly number[];
    readonly isActive: boolean | null;
    readonly tenancy: string | null;
  }[];
  readonly tenancies: readonly {
    readonly id: string;
    readonly tenant: string;
    readonly epoch: number;
    readonly modules: readonly number[];
    readonly phase: Tenancy['phase'] | 'quarantined';
    readonly leaving: string | null;
    /** What the log calls it. */
    readonly commitment: string;
  }[];
  readonly gpus: readonly {
    readonly module: number;
    readonly bdf: string;
    readonly identity: string;
    readonly claimedBy: string | null;
    readonly quarantine: string | null;
    /** What NVML says of it now; null unless it was looked at while NVIDIA’s driver has it. */
    readonly fabric: ObservedGpu['fabric'];
    readonly encryption: ObservedGpu['encryption'];
  }[];
  /** Modules that are in an active partition without an intent of this agent. */
  readonly foreign: readonly number[];
}

/** What an agent's state and a look say of a host; without a look, what the state says. */
export function statusOf(state: AgentState, sight: Sight | null, grade: Grade): StatusDocument {
  const { daemon, tenancies, claims, quarantine, devices } = state;
  const partitions = sight?.partitions ?? null;
  const seen = new Map((sight?.host.gpus ?? []).map((gpu) => [gpu.bdf, gpu]));
  const active = new Set(activeAmong(partitions ?? []).map(({ id }) => id));
  const instance = sight?.host.daemon.instance ?? daemon.instance;
  return {
    host: state.host,
    voucher: VOUCHERS[grade],
    bootId: state.bootId,
    fabricManager: {
      isRunning: sight?.host.daemon.isRunning ?? null,
      answers: sight === null ? null : partitions !== null,
      tableDigest: daemon.table?.digest ?? null,
      isFrozen: instance !== daemon.instance || daemon.maintenance !== null,
      maintenance: daemon.maintenance,
    },
    partitions: (partitions ?? daemon.table?.partitions ?? []).map(({ id, modules }) => ({
      id,
      modules,
      isActive: partitions === null ? null : active.has(id),
      tenancy: tenancies.find(({ partition }) => partition === id)?.id ?? null,
    })),
    tenancies: tenancies.map(({ id, tenant, epoch, modules, phase, leaving, salt }) => ({
      id,
      tenant,
      epoch,
      modules,
      phase: isQuarantined(state, modules) ? 'quarantined' : phase,
      leaving,
      commitment: commitmentOf({ tenant, tenancy: id, salt }),
    })),
    gpus: Object.entries(devices).map(([module, { bdf, identity }]) => ({
      module: Number(module),
      bdf,
      identity,
      claimedBy: claims[module] ?? null,
      quarantine: quarantine[module] ?? null,
      fabric: seen.get(bdf)?.fabric ?? null,
      encryption: seen.get(bdf)?.encryption ?? null,
    })),
    foreign: sight === null ? [] : foreignModules(state, sight),
  };
}

export function statusLines(status: StatusDocument): string[] {
  const { fabricManager: daemon } = status;
  const answers = daemon.answers === true ? 'answers' : 'does not answer';
  const running = daemon.isRunning === null ? 'not looked at' : answers;
  const frozen = daemon.isFrozen ? '; the host is frozen' : '';
  return [
    `host        ${status.host}, boot ${status.bootId || 'not seen yet'}`,
    `said by     ${status.voucher}: nothing of this is verified`,
    `manager     ${running}, table ${daemon.tableDigest?.slice(0, 16) ?? 'not known'}${frozen}`,
    ...status.gpus.map(({ module, bdf, identity, claimedBy, quarantine }) => {
      const use = quarantine === null ? (claimedBy ?? 'free') : `quarantine: ${quarantine}`;
      return `module ${String(module).padEnd(4)} ${bdf}  ${identity}  ${use}`;
    }),
    ...status.gpus.flatMap(({ module, fabric, encryption }) =>
      fabric === null && encryption === null ? [] : [linksLine(module, fabric, encryption)],
    ),
    ...status.tenancies.map(({ id, epoch, modules, phase, leaving }) => {
      const why = leaving === null ? '' : `, going down: ${leaving}`;
      return `tenancy     ${id}/${epoch} on modules ${modules.join(', ')}: ${phase}${why}`;
    }),
    ...status.partitions
      .filter(({ isActive }) => isActive === true)
      .map(({ id, modules, tenancy }) => {
        const whose = tenancy ?? 'no tenancy of this agent';
        return `active      partition ${id}, modules ${modules.join(', ')}: ${whose}`;
      }),
    ...(status.foreign.length === 0
      ? []
      : [`alarm       modules ${status.foreign.join(', ')} are active without an intent`]),
  ];
}

const FABRIC_STATES = {
  unsupported: 'no fabric',
  'not-started': 'not registered',
  // The state of every GPU that is in no active partition: no fault.
  'in-progress': 'waits for a partition',
  completed: 'has joined the fabric',
} as const;

function linksLine(
  module: number,
  fabric: ObservedGpu['fabric'],
  encryption: ObservedGpu['encryption'],
): string {
  const facts: string[] = [];
  if (fabric !== null) {
    const { state, status, unhealthy, isPartitionAssigned } = fabric;
    facts.push(FABRIC_STATES[state]);
    if (state === 'completed' && status !== 0) facts.push(`its registration failed with ${status}`);
    if (isPartitionAssigned === true) facts.push('a partition is assigned');
    facts.push(...unhealthy);
  }
  if (encryption !== null) {
    const { isOn, takesKeys } = encryption;
    facts.push(isOn === null ? 'encryption not told' : `encryption ${isOn ? 'on' : 'off'}`);
    if (takesKeys) facts.push('a guest can key it');
  }
  return `links ${String(module).padEnd(5)} ${facts.join(', ')}`;
}

/** What became different, a line each, for those who watch. */
export function changesBetween(before: StatusDocument | null, now: StatusDocument): string[] {
  if (before === null) return statusLines(now);
  const known = new Set(statusLines(before));
  const gone = before.tenancies.filter(({ id }) => !now.tenancies.some((each) => each.id === id));
  return [
    ...statusLines(now).filter((line) => !known.has(line)),
    ...gone.map(({ id, epoch }) => `tenancy     ${id}/${epoch}: released`),
  ];
}
