import type { Pool, Replica, ReplicaPhase } from '../api/fleet.ts';
import type { Change } from './context.ts';
import type { Placed } from './placement.ts';

const BACKOFF_MAX_SECONDS = 300;

/** How long a pool waits after so many failures in a row. */
export function backoffMs(failures: number): number {
  return Math.min(BACKOFF_MAX_SECONDS, 2 ** Math.min(failures, 10)) * 1000;
}

/** Says to a host that something is to be other than before; which command that is. */
export function command(change: Change, host: string): number {
  const before = change.fleet.get('host', host);
  if (before === undefined) return 0;
  const desiredSequence = before.desiredSequence + 1;
  change.fleet.patch('host', host, { desiredSequence });
  return desiredSequence;
}

/** A new replica: its row, its claims and its host's command in one draft, or none of them. */
export function startReplica(change: Change, pool: Pool, placed: Placed): Replica {
  const { fleet, nowMs, chance } = change;
  const replica = chance.id('rep', nowMs);
  const { host, partition, modules, coldStartSeconds } = placed;
  for (const module of modules) fleet.claim({ host, module, replica });
  const wantedSequence = command(change, host);
  fleet.put('replica', replica, {
    replica,
    pool: pool.pool,
    generation: pool.generation,
    tenant: pool.spec.tenant,
    host,
    partition,
    modules: [...modules],
    // Grows with every command to its host, so no two tenancies of one host have the same.
    epoch: wantedSequence,
    madeMs: nowMs,
    phase: 'starting',
    phaseSinceMs: nowMs,
    reason: null,
    deadlineMs: nowMs + pool.spec.startSeconds * 1000,
    credential: chance.secret(),
    address: null,
    challenge: null,
    evidence: null,
    sealedKey: null,
    logIndex: null,
    coldStartSeconds,
    wantedSequence,
    unwantedSequence: null,
  });
  return fleet.get('replica', replica)!;
}

export function toPhase(
  { fleet, nowMs }: Change,
  { replica }: Replica,
  phase: ReplicaPhase,
  part: Partial<Replica> = {},
): void {
  fleet.patch('replica', replica, { phase, phaseSinceMs: nowMs, ...part });
}

/** Asks a replica for evidence under a new nonce. */
export function challenge(change: Change, { replica, host }: Replica): void {
  const { fleet, nowMs, chance } = change;
  fleet.patch('replica', replica, { challenge: { nonce: chance.nonce(), atMs: nowMs } });
  command(change, host);
}

/** Lets streams end, then stops. */
export function drain(change: Change, replica: Replica, reason: string): void {
  if (replica.phase === 'draining' || replica.phase === 'stopping') return;
  if (replica.phase !== 'serving') {
    stop(change, replica, reason);
    return;
  }
  const seconds = change.fleet.get('pool', replica.pool)?.spec.drainSeconds ?? 0;
  const deadlineMs = change.nowMs + seconds * 1000;
  // A key that its host has not handed over yet is not handed over any more.
  if (replica.sealedKey !== null) command(change, replica.host);
  toPhase(change, replica, 'draining', { reason, deadlineMs, sealedKey: null });
}

/** Takes a replica down; its claims hold until its host says that nothing of it is left. */
export function stop(change: Change, replica: Replica, reason: string): void {
  if (replica.phase === 'stopping') return;
  const unwantedSequence = command(change, replica.host);
  const part = { reason, deadlineMs: null, challenge: null, sealedKey: null, unwantedSequence };
  toPhase(change, replica, 'stopping', part);
}

/**
 * It did not do what it should: it goes, and the next of its pool waits, longer each time. What
 * has ended already has no streams that could.
 */
export function fail(change: Change, replica: Replica, reason: string, hasEnded = false): void {
  const { fleet, nowMs } = change;
  if (replica.phase === 'stopping') return;
  if (replica.phase === 'draining') {
    if (hasEnded) stop(change, replica, reason);
    return;
  }
  fleet.audit.push({ ...BY_CONTROL, action: 'fail', subject: replica.replica, detail: reason });
  const pool = fleet.get('pool', replica.pool);
  if (pool !== undefined) {
    const failures = pool.failures + 1;
    fleet.patch('pool', pool.pool, { failures, notBeforeMs: nowMs + backoffMs(failures) });
  }
  if (hasEnded) stop(change, replica, reason);
  else drain(change, replica, reason);
}

/** Takes GPUs out of service until a person has looked at them. */
export function quarantine(
  { fleet, nowMs }: Change,
  host: string,
  modules: readonly number[],
  reason: string,
): void {
  const row = fleet.get('host', host);
  if (row === undefined) return;
  const held = new Set(row.quarantined.map(({ module }) => module));
  const added = modules.filter((module) => !held.has(module));
  if (added.length === 0) return;
  const entries = added.map((module) => ({ module, reason, atMs: nowMs }));
  fleet.patch('host', host, { quarantined: [...row.quarantined, ...entries] });
  const detail = `modules ${added.join(', ')}: ${reason}`;
  fleet.audit.push({ ...BY_CONTROL, action: 'quarantine', subject: host, detail });
}

/** Nothing of it is left. */
export function forget({ fleet }: Change, { replica, host, modules }: Replica): void {
  for (const module of modules) {
    if (fleet.claimOf(host, module) === replica) fleet.unclaim({ host, module });
  }
  for (const { evidence } of [...fleet.rows('evidence').inGroup(replica)]) {
    fleet.remove('evidence', evidence);
  }
  fleet.remove('replica', replica);
}

/** In the audit log: nobody told it to. */
export const BY_CONTROL = { actor: 'control' } as const;
