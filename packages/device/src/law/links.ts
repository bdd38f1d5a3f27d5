import { type MeetingCost, meetingNs, type Profile } from '@bridgekeeper/bridge';
import type { CollectiveName } from '../ops.ts';

type LinksOfProfile = Pick<Profile, 'links' | 'collectives'> &
  Partial<Pick<Profile, 'roofline' | 'submission'>>;

/** How the kernels of a collective bring bytes from one GPU to another. */
export type Meeting = 'pushed' | 'pulled' | 'gathered';

/** The links between the GPUs of one host, as collectives see them. */
export interface Links extends Readonly<Record<Meeting, MeetingCost>> {
  readonly ranks: number;
  /** What starting its kernel takes, where that was measured, too; null: as of any kernel. */
  readonly startNs: number | null;
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

/** What `profile` was measured to take, or what encrypted links add to plain ones and take. */
export function linksOf(profile: LinksOfProfile, ranks: number): Links {
  const { links, collectives = NO_LAW, roofline, submission } = profile;
  if (links !== undefined) {
    const isKnown = roofline !== undefined && submission !== undefined;
    const startNs = isKnown ? roofline.kernelNs + submission.graphNodeNs : null;
    return { ...links, ranks, startNs };
  }
  const { tollNs, rateFactor } = collectives;
  const costOf = ({ startNs, bytesPerSecond }: typeof PUSH | typeof PULL): MeetingCost => ({
    tollNs: startNs + tollNs,
    bandwidth: [{ bytes: 1, bytesPerSecond: bytesPerSecond * rateFactor }],
  });
  const pulled = costOf(PULL);
  return { ranks, startNs: null, pushed: costOf(PUSH), pulled, gathered: pulled };
}

/** How a collective of so many bytes on each rank meets. */
export function meetingOf(name: CollectiveName, ranks: number, bytes: number): Meeting {
  if (name === 'all-gather') return 'gathered';
  return bytes <= pushedBytesMax(ranks) ? 'pushed' : 'pulled';
}

/**
 * Bytes that come to each rank of a collective of `bytes` on each. What is pushed or gathered comes
 * whole from every other; of a large sum each rank makes a part and reads the rest.
 */
export function arrivingBytes(meeting: Meeting, ranks: number, bytes: number): number {
  return meeting === 'pulled' ? ((2 * (ranks - 1)) / ranks) * bytes : (ranks - 1) * bytes;
}

/** From when the last rank is ready. `bytes` are those of one rank's input. */
export function collectiveNs(links: Links, name: CollectiveName, bytes: number): number {
  const { ranks } = links;
  const meeting = meetingOf(name, ranks, bytes);
  return meetingNs(links[meeting], arrivingBytes(meeting, ranks, bytes));
}

/**
 * What a law takes in addition, beside what the links themselves do, which are taken to be plain; 0
 * where it says nothing of them, or that they are faster.
 */
export function lawNsOfCollective(
  profile: LinksOfProfile,
  ranks: number,
  name: CollectiveName,
  bytes: number,
): number {
  const ns = (of: Links) => collectiveNs(of, name, bytes);
  const lawNs = ns(linksOf(profile, ranks)) - ns(linksOf({}, ranks));
  return Math.max(0, Math.round(lawNs));
}
