import type { HostObservation, ObservedReplica } from '../api/agent.ts';
import type { Host, Replica } from '../api/fleet.ts';
import { ControlError } from '../errors.ts';
import { challengeNonce } from './admit.ts';
import type { Change } from './context.ts';
import { BY_CONTROL, challenge, command, fail, forget, quarantine, toPhase } from './replicas.ts';

/** Evidence that came and is to be checked; checking takes time and is done outside of a draft. */
export interface Shown {
  readonly replica: string;
  /** Of ours, without the tenant’s. */
  readonly nonce: string;
  readonly report: string;
}

/**
 * Takes what a host says. Of several messages the newest counts, whatever comes when. Throws
 * ControlError 'stale': a newer one was there; 'host-lied': it says what cannot be.
 */
export function observe(change: Change, seen: HostObservation): readonly Shown[] {
  const { fleet, heard, nowMs } = change;
  const host = fleet.get('host', seen.host);
  if (host === undefined) throw new ControlError('not-found', `no host is called ${seen.host}`);
  const last = heard.order.get(seen.host);
  const isOld =
    last !== undefined &&
    (seen.startedMs < last.startedMs ||
      (seen.startedMs === last.startedMs && seen.sequence <= last.sequence));
  if (isOld) throw new ControlError('stale', 'a newer observation of this host was there');
  if (seen.appliedSequence > host.desiredSequence) {
    const message = `${seen.host} says it has command ${seen.appliedSequence}, which there is not`;
    throw new ControlError('host-lied', message);
  }
  heard.order.set(seen.host, { startedMs: seen.startedMs, sequence: seen.sequence });
  heard.hosts.set(seen.host, nowMs);
  takeFacts(change, host, seen);
  const replicas = new Map(seen.replicas.map((each) => [each.replica, each]));
  const shown: Shown[] = [];
  for (const replica of [...fleet.rows('replica').inGroup(`host/${seen.host}`)]) {
    const observed = replicas.get(replica.replica);
    replicas.delete(replica.replica);
    if (observed === undefined) missing(change, replica, seen.appliedSequence);
    else shown.push(...take(change, replica, observed));
  }
  // What nobody wants here: the agent is told again, and takes it down.
  if (replicas.size > 0) command(change, seen.host);
  return shown;
}

function takeFacts(change: Change, host: Host, seen: HostObservation): void {
  const { fleet } = change;
  const state = host.state === 'joined' ? 'ready' : host.state;
  const { facts, bootId } = seen;
  const checkpoint = newerOf(change, host, seen.checkpoint);
  // What was shown before a boot says nothing of what runs after it.
  const unproven = bootId === host.bootId ? {} : { lastEvidence: null };
  const part = { state, facts, bootId, checkpoint, lostSinceMs: null };
  fleet.patch('host', host.host, { ...part, ...unproven });
  if (JSON.stringify(host.facts?.gpus) !== JSON.stringify(facts.gpus)) {
    findTwins(change, seen);
  }
  if (host.lostSinceMs === null) return;
  fleet.audit.push({ ...BY_CONTROL, action: 'found', subject: host.host, detail: '' });
}

/**
 * A log only grows: the head of one that was cut back, or that tells another story, is not taken,
 * and nothing new goes to that host.
 */
function newerOf(change: Change, { host, facts, checkpoint }: Host, seen: string | null) {
  if (seen === null || seen === checkpoint) return checkpoint;
  const [before, now] = [headOf(checkpoint), headOf(seen)];
  const isFork =
    now === null ||
    (before !== null &&
      (now.origin !== before.origin ||
        now.size < before.size ||
        (now.size === before.size && now.root !== before.root)));
  if (!isFork) return seen;
  const modules = (facts?.gpus ?? []).map(({ module }) => module);
  quarantine(change, host, modules, 'the log of its fabric was cut back or replaced');
  return checkpoint;
}

/** Origin, size and root of a checkpoint (C2SP tlog-checkpoint); its signatures are for readers. */
function headOf(checkpoint: string | null) {
  const [origin, size, root] = checkpoint?.split('\n') ?? [];
  if (origin === undefined || root === undefined || !/^\d{1,15}$/.test(size ?? '')) return null;
  return { origin, size: Number(size), root };
}

/** A GPU is in one place: if two hosts say that they have it, neither is believed. */
function findTwins(change: Change, { host, facts }: HostObservation): void {
  const { fleet } = change;
  const own = new Map<string, number>();
  for (const { identity, module } of facts.gpus) {
    if (identity === null) continue;
    const twin = own.get(identity);
    if (twin !== undefined) {
      quarantine(change, host, [module, twin], `its host says twice that it has GPU ${identity}`);
    }
    own.set(identity, module);
  }
  for (const other of [...fleet.rows('host').values()]) {
    if (other.host === host) continue;
    for (const { identity, module } of other.facts?.gpus ?? []) {
      const mine = identity === null ? undefined : own.get(identity);
      if (mine === undefined) continue;
      quarantine(change, host, [mine], `host ${other.host} says that it has GPU ${identity}, too`);
      quarantine(
        change,
        other.host,
        [module],
        `host ${host} says that it has GPU ${identity}, too`,
      );
    }
  }
}

/** It is not there: it was never begun, has gone as it should, or is lost. */
function missing(change: Change, replica: Replica, applied: number): void {
  const { unwantedSequence, wantedSequence } = replica;
  if (unwantedSequence !== null) {
    if (applied >= unwantedSequence) forget(change, replica);
    return;
  }
  if (applied >= wantedSequence) fail(change, replica, 'its host no longer has it', true);
}

function take(change: Change, replica: Replica, seen: ObservedReplica): readonly Shown[] {
  const { fleet } = change;
  if (replica.phase === 'stopping' || seen.epoch !== replica.epoch) return [];
  if (seen.state === 'failed') {
    fail(change, replica, `its host says: ${seen.progress}`, true);
    return [];
  }
  const { address, logIndex, tenancyEpoch } = seen;
  if (address !== null && address !== replica.address && replica.evidence !== null) {
    // Evidence is of what was asked at one address; another one is somebody else until it shows.
    fail(change, replica, 'it has another address than the one that was attested');
    return [];
  }
  const isOther = logIndex !== replica.logIndex || tenancyEpoch !== (replica.tenancyEpoch ?? null);
  if (isOther && replica.evidence !== null) {
    // Its GPUs were taken away and given back beneath it, or its host tells two stories.
    fail(change, replica, 'its fabric’s log names another tenancy than the one that was attested');
    return [];
  }
  const now = fleet.patch('replica', replica.replica, { address, logIndex, tenancyEpoch });
  if (now.phase === 'starting' && seen.state === 'running' && address !== null) {
    toPhase(change, now, 'attesting');
    challenge(change, now);
    return [];
  }
  const { challenge: open } = now;
  if (seen.evidence === null || open === null) return [];
  const tenantNonce = fleet.get('pool', now.pool)?.spec.tenantNonce ?? null;
  if (seen.evidence.nonce !== challengeNonce(open.nonce, tenantNonce)) return [];
  return [{ replica: now.replica, nonce: open.nonce, report: seen.evidence.report }];
}
