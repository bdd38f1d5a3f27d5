import { createHash } from 'node:crypto';
import type { Replica } from '../api/fleet.ts';
import type { Change } from './context.ts';
import { command, fail, quarantine, toPhase } from './replicas.ts';

/** What checking a replica's evidence came to. */
export interface Verdict {
  /** Why it does not hold; empty: it does. */
  readonly refusals: readonly string[];
  readonly encryptionKeys: string | null;
  readonly receiptKey: string | null;
  readonly tlsSpkiSha256: string | null;
}

/** What a replica answers: a nonce of ours, and the tenant's if it gave one. */
export function challengeNonce(controlNonce: string, tenantNonce: string | null): string {
  if (tenantNonce === null) return controlNonce;
  return createHash('sha256')
    .update('bridgekeeper admission v1\n')
    .update(Buffer.from(controlNonce, 'hex'))
    .update(Buffer.from(tenantNonce, 'hex'))
    .digest('hex');
}

/**
 * Takes a verdict on evidence for the challenge that is open now: of an older challenge it says
 * nothing. Only here does a replica come to have evidence.
 */
export function admit(
  change: Change,
  shown: { readonly replica: string; readonly nonce: string; readonly report: string },
  verdict: Verdict,
): void {
  const { fleet, nowMs, chance } = change;
  const replica = fleet.get('replica', shown.replica);
  if (replica === undefined || replica.challenge?.nonce !== shown.nonce) return;
  if (replica.phase === 'draining' || replica.phase === 'stopping') return;
  const pool = fleet.get('pool', replica.pool);
  const policy = pool && fleet.get('policy', pool.spec.policy);
  if (pool === undefined || policy === undefined) return;
  const { refusals, ...keys } = verdict;
  // From when it was asked: the answer may have been waiting.
  const { atMs } = replica.challenge;
  const notAfterMs = atMs + policy.spec.maxAgeSeconds * 1000;
  const id = chance.id('ev', nowMs);
  const isAccepted = refusals.length === 0;
  fleet.put('evidence', id, {
    evidence: id,
    replica: replica.replica,
    host: replica.host,
    epoch: replica.epoch,
    logIndex: replica.logIndex,
    tenancyEpoch: replica.tenancyEpoch ?? null,
    policy: policy.name,
    nonce: challengeNonce(shown.nonce, pool.spec.tenantNonce),
    controlNonce: shown.nonce,
    tenantNonce: pool.spec.tenantNonce,
    atMs,
    notAfterMs,
    isAccepted,
    refusals: refusals.slice(0, 64),
    reportSha256: createHash('sha256').update(shown.report).digest('hex'),
  });
  fleet.blobs.push({ id, body: shown.report });
  if (!isAccepted) {
    refuse(change, replica, refusals);
    return;
  }
  if (fleet.get('host', replica.host) !== undefined) {
    fleet.patch('host', replica.host, { lastEvidence: { id, atMs } });
  }
  const { encryptionKeys: before } = replica.evidence ?? { encryptionKeys: keys.encryptionKeys };
  const now = fleet.patch('replica', replica.replica, {
    challenge: null,
    evidence: { id, notAfterMs, ...keys },
    // A model's key was sealed to the key of before.
    ...(before === keys.encryptionKeys ? {} : { sealedKey: null }),
  });
  command(change, replica.host);
  if (now.phase === 'attesting') toPhase(change, now, 'warm', { deadlineMs: null });
}

function refuse(change: Change, replica: Replica, refusals: readonly string[]): void {
  const reason = `its evidence does not hold: ${refusals[0]}`;
  change.fleet.patch('replica', replica.replica, { challenge: null });
  if (change.fleet.get('host', replica.host) !== undefined) {
    change.fleet.patch('host', replica.host, { lastEvidence: null });
  }
  quarantine(change, replica.host, replica.modules, reason.slice(0, 512));
  fail(change, change.fleet.get('replica', replica.replica)!, reason.slice(0, 512));
}
