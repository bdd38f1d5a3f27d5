import type { Host, Pool, PoolSpec, Replica } from '../api/fleet.ts';
import { type Change, REPORT_MS } from './context.ts';
import { type Miss, Offers } from './placement.ts';
import {
  BY_CONTROL,
  backoffMs,
  challenge,
  drain,
  fail,
  startReplica,
  stop,
  toPhase,
} from './replicas.ts';

/** A host that says nothing for so long gets nothing new. */
const LOST_MS = 30_000;
/** An answer to a challenge may take so long before it is asked anew. */
const ANSWER_MS = 60_000;

/**
 * Takes everything one step nearer to what it shall be. It may be run at any time and any number
 * of times: what is as it shall be it leaves as it is.
 */
export function reconcile(change: Change): void {
  findLost(change);
  const pools = new Map<string, Replica[]>();
  for (const replica of change.fleet.rows('replica').values()) {
    const list = pools.get(replica.pool);
    if (list === undefined) pools.set(replica.pool, [replica]);
    else list.push(replica);
  }
  for (const list of pools.values()) for (const replica of list) step(change, replica);
  const offers = new Offers(change.fleet, change.nowMs);
  const isSettled = change.nowMs - change.heard.sinceMs >= LOST_MS;
  for (const pool of [...change.fleet.rows('pool').values()].toSorted(byName)) {
    const ids = (pools.get(pool.pool) ?? []).map(({ replica }) => replica);
    const replicas = ids.flatMap((id) => change.fleet.get('replica', id) ?? []);
    settlePool(change, pool, replicas, offers, isSettled);
    pools.delete(pool.pool);
  }
  for (const list of pools.values()) {
    for (const { replica } of list) {
      const now = change.fleet.get('replica', replica);
      if (now !== undefined) drain(change, now, 'its pool is no more');
    }
  }
}

function byName(one: Pool, other: Pool): number {
  return one.pool < other.pool ? -1 : 1;
}

function findLost({ fleet, heard, nowMs }: Change): void {
  for (const { host, state, lostSinceMs } of [...fleet.rows('host').values()]) {
    if (state === 'joined' || lostSinceMs !== null) continue;
    const last = Math.max(heard.hosts.get(host) ?? 0, heard.sinceMs);
    if (nowMs - last < LOST_MS) continue;
    fleet.patch('host', host, { lostSinceMs: nowMs });
    const detail = `nothing heard for ${LOST_MS / 1000} s`;
    fleet.audit.push({ ...BY_CONTROL, action: 'lost', subject: host, detail });
  }
}

/** One replica on its own: deadlines, and evidence that gets old. */
function step(change: Change, written: Replica): void {
  const { nowMs } = change;
  const replica = onThisClock(change, written);
  const { phase, deadlineMs, evidence } = replica;
  if (phase === 'stopping') return;
  const isLate = deadlineMs !== null && nowMs >= deadlineMs;
  if (phase === 'draining') {
    if (isLate || isIdle(change, replica)) stop(change, replica, replica.reason ?? 'drained');
    return;
  }
  if (isLate) {
    fail(change, replica, `it took too long: it is still ${phase}`, true);
    return;
  }
  const maxAgeMs = maxAgeOf(change, replica);
  if (maxAgeMs === null) return;
  if (evidence !== null && nowMs >= evidence.notAfterMs) {
    fail(change, replica, 'its evidence is too old, and it showed none that is newer');
    return;
  }
  const open = replica.challenge;
  if (open !== null) {
    const askedMs = nowMs - open.atMs;
    // What was asked by a clock that was ahead would be believed for longer than it may be.
    if (askedMs < 0 || askedMs >= Math.min(ANSWER_MS, maxAgeMs / 4)) challenge(change, replica);
    return;
  }
  // Half of its time is left for an answer.
  const isDue = evidence !== null && nowMs >= evidence.notAfterMs - maxAgeMs / 2;
  if (isDue || (phase === 'attesting' && evidence === null)) challenge(change, replica);
}

/**
 * A replica whose times were written by a clock that is ahead of this one, a leader's before it or
 * this one's before it was set back: they are as far off as if they had been written now.
 */
