import type { Profile } from '@bridgekeeper/bridge';
import type { CollectiveName } from '../ops.ts';

/** The links between the GPUs of one host, as collectives see them. */
export interface Links {
  readonly ranks: number;
  /** What a collective takes before its bytes count. */
  readonly tollNs: number;
  /** Of what comes to a GPU. */
  readonly bytesPerSecond: number;
}

/**
 * What two H200 took in a captured graph, by kernels that read each other's memory: a launch and
 * two meetings. Small ones are as fast as their flags travel.
 */
const MEETING_NS = 5_000;
/** Of NVLink 4, one way. */
const LINK_BYTES_PER_SECOND = 392e9;
const NO_LAW = { tollNs: 0, rateFactor: 1 };

/** `profile` says what encrypted links add and take. */
export function linksOf({ collectives = NO_LAW }: Profile, ranks: number): Links {
  return {
    ranks,
    tollNs: MEETING_NS + collectives.tollNs,
    bytesPerSecond: LINK_BYTES_PER_SECOND * collectives.rateFactor,
  };
}

/**
 * From when the last rank is ready. `bytes` are those of one rank's input: an all-reduce brings a
 * rank all of the others' once (two ranks), or what each summed of it twice around (more).
 */
export function collectiveNs(links: Links, name: CollectiveName, bytes: number): number {
  const { ranks, tollNs, bytesPerSecond } = links;
  const share = name === 'all-gather' ? ranks - 1 : (2 * (ranks - 1)) / ranks;
  return tollNs + (share * bytes * 1e9) / bytesPerSecond;
}
