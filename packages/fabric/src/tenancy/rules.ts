import { FabricError } from '../errors.ts';
import { activeAmong, overlaps } from '../fm/table.ts';
import type { HostObservation, ObservedFault } from '../host/host.ts';
import type { RestartMode } from '../log/entries.ts';
import { isSilent, type Sight, underAnotherDaemon, vmSeen } from './sight.ts';
import {
  type AgentState,
  type Desired,
  PHASES,
  type Phase,
  type Tenancy,
  vmOf,
  type WantedTenancy,
} from './state.ts';

/** Older evidence admits nobody; it is renewed at half that age. */
export const EVIDENCE_NS_MAX = 3600e9;

export function isFrom(phase: Phase, first: Phase): boolean {
  return PHASES.indexOf(phase) >= PHASES.indexOf(first);
}

/** The state in which its modules are the tenancy's; null: one of them is another's, so none is. */
export function claim(state: AgentState, tenancy: Tenancy): AgentState | null {
  const claims = { ...state.claims };
  for (const module of tenancy.modules) {
    if ((claims[module] ?? tenancy.id) !== tenancy.id) return null;
    claims[module] = tenancy.id;
  }
  return { ...state, claims };
}

/** The state in which its modules are free, and the tenancy is not. */
export function release(state: AgentState, { id }: Tenancy): AgentState {
  const claims = Object.entries(state.claims).filter(([, owner]) => owner !== id);
  return {
    ...state,
    claims: Object.fromEntries(claims),
    tenancies: state.tenancies.filter((tenancy) => tenancy.id !== id),
  };
}

/** Why a tenancy's evidence does not admit it, in words; null: it does. */
export function evidenceFault(
  { evidence, modules }: Tenancy,
  { devices }: AgentState,
  nowNs: number,
): string | null {
  if (evidence === null) return 'there is no evidence';
  if (evidence.refusals.length > 0) return `the policy refuses: ${evidence.refusals[0]}`;
  if (nowNs - evidence.atNs > EVIDENCE_NS_MAX) return 'the evidence is too old';
  // Lists may have the right length and name one device twice; sets may be equal and do so, too.
  const distinct = new Set(evidence.identities);
  if (distinct.size !== evidence.identities.length) return 'one device is reported twice';
  if (distinct.size !== modules.length) {
    return `${distinct.size} devices are attested, ${modules.length} were claimed`;
  }
  const stranger = modules.find((module) => !distinct.has(devices[module]?.identity ?? ''));
  return stranger === undefined ? null : `the device of module ${stranger} is not attested`;
}

/** What must go on holding for a tenancy that goes up or is up. */
export type Standing =
  | { readonly is: 'well' }
  /** It goes back to a phase, from which it takes the next step again. */
  | { readonly is: 'back'; readonly to: Phase }
  /** It goes down; if `isDoubtful`, once several looks in a row have said so. */
  | { readonly is: 'lost'; readonly why: string; readonly isDoubtful: boolean };

const lost = (why: string, isDoubtful = false): Standing => ({ is: 'lost', why, isDoubtful });

export function standing(tenancy: Tenancy, state: AgentState, sight: Sight): Standing {
  const { phase, evidence, partition } = tenancy;
  // Until its restart is dealt with, what was active may be active again.
  const isSettled = sight.host.daemon.instance === state.daemon.instance;
  if (isSettled && isFrom(phase, 'sanitized') && underAnotherDaemon(tenancy, sight) !== null) {
    return lost('Fabric Manager restarted');
  }
  if (isSettled && isFrom(phase, 'activated') && sight.partitions !== null) {
    const isActive = sight.partitions.some((each) => each.id === partition && each.isActive);
    // Lists may be stale.
    if (!isActive) return lost('its partition is not active any more', true);
  }
  if (isFrom(phase, 'booting')) {
    const vm = vmSeen(tenancy, sight);
    if (vm === undefined || vm.state === 'stopped') return lost('its VM ended');
  }
  if (phase === 'admitted' || phase === 'attesting') {
    if (sight.nowNs - evidence!.atNs > EVIDENCE_NS_MAX / 2) return { is: 'back', to: 'booting' };
    const isListed = sight.gateway.some(({ vm }) => vm === vmOf(tenancy));
    if (phase === 'admitted' && !isListed) return { is: 'back', to: 'attesting' };
  }
  return { is: 'well' };
}

/**
 * Whether a tenancy waits where it is because Fabric Manager does not serve, or restarted and what
 * that means is not known yet: until a guest has the partition, nothing goes up.
 */
export function isHeld({ phase }: Tenancy, { daemon }: AgentState, sight: Sight): boolean {
  const serves = sight.partitions !== null && sight.host.daemon.instance === daemon.instance;
  return !serves && !isFrom(phase, 'booting');
}

/**
 * Adds what is seen of devices to what is known. Nothing is forgotten: a GPU that a guest has
 * shows neither module nor identity. Returns the module whose device is another one, if any is.
 */
export function learn(
  known: AgentState['devices'],
  { gpus }: HostObservation,
): { readonly devices: AgentState['devices']; readonly changed: number | null } {
  const devices = { ...known };
  let changed: number | null = null;
  for (const gpu of gpus) {
    const { bdf, moduleId, identity } = gpu;
    if (moduleId === null || identity === null || isSilent(gpu)) continue;
    const before = devices[moduleId];
    // Addresses may change with a restart of the host; a device that changed its place may not.
    if (before !== undefined && before.identity !== identity) changed = moduleId;
    else devices[moduleId] = { bdf, identity };
  }
  return { devices, changed };
}

