import type { HostDesired } from '../api/agent.ts';
import { challengeNonce } from './admit.ts';
import type { Fleet } from './fleet.ts';

/** What shall be on a host, under the epoch of the control that leads; null: there is no such. */
export function desiredOf(
  fleet: Fleet,
  host: string,
  epoch: number,
  nowMs: number,
): HostDesired | null {
  const row = fleet.get('host', host);
  if (row === undefined) return null;
  const replicas = [...fleet.rows('replica').inGroup(`host/${host}`)].flatMap((replica) => {
    const pool = fleet.get('pool', replica.pool);
    if (replica.phase === 'stopping' || pool === undefined) return [];
    const { challenge, evidence, credential, tenant, partition, modules } = replica;
    // A key is for the guest that showed its evidence, and only while that is good.
    const isGood = evidence !== null && nowMs < evidence.notAfterMs;
    const sealedKey = isGood ? replica.sealedKey : null;
    const nonce = challenge && challengeNonce(challenge.nonce, pool.spec.tenantNonce);
    return [
      {
        replica: replica.replica,
        epoch: replica.epoch,
        tenant,
        partition,
        modules,
        image: pool.spec.image,
        models: pool.spec.models,
        credential,
        inFlightMax: pool.spec.inFlightMax,
        challenge: nonce,
        sealedKey,
      },
    ];
  });
  return { host, epoch, sequence: row.desiredSequence, replicas };
}
