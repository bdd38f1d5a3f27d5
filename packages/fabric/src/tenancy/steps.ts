import { FabricError } from '../errors.ts';
import type { FabricManager } from '../fm/manager.ts';
import { ALREADY_ACTIVE, ALREADY_INACTIVE } from '../fm/status.ts';
import type { Gateway, Guests, HostControl, VirtualMachines } from '../host/control.ts';
import type { Change } from '../log/entries.ts';
import { claim, evidenceFault, release } from './rules.ts';
import {
  badDevice,
  bdfsOf,
  DONE,
  earlierVms,
  type Finding,
  failed,
  gpusOf,
  notYet,
  othersOn,
  type Sight,
  underAnotherDaemon,
  vmSeen,
  wrong,
} from './sight.ts';
import { type AgentState, type Phase, type Tenancy, vmOf } from './state.ts';

/** What changes the world. */
export interface Hands {
  readonly fm: FabricManager;
  readonly control: HostControl;
  readonly vms: VirtualMachines;
  readonly guests: Guests;
  readonly gateway: Gateway;
  /** 64 hex digits that were never used. */
  nonce(): string;
}

export interface Scene {
  readonly state: AgentState;
  readonly sight: Sight;
  readonly hands: Hands;
  /** The act was begun before, by this agent or by one that ended: it may have happened. */
  readonly isRepeated: boolean;
}

/**
 * One arrow of a tenancy's life. Its intent is logged, it acts and looks, until the act came back
 * *and* the look says that it is done: what is read may be stale, and a reply may be lost, but not
 * both say that something happened which did not. So every act is one that may be repeated, and a
 * restart does no more than that; `restart` says why it does no harm.
 */
export interface Step {
  readonly change: Change;
  readonly restart: string;
  /** How long it may take until it is late. */
  limitSeconds(tenancy: Tenancy): number;
  /**
   * Returns the tenancy with what the act brought; null: it cannot act yet. Throws FabricError;
   * 'fm-unanswered' and the like: it may have happened, and is repeated.
   */
  act(tenancy: Tenancy, scene: Scene): Promise<Tenancy | null>;
  look(tenancy: Tenancy, state: AgentState, sight: Sight): Finding;
  /** What becomes of the state, in the write that says that it is begun; null: not now. */
  begin?(state: AgentState, tenancy: Tenancy): AgentState | null;
  /** What becomes of the state, in the write that says that it is done. */
  end?(state: AgentState, tenancy: Tenancy): AgentState;
}

/** The phase that each step leads to. */
export type Steps = Readonly<Record<Exclude<Phase, 'requested'>, Step>>;

const SECONDS = { short: 60, drain: 300 };

/** A guest accepts its memory page by page before it boots: 1.6 TB took over 20 minutes. */
const BOOT_SECONDS = 180;
const ACCEPT_BYTES_PER_SECOND = 2 ** 30;

const unchanged = async (tenancy: Tenancy) => tenancy;

