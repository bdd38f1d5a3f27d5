import type { Crossing, Direction, HostMemoryKind, Purpose } from './crossing.ts';
import { invariant } from './invariant.ts';
import type { Profile } from './profile.ts';
import { aloneNs } from './profile-law.ts';

/**
 * Which crossing goes next, on which lane: the bridge as a scheduled resource.
 *
 * - A step's results, commands and grammars go before KV that a request waits for, and that before
 *   bulk.
 * - Within a class, the tenant with the fewest bytes so far; within a tenant, first come, first
 *   carried.
 * - Bulk is cut into chunks, so that an urgent crossing waits for one chunk at most.
 * - After `streakMax` chunks of higher classes, a lower class that waits has one turn.
 *
 * Deterministic, without I/O or clock: the owner of the lanes feeds events and obeys the actions.
 */

/** Best first. */
const CLASS_OF: Readonly<Record<Purpose, number>> = {
  tokens: 0,
  pooled: 0,
  command: 0,
  grammar: 0,
  'kv-restore': 1,
  weights: 2,
  'kv-spill': 2,
  probe: 2,
};
const CLASSES = 3;

/** Whether such crossings are of the class that goes first. */
export function isUrgent(purpose: Purpose): boolean {
  return CLASS_OF[purpose] === 0;
}

export type SchedulerEvent =
  | { readonly kind: 'lane-opened'; readonly lane: string }
  /** A lane that `takeLane` gave is idle again. */
  | { readonly kind: 'lane-back'; readonly lane: string }
  /** The lane must be idle. */
  | { readonly kind: 'lane-closed'; readonly lane: string }
  /** `id` is unique among the crossings not yet finished; the crossing has at least one byte. */
  | { readonly kind: 'submitted'; readonly id: string; readonly crossing: Crossing }
  /** The lane made the chunk it was given. */
  | { readonly kind: 'carried'; readonly lane: string };

export type SchedulerAction =
  /** The lane copies this part of the crossing, now. */
  | {
      readonly kind: 'carry';
      readonly lane: string;
      readonly id: string;
      readonly offsetBytes: number;
      readonly bytes: number;
    }
  /** All bytes of the crossing have been carried. */
  | { readonly kind: 'finished'; readonly id: string };

export interface SchedulerOptions {
  /** The largest part of such a crossing that may be made in one piece. */
  chunkBytes(crossing: Crossing): number;
  /** Chunks of higher classes in a row while a lower class waits. */
  readonly streakMax: number;
}

interface Job {
  readonly id: string;
  readonly crossing: Crossing;
  readonly chunkBytes: number;
  startedBytes: number;
  carriedBytes: number;
}

/** One tenant's crossings of one class, in the order they came. */
interface TenantQueue {
  readonly jobs: Job[];
  /** Bytes started so far, counted from where the class stood when the tenant came. */
  servedBytes: number;
}

interface ClassState {
  /** Tenants that wait, and those that were served ahead of the others a moment ago. */
  readonly tenants: Map<string, TenantQueue>;
  /** Crossings with something left to start. */
  waiting: number;
  /** What the tenant served last had before: where a newcomer begins, so that it owes nothing. */
  floorBytes: number;
  /** Chunks started while a lower class waited, since a lower class last had its turn. */
  streak: number;
}

/** The scheduler's memory: made by `createScheduler`, changed by `step` alone. */
export interface SchedulerState {
  readonly options: SchedulerOptions;
  readonly classes: readonly ClassState[];
  readonly idleLanes: string[];
  readonly busyLanes: Map<string, { readonly job: Job; readonly bytes: number }>;
  readonly unfinishedIds: Set<string>;
}

export function createScheduler(options: SchedulerOptions): SchedulerState {
  invariant(options.streakMax >= 1, 'the highest class needs a streak of 1 at least');
  const classes = Array.from({ length: CLASSES }, () => {
    return { tenants: new Map<string, TenantQueue>(), waiting: 0, floorBytes: 0, streak: 0 };
  });
  return {
    options,
    classes,
    idleLanes: [],
    busyLanes: new Map(),
    unfinishedIds: new Set(),
  };
}

/** Takes one event in and says what follows from it. No lane idles while something waits. */
export function step(state: SchedulerState, event: SchedulerEvent): SchedulerAction[] {
  const actions: SchedulerAction[] = [];
  switch (event.kind) {
    case 'lane-opened':
      invariant(!hasLane(state, event.lane), `lane ${event.lane} is open already`);
      state.idleLanes.push(event.lane);
      break;
    case 'lane-back':
      state.idleLanes.push(event.lane);
      break;
    case 'lane-closed': {
      const index = state.idleLanes.indexOf(event.lane);
      invariant(index >= 0, `lane ${event.lane} was closed while busy or unknown`);
      state.idleLanes.splice(index, 1);
      break;
    }
    case 'submitted':
      submit(state, event.id, event.crossing);
      break;
    case 'carried':
      carried(state, event.lane, actions);
      break;
  }
  while (state.idleLanes.length > 0) {
    const level = nextClass(state);
    if (level === undefined) break;
    actions.push(start(state, level, state.idleLanes.shift()!));
  }
  return actions;
}

/**
 * What most crossings come to, without being kept account of: one that comes when nothing waits and
 * a lane is idle has the lane at once, if it is made in one piece; undefined: submit it. As if it
 * was submitted, until `lane-back`.
 */
