import type { Profile } from '@bridgekeeper/bridge';
import type { CollectiveName } from '../ops.ts';

/** The links between the GPUs of one host, as collectives see them. */
export interface Links {
  readonly ranks: number;
  /** What the law adds to each collective. */
  readonly tollNs: number;
  /** What it leaves of the links' rate. */
  readonly rateFactor: number;
}

/**
 * What two H200 took in a captured graph beside a kernel's own start (docs/results/h200/
 * all-reduce.json): small ones are written to the others, one way; large ones are read from them
 * between two meetings.
 */
const PUSH = { startNs: 600, bytesPerSecond: 160e9 } as const;
const PULL = { startNs: 5_000, bytesPerSecond: 322e9 } as const;
const NO_LAW = { tollNs: 0, rateFactor: 1 };

/** Up to so many bytes are pushed, twice their number and from every other rank. */
export const pushedBytesMax = (ranks: number): number => (ranks <= 2 ? 1_572_864 : 262_144);

/** `profile` says what encrypted links add and take. */
export function linksOf({ collectives = NO_LAW }: Profile, ranks: number): Links {
  return { ranks, ...collectives };
}

/**
 * From when the last rank is ready. `bytes` are those of one rank's input. What is pushed or
 * gathered comes whole from every other; of a large sum each rank makes a part and reads the rest.
 */
export function collectiveNs(links: Links, name: CollectiveName, bytes: number): number {
  const { ranks, tollNs, rateFactor } = links;
  const isPushed = name === 'all-reduce' && bytes <= pushedBytesMax(ranks);
  const { startNs, bytesPerSecond } = isPushed ? PUSH : PULL;
  const share = name === 'all-gather' || isPushed ? ranks - 1 : (2 * (ranks - 1)) / ranks;
  return startNs + tollNs + (share * bytes * 1e9) / (bytesPerSecond * rateFactor);
}

/**
 * What a law takes in addition, beside what the links themselves do; 0 where it says nothing of
 * collectives.
 */
export function lawNsOfCollective(
  profile: Profile,
  ranks: number,
  name: CollectiveName,
  bytes: number,
): number {
  const ns = (links: Links) => collectiveNs(links, name, bytes);
  return Math.round(ns(linksOf(profile, ranks)) - ns({ ranks, ...NO_LAW }));
}
