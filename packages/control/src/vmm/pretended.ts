import { createHash } from 'node:crypto';
import type { Host, HostFacts } from '../api/fleet.ts';

const GPUS = 8;

/** A board of eight GPUs that is not there, with the partitions that HGX boards have. */
export function pretendedFacts(host: string): HostFacts {
  const all = Array.from({ length: GPUS }, (_, index) => index + 1);
  const groups = [8, 4, 2, 1].flatMap((size) =>
    Array.from({ length: GPUS / size }, (_, index) => all.slice(index * size, (index + 1) * size)),
  );
  return {
    platform: 'none',
    driverVersion: null,
    fmVersion: null,
    grade: 'host',
    gpus: all.map((module) => ({
      module,
      identity: createHash('sha256').update(`${host}/${module}`).digest('hex').slice(0, 16),
      ccMode: 'off',
      isHealthy: true,
    })),
    partitions: groups.map((modules, id) => ({ id, modules })),
    isFrozen: false,
    quarantined: [],
    bootSeconds: 10,
    loadBytesPerSecond: 1e9,
    bridge: null,
  };
}

/** The row of a host with such a board, whose agent joined at `joinedMs` and was heard. */
export function pretendedHost(host: string, joinedMs = 1): Omit<Host, 'version'> {
  return {
    host,
    state: 'ready',
    lostSinceMs: null,
    facts: pretendedFacts(host),
    quarantined: [],
    bootId: 'boot',
    agentSpkiSha256: '0'.repeat(64),
    joinedMs,
    checkpoint: null,
    desiredSequence: 0,
  };
}