export const STEPS: Steps = {
  claimed: {
    change: 'claim',
    restart: 'nothing was touched: the claim is one write of the state',
    limitSeconds: () => Number.POSITIVE_INFINITY,
    act: unchanged,
    look: () => DONE,
    begin: claim,
  },

  fenced: {
    change: 'fence',
    restart: 'looks again; stops only VMs of earlier lives of this very tenancy',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { state, sight, hands }) {
      for (const { id } of earlierVms(tenancy, sight)) await hands.vms.stop(id);
      if (gpusOf(tenancy, state, sight).some(({ holders }) => holders.length > 0)) return null;
      for (const bdf of bdfsOf(tenancy, state)) await hands.control.bind(bdf, 'nvidia');
      return tenancy;
    },
    look(tenancy, state, sight) {
      const bad = badDevice(tenancy, state, sight);
      if (bad !== null) return bad;
      const gpus = gpusOf(tenancy, state, sight);
      const reaching = gpus.find(({ resetReaches }) => resetReaches.length > 0);
      if (reaching !== undefined) {
        const reached = reaching.resetReaches.join(', ');
        return wrong('reset-reaches-further', `a reset of ${reaching.bdf} would reset ${reached}`);
      }
      const held = gpus.find(({ holders }) => holders.length > 0);
      if (held !== undefined) {
        return notYet(`${held.bdf} is open in process ${held.holders[0]}`, 'foreign-process');
      }
      const others = othersOn(tenancy, sight);
      if (others === null) return notYet('Fabric Manager does not answer');
      if (others.length > 0) {
        return notYet(`partition ${others[0]!.id} is active on its modules`, 'foreign-partition');
      }
      // In shared mode another version than the guest's driver breaks the fabric without an error.
      const { version } = state.daemon;
      const { driverVersion } = sight.host;
      if (version === null || version !== driverVersion) {
        return notYet(`Fabric Manager is ${version}, and the driver ${driverVersion}`);
      }
      // A daemon that runs says nothing: it may be on a wrong path and never reach the GPUs.
      const unready = gpus.find(
        ({ fabric }) =>
          fabric === null ||
          fabric.status !== 0 ||
          (fabric.state !== 'in-progress' && fabric.state !== 'completed'),
      );
      return unready === undefined ? DONE : notYet(`the fabric of ${unready.bdf} is not ready`);
    },
  },

  sanitized: {
    change: 'sanitize',
    restart: 'resets again: no guest has the GPUs yet',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { state, sight, hands }) {
      for (const bdf of bdfsOf(tenancy, state)) await hands.control.reset(bdf);
      return { ...tenancy, sanitizedUnder: sight.host.daemon.instance };
    },
    look: (tenancy, state, sight) => badDevice(tenancy, state, sight) ?? DONE,
  },

  activated: {
    change: 'activate',
    restart: 'activates again: Fabric Manager says that it is active already, and the list agrees',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { hands }) {
      await unless(ALREADY_ACTIVE, hands.fm.activate(tenancy.partition));
      return tenancy;
    },
    look(tenancy, state, sight) {
      const lost = underAnotherDaemon(tenancy, sight);
      if (lost !== null) return lost;
      const partition = sight.partitions?.find(({ id }) => id === tenancy.partition);
      if (partition?.isActive !== true) return notYet('the partition is not active');
      if (partition.modules.join() !== tenancy.modules.join()) {
        return failed('the partition has other modules than the tenancy');
      }
      if (partition.links.some(({ available, possible }) => available < possible)) {
        return notYet('links of the partition are missing');
      }
      // Activation right after a reset may say yes before the switch manager has done its part.
      const unready = gpusOf(tenancy, state, sight).find(
        ({ fabric }) =>
          fabric !== null &&
          (fabric.state !== 'completed' ||
            fabric.isPartitionAssigned === false ||
            fabric.unhealthy.length > 0),
      );
      return unready === undefined ? DONE : notYet(`the fabric of ${unready.bdf} is not complete`);
    },
  },

  bound: {
    change: 'bind',
    restart: 'binds again, which changes nothing if they are bound',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { state, hands }) {
      for (const bdf of bdfsOf(tenancy, state)) await hands.control.bind(bdf, 'vfio-pci');
      return tenancy;
    },
    look(tenancy, state, sight) {
      const other = gpusOf(tenancy, state, sight).find(({ driver }) => driver !== 'vfio-pci');
      return (
        badDevice(tenancy, state, sight) ??
        (other === undefined ? DONE : notYet(`${other.bdf} is not bound`))
      );
    },
  },

  booting: {
    change: 'boot',
    restart: 'adopts the VM with the id of this life; without one the life ends, and resets',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { state, sight, hands, isRepeated }) {
      if (vmSeen(tenancy, sight) !== undefined) return tenancy;
      // A second guest of this life might find what a first one left, which has come and gone.
      if (isRepeated) throw new FabricError('vm-lost', 'a VM was begun and is not there');
      await hands.vms.start(vmOf(tenancy), tenancy.guest!, bdfsOf(tenancy, state));
      return tenancy;
    },
    look(tenancy, state, sight) {
      const vm = vmSeen(tenancy, sight);
      if (vm === undefined) return notYet('the VM is not there');
      if (vm.state === 'stopped') return failed('the VM stopped while it booted');
      const isExact = vm.bdfs.toSorted().join() === bdfsOf(tenancy, state).toSorted().join();
      return isExact ? DONE : failed('the VM has other GPUs than its tenancy');
    },
  },

  attesting: {
    change: 'attest',
    restart: 'asks again, with a new nonce',
    limitSeconds: ({ guest }) => BOOT_SECONDS + guest!.memoryBytes / ACCEPT_BYTES_PER_SECOND,
    async act(tenancy, { sight, hands }) {
      if (vmSeen(tenancy, sight)?.state !== 'running') return null;
      const nonce = hands.nonce();
      const evidence = await hands.guests.attest(vmOf(tenancy), nonce);
      const stale = evidence.nonce === nonce ? [] : ['it answers another nonce'];
      return {
        ...tenancy,
        evidence: {
          digest: evidence.digest,
          identities: [...evidence.identities],
          refusals: [...evidence.refusals, ...stale],
          atNs: sight.nowNs,
        },
      };
    },
    look(tenancy, state, sight) {
      if (vmSeen(tenancy, sight)?.state !== 'running') return notYet('the guest is booting');
      const fault = evidenceFault(tenancy, state, sight.nowNs);
      return fault === null ? DONE : failed(fault);
    },
  },

  admitted: {
    change: 'admit',
    restart: 'admits again, with the evidence that is kept, unless it is too old by now',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { state, sight, hands }) {
      if (evidenceFault(tenancy, state, sight.nowNs) !== null) return tenancy;
      await hands.gateway.admit(vmOf(tenancy), tenancy.evidence!.digest);
      return tenancy;
    },
    look(tenancy, state, sight) {
      const fault = evidenceFault(tenancy, state, sight.nowNs);
      if (fault !== null) return failed(fault);
      return sight.gateway.some(({ vm }) => vm === vmOf(tenancy))
        ? DONE
        : notYet('the gateway does not have it');
    },
  },

  draining: {
    change: 'drain',
    restart: 'withdraws again',
    limitSeconds: () => SECONDS.drain,
    async act(tenancy, { hands }) {
      await hands.gateway.withdraw(vmOf(tenancy));
      return tenancy;
    },
    look(tenancy, _state, sight) {
      const streams = sight.gateway.find(({ vm }) => vm === vmOf(tenancy))?.streams ?? 0;
      return streams === 0 ? DONE : notYet(`${streams} streams are open`, 'go-on');
    },
  },

  stopping: {
    change: 'stop',
    restart: 'stops again what has the id of this life',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { hands }) {
      await hands.vms.stop(vmOf(tenancy));
      return tenancy;
    },
    look(tenancy, state, sight) {
      const vm = vmSeen(tenancy, sight);
      if (vm !== undefined && vm.state !== 'stopped') return notYet('the VM runs', 'not-undone');
      const held = gpusOf(tenancy, state, sight).find(({ holders }) => holders.length > 0);
      return held === undefined ? DONE : notYet(`${held.bdf} is still open`, 'foreign-process');
    },
  },

  unbound: {
    change: 'unbind',
    restart: 'binds to NVIDIA’s driver again, which changes nothing if it has them',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { state, hands }) {
      for (const bdf of bdfsOf(tenancy, state)) await hands.control.bind(bdf, 'nvidia');
      return tenancy;
    },
    look(tenancy, state, sight) {
      const other = gpusOf(tenancy, state, sight).find(({ driver }) => driver !== 'nvidia');
      return (
        badDevice(tenancy, state, sight) ??
        (other === undefined ? DONE : notYet(`${other.bdf} is not taken back`, 'not-undone'))
      );
    },
  },

  deactivated: {
    change: 'deactivate',
    restart: 'deactivates again: Fabric Manager says that it is inactive, and the list agrees',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { hands }) {
      await unless(ALREADY_INACTIVE, hands.fm.deactivate(tenancy.partition));
      return tenancy;
    },
    look(tenancy, _state, { partitions }) {
      if (partitions === null) return notYet('Fabric Manager does not answer', 'not-undone');
      const isActive = partitions.some((each) => each.id === tenancy.partition && each.isActive);
      return isActive ? notYet('the partition is active', 'not-undone') : DONE;
    },
  },

  released: {
    change: 'release',
    restart: 'resets again: the claim holds until the state says that they are free',
    limitSeconds: () => SECONDS.short,
    async act(tenancy, { state, sight, hands }) {
      if (isUnfenced(tenancy)) return tenancy;
      // Where there is no VM of ours, somebody else's guest may still run on them.
      if (gpusOf(tenancy, state, sight).some(({ holders }) => holders.length > 0)) return null;
      for (const bdf of bdfsOf(tenancy, state)) await hands.control.reset(bdf);
      return tenancy;
    },
    look(tenancy, state, sight) {
      if (isUnfenced(tenancy)) return DONE;
      const held = gpusOf(tenancy, state, sight).find(({ holders }) => holders.length > 0);
      return (
        badDevice(tenancy, state, sight) ??
        (held === undefined ? DONE : notYet(`${held.bdf} is open`, 'foreign-process'))
      );
    },
    end: release,
  },
};

