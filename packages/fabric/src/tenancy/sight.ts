import type { Clock } from '@bridgekeeper/bridge';
import { FabricError } from '../errors.ts';
import type { FabricManager, Partition } from '../fm/manager.ts';
import { overlaps } from '../fm/table.ts';
import type { Gateway } from '../host/control.ts';
import type { HostObservation, HostProbe, ObservedGpu, ObservedVm } from '../host/host.ts';
import type { QuarantineReason } from '../log/entries.ts';
import { type AgentState, type Tenancy, vmOf } from './state.ts';

/** What can be seen at one moment. Steps are done when they are seen to be. */
export interface Sight {
  readonly nowNs: number;
  readonly host: HostObservation;
  /** Null: Fabric Manager did not answer, so nothing is known of partitions. */
  readonly partitions: readonly Partition[] | null;
  /** Why it did not answer; null: it did, or does not run. */
  readonly fmTrouble: FabricError | null;
  readonly gateway: readonly { readonly vm: string; readonly streams: number }[];
}

/** Looks once. Throws FabricError, but not because Fabric Manager gives no answer. */
export async function look(
  probe: HostProbe,
  fm: FabricManager,
  gateway: Gateway,
  clock: Clock,
): Promise<Sight> {
  const host = await probe.observe();
  const admitted = await gateway.list();
  let fmTrouble: FabricError | null = null;
  const asked = () =>
    answered(fm.partitions(), (error) => {
      fmTrouble = error;
    });
  const partitions = host.daemon.isRunning ? await asked() : null;
  return { nowNs: clock.nowNs(), host, partitions, fmTrouble, gateway: admitted };
}

/** What Fabric Manager says; null where it gives no answer, or one that cannot be read. */
export async function answered<T>(
  answer: Promise<T>,
  onTrouble: (error: FabricError) => void = () => undefined,
): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof FabricError && error.code.startsWith('fm-'))) throw error;
    onTrouble(error);
    return null;
  }
}

/** What a look at a step says. */
export type Finding =
  | { readonly is: 'done' }
  /** After the step's limit: it failed, or goes on all the same, or the modules are quarantined. */
  | {
      readonly is: 'not-yet';
      readonly why: string;
      readonly late: 'fail' | 'go-on' | QuarantineReason;
    }
  /** Cannot become right: the tenancy goes down. */
  | { readonly is: 'failed'; readonly why: string }
  /** Nobody can say what it is: the modules are quarantined, and no hand is laid on them. */
  | { readonly is: 'wrong'; readonly why: string; readonly reason: QuarantineReason };

export const DONE: Finding = { is: 'done' };

export function notYet(why: string, late: 'fail' | 'go-on' | QuarantineReason = 'fail'): Finding {
  return { is: 'not-yet', why, late };
}

export function failed(why: string): Finding {
  return { is: 'failed', why };
}

export function wrong(reason: QuarantineReason, why: string): Finding {
  return { is: 'wrong', reason, why };
}

/** What a device that is off or suspended reads as; its low bits look like settings. */
const SILENT = 0xffff_ffff;

export function isSilent(gpu: ObservedGpu): boolean {
  return gpu.configWord >>> 0 === SILENT;
}

/** The addresses of a tenancy's GPUs, by what was learnt: module order is not PCI order. */
export function bdfsOf(tenancy: Tenancy, state: AgentState): readonly string[] {
  return tenancy.modules.map((module) => state.devices[module]?.bdf ?? '');
}

/** The first GPU of a tenancy that cannot be worked with: absent, silent, or another one. */
export function badDevice(tenancy: Tenancy, state: AgentState, { host }: Sight): Finding | null {
  for (const module of tenancy.modules) {
    const known = state.devices[module];
    if (known === undefined) return failed(`module ${module} was never seen on this host`);
    const gpu = host.gpus.find(({ bdf }) => bdf === known.bdf);
    if (gpu === undefined || isSilent(gpu)) {
      return wrong('device-silent', `module ${module} (${known.bdf}) does not answer`);
    }
    if (gpu.identity !== null && gpu.identity !== known.identity) {
      return wrong('device-changed', `module ${module} is ${gpu.identity}, not ${known.identity}`);
    }
  }
  return null;
}

export function gpusOf(tenancy: Tenancy, state: AgentState, { host }: Sight): ObservedGpu[] {
  const bdfs = bdfsOf(tenancy, state);
  return host.gpus.filter(({ bdf }) => bdfs.includes(bdf));
}

export function vmSeen(tenancy: Tenancy, { host }: Sight): ObservedVm | undefined {
  return host.vms.find(({ id }) => id === vmOf(tenancy));
}

/** Of this id, in another life. */
export function earlierVms(tenancy: Tenancy, { host }: Sight): ObservedVm[] {
  return host.vms.filter(
    ({ id, state }) =>
      state !== 'stopped' && id.startsWith(`${tenancy.id}/`) && id !== vmOf(tenancy),
  );
}

/** Active partitions with a module of the tenancy that are not its own; null: not known. */
export function othersOn(tenancy: Tenancy, { partitions }: Sight): readonly Partition[] | null {
  if (partitions === null) return null;
  return partitions.filter(
    ({ id, isActive, modules }) =>
      isActive && id !== tenancy.partition && overlaps(modules, tenancy.modules),
  );
}

/**
 * Fabric Manager that starts plainly leaves stale routes in GPUs that were reset before. Null: it
 * is the one under which they were reset, or none runs, and then nothing can be said yet.
 */
export function underAnotherDaemon(tenancy: Tenancy, { host }: Sight): Finding | null {
  const { instance } = host.daemon;
  return instance === null || instance === tenancy.sanitizedUnder
    ? null
    : failed('Fabric Manager restarted after its GPUs were reset');
}