function onThisClock(change: Change, replica: Replica): Replica {
  const { fleet, nowMs } = change;
  const { phaseSinceMs, deadlineMs, evidence } = replica;
  const aheadMs = phaseSinceMs - nowMs;
  let now = replica;
  if (aheadMs > 0) {
    const times = { phaseSinceMs: nowMs, deadlineMs: deadlineMs && deadlineMs - aheadMs };
    now = fleet.patch('replica', replica.replica, times);
  }
  const maxAgeMs = maxAgeOf(change, replica);
  if (evidence === null || maxAgeMs === null || evidence.notAfterMs <= nowMs + maxAgeMs) return now;
  // How old it is nobody knows: it is asked for anew at once, as when half of its time is over.
  const notAfterMs = nowMs + maxAgeMs / 2;
  return fleet.patch('replica', replica.replica, { evidence: { ...evidence, notAfterMs } });
}

function maxAgeOf({ fleet }: Change, { pool }: Replica): number | null {
  const spec = fleet.get('pool', pool)?.spec;
  const policy = spec && fleet.get('policy', spec.policy);
  return policy === undefined ? null : policy.spec.maxAgeSeconds * 1000;
}

/** Whether every gateway has said, since it drains, that nothing of it is in flight. */
function isIdle({ heard, nowMs }: Change, { replica, phaseSinceMs }: Replica): boolean {
  const reports = [...heard.gateways.values()].filter(({ atMs }) => nowMs - atMs < REPORT_MS);
  if (reports.length === 0) return false;
  return reports.every(({ report, atMs }) => {
    const mine = report.draining.find((each) => each.replica === replica);
    return atMs > phaseSinceMs && mine?.inFlight === 0;
  });
}

/** How many replicas of a pool shall serve now. */
function targetOf({ heard, nowMs }: Change, pool: Pool): number {
  const { replicas, inFlightMax, targetLoad, idleSeconds } = pool.spec;
  let requests = 0;
  let lastMs = 0;
  for (const { report, atMs } of heard.gateways.values()) {
    if (nowMs - atMs >= REPORT_MS) continue;
    const load = report.pools.find((each) => each.pool === pool.pool);
    requests += (load?.inFlight ?? 0) + (load?.waiting ?? 0);
    lastMs = Math.max(lastMs, load?.lastRequestMs ?? 0);
  }
  const isUsed = requests > 0 || nowMs - lastMs < idleSeconds * 1000 || nowMs < pool.wakeUntilMs;
  const needed = Math.max(Math.ceil(requests / (inFlightMax * targetLoad)), isUsed ? 1 : 0);
  // What was needed a moment ago may be needed again: it stays until it was not for a while.
  const peak = heard.peaks.get(pool.pool);
  const isOver = peak === undefined || nowMs - peak.atMs >= idleSeconds * 1000;
  if (isOver || needed >= peak.replicas) {
    heard.peaks.set(pool.pool, { replicas: needed, atMs: nowMs });
  }
  const held = heard.peaks.get(pool.pool)!.replicas;
  return Math.min(replicas.max, Math.max(replicas.min, isUsed ? held : needed));
}

function settlePool(
  change: Change,
  pool: Pool,
  replicas: readonly Replica[],
  offers: Offers,
  isSettled: boolean,
): void {
  const { fleet } = change;
  const { spec, generation } = pool;
  if (pool.wakeUntilMs > 0 && change.nowMs >= pool.wakeUntilMs) {
    fleet.patch('pool', pool.pool, { wakeUntilMs: 0 });
  }
  const target = targetOf(change, pool);
  const up = replicas.filter(({ phase }) => phase !== 'draining' && phase !== 'stopping');
  const hostOf = ({ host }: Replica): Host | undefined => fleet.get('host', host);
  const isOld = (each: Replica) =>
    each.generation !== generation || hostOf(each)?.state === 'draining';
  const isAway = (each: Replica) => (hostOf(each)?.lostSinceMs ?? null) !== null;
  const good = up.filter((each) => !isOld(each) && !isAway(each));
  promote(change, pool, good, target);
  const now = (each: Replica) => fleet.get('replica', each.replica)!;
  const serving = good.filter((each) => now(each).phase === 'serving');
  const leaving = up.filter((each) => isOld(each) && !isAway(each));
  const old = leaving.toSorted(inTurn(leaving));
  const goal = target + spec.warm;
  // Hosts are emptied one after the other: of the first, as many as it has are replaced at once.
  const first = old.filter(({ host }) => host === old[0]?.host);
  const wanted = Math.min(goal - good.length, goal + first.length - good.length - old.length);
  if (wanted > 0) grow(change, pool, wanted, offers);
  else clearTrouble(change, pool);
  const spare = serving.length + old.filter(({ phase }) => phase === 'serving').length - target;
  for (const each of first.slice(0, Math.max(0, spare))) {
    const reason = each.generation === generation ? 'its host drains' : 'its pool has changed';
    drain(change, each, reason);
  }
  // What does not serve, and never will, makes way at once: it holds GPUs of those that shall.
  for (const each of first) if (!isServing(now(each))) drain(change, each, 'replaced');
  if (good.length > goal && isSettled) shrink(change, good.map(now), good.length - goal);
}