const UP: readonly Phase[] = [
  'claimed',
  'fenced',
  'sanitized',
  'activated',
  'bound',
  'booting',
  'attesting',
  'admitted',
];

const DOWN: Readonly<Record<Tenancy['order'], readonly Phase[]>> = {
  'stop-first': ['draining', 'stopping', 'unbound', 'deactivated', 'released'],
  'deactivate-first': ['draining', 'deactivated', 'stopping', 'unbound', 'released'],
};

/** What a partition without a VM does without. */
const OF_A_VM: readonly Phase[] = [
  'bound',
  'booting',
  'attesting',
  'admitted',
  'draining',
  'stopping',
  'unbound',
];

const UNTOUCHED: readonly Phase[] = ['requested', 'claimed', 'fenced'];

/** The phase that a tenancy comes to next; null: it is where it shall be. */
export function nextPhase({ phase, leaving, order, guest }: Tenancy): keyof Steps | null {
  // It has no partition and no guest; at most its GPUs were reset.
  if (leaving !== null && UNTOUCHED.includes(phase)) return 'released';
  const path = (leaving === null ? UP : DOWN[order]).filter(
    (each) => guest !== null || !OF_A_VM.includes(each),
  );
  return (path[path.indexOf(phase) + 1] as keyof Steps | undefined) ?? null;
}

/** Before that a GPU may be somebody else's, and nothing was done to it. */
function isUnfenced({ phase }: Tenancy): boolean {
  return phase === 'requested' || phase === 'claimed';
}

async function unless(statuses: readonly number[], act: Promise<void>): Promise<void> {
  try {
    await act;
  } catch (error) {
    const isAlready =
      error instanceof FabricError &&
      error.code === 'fm-refused' &&
      statuses.includes(error.status!);
    if (!isAlready) throw error;
  }
}