/** Every module: also one whose GPU has never been seen to answer. */
export function boardOf({ daemon, devices }: AgentState): number[] {
  const ofTable = daemon.table?.partitions.flatMap(({ modules }) => modules) ?? [];
  return [...new Set([...ofTable, ...Object.keys(devices).map(Number)])].toSorted((a, b) => a - b);
}

/** NVLink's on Blackwell. Of 145 it is known that no pair of the board works until it reboots. */
const BASEBOARD_XIDS = [144, 145, 146, 147, 148, 149, 150];
const NVLINK_XID = 74;
const OFF_THE_BUS_XID = 79;

/** The modules that a fault takes out of service: one GPU, its partition, or the baseboard. */
export function blastRadius(fault: ObservedFault, state: AgentState): readonly number[] {
  const { devices, tenancies } = state;
  const all = boardOf(state);
  const module = all.find((each) => devices[each]?.bdf === fault.bdf);
  if (fault.kind === 'sxid') return all;
  if (fault.kind === 'xid' && BASEBOARD_XIDS.includes(fault.number)) return all;
  if (module === undefined) return [];
  if (fault.kind === 'off-the-bus' || fault.number === OFF_THE_BUS_XID) return [module];
  if (fault.number !== NVLINK_XID) return [];
  return tenancies.find(({ modules }) => modules.includes(module))?.modules ?? [module];
}

/** One may end with its agent before it begins; one that fails twice will fail again. */
const RESUMES_MAX = 2;

/** How Fabric Manager is started: with what was active only if all of that is of this boot. */
export function restartMode(state: AgentState, { bootId, daemon }: HostObservation): RestartMode {
  const isTried = state.daemon.resumes >= RESUMES_MAX;
  const isOurs = state.bootId === bootId && state.daemon.instance !== null;
  return daemon.hasState && isOurs && !isTried && activeOf(state).length > 0 ? 'resume' : 'plain';
}

/** The partitions that tenancies of this state have active. */
export function activeOf({ tenancies }: AgentState): number[] {
  return tenancies
    .filter((tenancy) => mayBeActive(tenancy) && tenancy.phase !== 'sanitized')
    .map(({ partition }) => partition)
    .toSorted((a, b) => a - b);
}

/** Whether its partition may be active by our own doing. */
function mayBeActive({ phase, isIntended, leaving, order }: Tenancy): boolean {
  if (phase === 'sanitized') return isIntended || leaving !== null;
  if (!isFrom(phase, 'activated')) return false;
  if (order === 'stop-first') return !isFrom(phase, 'deactivated');
  return phase !== 'stopping' && phase !== 'unbound' && phase !== 'deactivated';
}

/** Modules of active partitions that no intent of ours explains. */
export function foreignModules(state: AgentState, { partitions }: Sight): number[] {
  const foreign = activeAmong(partitions ?? []).filter(
    ({ id, modules }) =>
      !state.tenancies.some(
        (tenancy) =>
          tenancy.partition === id && mayBeActive(tenancy) && overlaps(tenancy.modules, modules),
      ),
  );
  return [...new Set(foreign.flatMap(({ modules }) => modules))].toSorted((a, b) => a - b);
}

/**
 * Whether a command is later than the last one; false: it is the same. Throws FabricError
 * 'stale-epoch', or 'bad-desired' for another document of the same number.
 */
export function isNewer(desired: Desired, before: Desired): boolean {
  const ahead = desired.epoch - before.epoch || desired.sequence - before.sequence;
  const number = `epoch ${desired.epoch}, sequence ${desired.sequence}`;
  const known = `epoch ${before.epoch}, sequence ${before.sequence}`;
  if (ahead < 0) throw new FabricError('stale-epoch', `${number} is older than ${known}`);
  if (ahead === 0 && JSON.stringify(desired) !== JSON.stringify(before)) {
    throw new FabricError('bad-desired', `${number} was another document before`);
  }
  return ahead > 0;
}

/** On its way down, from wherever it is; the first reason stays. */
export function leave(tenancy: Tenancy, why: string): Tenancy {
  return tenancy.leaving === null ? { ...tenancy, leaving: why, isIntended: false } : tenancy;
}

/** The state in which a host is emptied for another partition table, by its digest. */
export function withMaintenance(state: AgentState, table: string): AgentState {
  return {
    ...state,
    daemon: { ...state.daemon, maintenance: table },
    tenancies: state.tenancies.map((tenancy) => leave(tenancy, 'the partition table is changed')),
  };
}

/** The tenancies that shall not be, or not be as they are. An empty list means all of them. */
export function unwanted({ tenancies }: AgentState, desired: Desired): string[] {
  return tenancies
    .filter((tenancy) => !desired.tenancies.some((wanted) => isSame(wanted, tenancy)))
    .map(({ id }) => id);
}

function isSame(one: WantedTenancy, other: WantedTenancy): boolean {
  return textOf(one) === textOf(other);
}

function textOf({ id, tenant, modules, order, guest }: WantedTenancy): string {
  return JSON.stringify([id, tenant, modules, order, guest?.image, guest?.memoryBytes]);
}