function isServing({ phase }: Replica): boolean {
  return phase === 'serving' || phase === 'draining';
}

/**
 * Hosts with one that does not serve come first: it makes way at once, and as long as it is there
 * nothing takes the place of those that serve elsewhere.
 */
function inTurn(old: readonly Replica[]): (one: Replica, other: Replica) => number {
  const idle = new Set(old.filter((each) => !isServing(each)).map(({ host }) => host));
  return (one, other) =>
    Number(idle.has(other.host)) - Number(idle.has(one.host)) || byHost(one, other);
}

function byHost(one: Replica, other: Replica): number {
  if (one.host !== other.host) return one.host < other.host ? -1 : 1;
  return one.replica < other.replica ? -1 : 1;
}

/** Warm replicas serve where they are needed and may. */
function promote(change: Change, { spec }: Pool, good: readonly Replica[], target: number): void {
  const serving = good.filter(({ phase }) => phase === 'serving').length;
  const ready = good.filter(
    ({ phase, evidence, sealedKey }) =>
      phase === 'warm' &&
      evidence !== null &&
      change.nowMs < evidence.notAfterMs &&
      (spec.keyRelease === 'none' || sealedKey !== null),
  );
  for (const each of ready.slice(0, Math.max(0, target - serving))) {
    const coldStartSeconds = (change.nowMs - each.madeMs) / 1000;
    toPhase(change, each, 'serving', { coldStartSeconds });
    change.fleet.patch('pool', each.pool, { failures: 0, notBeforeMs: 0 });
  }
}

function grow(change: Change, pool: Pool, count: number, offers: Offers): void {
  const { fleet, nowMs } = change;
  const waitMs = pool.notBeforeMs - nowMs;
  // None waits for longer than that: a clock that was ahead said so.
  if (waitMs > 0 && waitMs <= backoffMs(pool.failures)) return;
  for (let index = 0; index < count; index += 1) {
    const miss = overQuota(change, pool.spec) ?? place(change, pool, offers);
    if (miss === null) continue;
    if (JSON.stringify(pool.trouble) !== JSON.stringify(miss)) {
      fleet.patch('pool', pool.pool, { trouble: { ...miss } });
    }
    return;
  }
  clearTrouble(change, pool);
}

function place(change: Change, pool: Pool, offers: Offers): Miss | null {
  const placed = offers.place(pool.spec);
  if ('cause' in placed) return placed;
  startReplica(change, pool, placed);
  return null;
}

/** Why a tenant may not have another replica, with so many GPUs more than it has; null: it may. */
export function overQuota({ fleet }: Change, spec: PoolSpec, more = 0): Miss | null {
  if (spec.tenant === null) return null;
  const limit = fleet.get('tenant', spec.tenant)?.spec.quota.gpusMax ?? null;
  if (limit === null) return null;
  let held = more;
  for (const { tenant, modules } of fleet.rows('replica').values()) {
    if (tenant === spec.tenant) held += modules.length;
  }
  if (held + spec.gpus <= limit) return null;
  const cause = `${spec.tenant} has ${held} of its ${limit} GPUs and needs ${spec.gpus} more`;
  return { cause, nearest: null };
}

function clearTrouble({ fleet }: Change, { pool }: Pool): void {
  if (fleet.get('pool', pool)!.trouble !== null) fleet.patch('pool', pool, { trouble: null });
}

/** Those that serve least go first: on their way, then warm, then the newest. */
function shrink(change: Change, good: readonly Replica[], count: number): void {
  const rank = { starting: 0, attesting: 1, warm: 2, serving: 3, draining: 4, stopping: 5 };
  const order = good.toSorted(
    (one, other) => rank[one.phase] - rank[other.phase] || (one.replica < other.replica ? 1 : -1),
  );
  for (const each of order.slice(0, count)) drain(change, each, 'it is not needed');
}
