import type { RouteDigest } from './digest.ts';

/** What is known of a replica when a request has to be given to one. */
export interface Candidate {
  /** Drawn from the replica's name. */
  readonly seed: Pick<RouteDigest, 'high' | 'low'>;
  /** Above 0: its share of new requests against the others'. */
  readonly weight: number;
  readonly inFlight: number;
  readonly inFlightMax: number;
}

export interface Affinity {
  /** Requests of this digest that are in flight. */
  readonly inFlight: number;
  /** With so many in flight on each of its replicas, a prefix is given one more. */
  readonly splitAt: number;
  /** How far above its fair share a replica may be: 1.25 is a quarter. */
  readonly loadFactor: number;
}

/**
 * The replica for a request: the first of its digest's own order that is not too busy, so that
 * equal prefixes meet the KV that they left. null: all are full. With a null digest, the least
 * busy one.
 */
export function choose<C extends Candidate>(
  candidates: readonly C[],
  digest: RouteDigest | null,
  affinity: Affinity,
): C | null {
  const open = candidates.filter((each) => each.inFlight < each.inFlightMax);
  if (digest === null) return leastBusy(open);
  const ranked = rank(candidates, digest);
  const total = candidates.reduce((sum, each) => sum + each.inFlight, 0) + 1;
  const weights = candidates.reduce((sum, each) => sum + each.weight, 0);
  const isBelowBound = ({ inFlight, inFlightMax, weight }: C) =>
    inFlight < inFlightMax &&
    inFlight < Math.ceil((affinity.loadFactor * total * weight) / weights);
  const own = 1 + Math.floor(affinity.inFlight / affinity.splitAt);
  return (
    leastBusy(ranked.slice(0, own).filter(isBelowBound)) ??
    ranked.slice(own).find(isBelowBound) ??
    leastBusy(open)
  );
}

/**
 * Candidates in the order of a digest, by weighted rendezvous: when one comes or goes, only its own
 * share of the digests moves.
 */
export function rank<C extends Candidate>(candidates: readonly C[], digest: RouteDigest): C[] {
  return candidates
    .map((candidate) => ({ candidate, score: scoreOf(candidate, digest) }))
    .sort((a, b) => b.score - a.score)
    .map(({ candidate }) => candidate);
}

function scoreOf({ seed, weight }: Candidate, { high, low }: RouteDigest): number {
  const mixed = mix(mix(seed.high ^ high) ^ seed.low ^ Math.imul(low, 0x9e3779b1));
  // Never 0 or 1.
  const uniform = ((mixed >>> 0) + 0.5) / 2 ** 32;
  return -weight / Math.log(uniform);
}

/** MurmurHash3's finalizer. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** For its weight; the first of equals. */
function leastBusy<C extends Candidate>(candidates: readonly C[]): C | null {
  let best: C | null = null;
  for (const each of candidates) {
    if (best === null || busyness(each) < busyness(best)) best = each;
  }
  return best;
}

const busyness = ({ inFlight, weight }: Candidate) => (inFlight + 1) / weight;
