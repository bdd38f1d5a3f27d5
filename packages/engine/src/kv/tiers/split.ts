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
