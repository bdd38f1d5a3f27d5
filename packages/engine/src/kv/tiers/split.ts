import type { RecomputedFor } from '../page-node.ts';

/** Pages [first, end) of a prompt are in a store. */
export interface StoredRun {
  readonly first: number;
  readonly end: number;
  /** To compute the page at that index, alone on the device. */
  readonly recomputeNs: (index: number) => number;
  /** To bring it to the device. */
  readonly readNs: (index: number) => number;
  /** The least that a launch takes, however little it computes: the weights are read once more. */
  readonly launchNs: number;
  /** What waits for the lane before it. */
  readonly queueNs: number;
  /** Other requests that wait for the device to compute their prompts. */
  readonly others: number;
}

/**
 * How to have a run's pages soonest: those before the index that this returns are computed, the
 * rest is brought meanwhile. Computing from the front and bringing from the back is the better
 * half of both: all pages are as long on the lane, and the last ones take longest to compute. What
 * is computed keeps every other request waiting as well, what is brought does not.
 */
export function splitOf(run: StoredRun): number {
  const { first, end, recomputeNs, readNs, launchNs, queueNs, others } = run;
  let laneNs = queueNs;
  for (let index = first; index < end; index++) laneNs += readNs(index);
  let computeNs = 0;
  let best = first;
  // What comes behind the run takes a launch of its own, unless all of it is computed.
  let leastNs = laneNs + launchNs;
  for (let split = first + 1; split <= end; split++) {
    computeNs += recomputeNs(split - 1);
    laneNs -= readNs(split - 1);
    const busyNs = Math.max(computeNs, launchNs);
    const doneNs = split === end ? busyNs : Math.max(busyNs, laneNs) + launchNs;
    const costNs = doneNs + others * computeNs;
    if (costNs >= leastNs) continue;
    leastNs = costNs;
    best = split;
  }
  return best;
}

/** Why a run's pages before `split`, of which there are some, are computed. */
export function reasonOf(run: StoredRun, split: number): RecomputedFor {
  if (split < run.end) return 'overlapped';
  return splitOf({ ...run, queueNs: 0 }) < run.end ? 'lane_busy' : 'sooner';
}

/** Pages [first, end) of a prompt, which come as a whole or not at all. */
export interface WholeRun extends Omit<StoredRun, 'readNs'> {
  /** To bring all that is missing of them, whatever that is. */
  readonly laneNs: number;
}

/** Why a run is better computed than brought; null: it is not. */
export function computedFor(run: WholeRun): 'sooner' | 'lane_busy' | null {
  const { first, end, recomputeNs, laneNs, launchNs, queueNs, others } = run;
  let computeNs = 0;
  for (let index = first; index < end; index++) computeNs += recomputeNs(index);
  const costNs = Math.max(computeNs, launchNs) + others * computeNs;
  const isSoonerThan = (waitNs: number) => costNs < waitNs + launchNs;
  if (!isSoonerThan(queueNs + laneNs)) return null;
  return isSoonerThan(laneNs) ? 'sooner' : 'lane_busy';
}

/** Pages [first, end) of a prompt are on their way as one. */
export interface ComingPart {
  readonly first: number;
  readonly end: number;
  /** Until they are there, with what the lane has before them. */
  readonly dueNs: number;
}

export interface ComingRun extends Pick<StoredRun, 'recomputeNs' | 'launchNs' | 'others'> {
  /** Neighbours, first to last. */
  readonly parts: readonly ComingPart[];
}

/** What is under way is given up only for something that is sooner by so much. */
const GAIN = 0.9;

/**
 * How many of the first parts of what a prompt waits for are better computed after all: the lane
 * may have become slower than it seemed, or have had other restores added before these.
 */
export function givenUpOf({ parts, recomputeNs, launchNs, others }: ComingRun): number {
  let latestNs = 0;
  // Once the first so many are given up, the others are there.
  const waitsNs = [0];
  for (const { dueNs } of [...parts].reverse()) {
    latestNs = Math.max(latestNs, dueNs);
    waitsNs.unshift(latestNs);
  }
  let best = 0;
  let leastNs = GAIN * (waitsNs[0]! + launchNs);
  let computeNs = 0;
  for (const [index, { first, end }] of parts.entries()) {
    for (let page = first; page < end; page++) computeNs += recomputeNs(page);
    const busyNs = Math.max(computeNs, launchNs);
    const waitNs = waitsNs[index + 1]!;
    const doneNs = waitNs === 0 ? busyNs : Math.max(busyNs, waitNs) + launchNs;
    const costNs = doneNs + others * computeNs;
    if (costNs >= leastNs) continue;
    leastNs = costNs;
    best = index + 1;
  }
  return best;
}