export function takeLane(
  { idleLanes, options }: SchedulerState,
  crossing: Crossing,
): string | undefined {
  // No lane idles while something waits; and where nothing waits, no class leads another.
  return options.chunkBytes(crossing) < crossing.bytes ? undefined : idleLanes.shift();
}

function hasLane(state: SchedulerState, lane: string): boolean {
  return state.busyLanes.has(lane) || state.idleLanes.includes(lane);
}

function submit(state: SchedulerState, id: string, crossing: Crossing): void {
  invariant(!state.unfinishedIds.has(id), `crossing ${id} was submitted twice`);
  invariant(crossing.bytes > 0, `crossing ${id} has no bytes`);
  const chunkBytes = state.options.chunkBytes(crossing);
  invariant(chunkBytes > 0, `crossing ${id} would be cut into nothing`);
  state.unfinishedIds.add(id);
  const level = state.classes[CLASS_OF[crossing.purpose]]!;
  let queue = level.tenants.get(crossing.tenant);
  if (queue === undefined) {
    queue = { jobs: [], servedBytes: level.floorBytes };
    level.tenants.set(crossing.tenant, queue);
  }
  // Who was away is not owed the time it was away.
  if (queue.jobs.length === 0) queue.servedBytes = Math.max(queue.servedBytes, level.floorBytes);
  level.waiting += 1;
  queue.jobs.push({ id, crossing, chunkBytes, startedBytes: 0, carriedBytes: 0 });
}

function carried(state: SchedulerState, lane: string, actions: SchedulerAction[]): void {
  const load = state.busyLanes.get(lane);
  invariant(load !== undefined, `lane ${lane} carried what it was not given`);
  state.busyLanes.delete(lane);
  state.idleLanes.push(lane);
  load.job.carriedBytes += load.bytes;
  if (load.job.carriedBytes === load.job.crossing.bytes) {
    state.unfinishedIds.delete(load.job.id);
    actions.push({ kind: 'finished', id: load.job.id });
  }
}

/** The best class that waits, unless its streak is over and a lower class waits too. */
function nextClass({ classes, options }: SchedulerState): ClassState | undefined {
  let lower = 0;
  for (const level of classes) lower += level.waiting;
  for (const level of classes) {
    lower -= level.waiting;
    if (level.waiting > 0 && (lower === 0 || level.streak < options.streakMax)) {
      level.streak = lower === 0 ? 0 : level.streak + 1;
      return level;
    }
    level.streak = 0;
  }
  return undefined;
}

/** Puts the next chunk of the least served tenant on the lane. */
function start(state: SchedulerState, level: ClassState, lane: string): SchedulerAction {
  const queue = leastServed(level);
  const job = queue.jobs[0]!;
  const offsetBytes = job.startedBytes;
  const bytes = Math.min(job.chunkBytes, job.crossing.bytes - offsetBytes);
  level.floorBytes = queue.servedBytes;
  queue.servedBytes += bytes;
  job.startedBytes += bytes;
  if (job.startedBytes === job.crossing.bytes) {
    queue.jobs.shift();
    level.waiting -= 1;
    // Shares are among those that wait: when nothing does, no lead was at anyone's cost.
    if (level.waiting === 0) level.tenants.clear();
  }
  state.busyLanes.set(lane, { job, bytes });
  return { kind: 'carry', lane, id: job.id, offsetBytes, bytes };
}

function leastServed(level: ClassState): TenantQueue {
  let least: TenantQueue | undefined;
  for (const [tenant, queue] of level.tenants) {
    if (queue.jobs.length === 0) {
      // Nothing waits and the lead is spent: a newcomer of that name would begin no lower.
      if (queue.servedBytes <= level.floorBytes) level.tenants.delete(tenant);
    } else if (least === undefined || queue.servedBytes < least.servedBytes) {
      least = queue;
    }
  }
  invariant(least !== undefined, 'a class waits without a tenant that does');
  return least;
}

/** Chunks are never smaller: below this a crossing is all toll. */
export const CHUNK_BYTES_MIN = 64 * 1024;
const CHUNK_BYTES_MAX = 1024 ** 3;

/**
 * The largest chunk, in multiples of CHUNK_BYTES_MIN, that keeps a lane of this machine busy for
 * `budgetNs` at most. Throws RangeError when the smallest chunk takes longer than that.
 */
export function chunkBytesWithin(
  profile: Profile,
  direction: Direction,
  memory: HostMemoryKind,
  budgetNs: number,
): number {
  const cost = profile.crossings[direction][memory];
  const leastNs = aloneNs(cost, CHUNK_BYTES_MIN);
  if (leastNs > budgetNs) {
    throw new RangeError(
      `a ${direction} chunk of ${CHUNK_BYTES_MIN} bytes takes ${Math.ceil(leastNs)} ns ` +
        `on ${profile.name}, more than the ${budgetNs} ns allowed`,
    );
  }
  let fits = 1;
  let tooMany = CHUNK_BYTES_MAX / CHUNK_BYTES_MIN + 1;
  while (tooMany - fits > 1) {
    const units = Math.floor((fits + tooMany) / 2);
    if (aloneNs(cost, units * CHUNK_BYTES_MIN) <= budgetNs) fits = units;
    else tooMany = units;
  }
  return fits * CHUNK_BYTES_MIN;
}
