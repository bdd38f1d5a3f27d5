import type { CrossingRecord } from '@bridgekeeper/bridge';
import type { MeasuredRun } from '@bridgekeeper/report';
import { WAYS, type Way, type Workbench } from '../workbench.ts';
import { type LocalWork, withQueuedWork } from './work.ts';

/** One of a decode step's commands or drains, and one of bulk. */
const SIZES = [4_096, 4_194_304] as const;

/**
 * What issuing a copy from the launching thread costs: what it adds to an idle stream and to one
 * with work queued, and how long the thread that issues it is blocked.
 */
export async function measureIssue(bench: Workbench): Promise<MeasuredRun[]> {
  return withQueuedWork(bench, async (work) => {
    const runs: MeasuredRun[] = [];
    for (const way of WAYS) {
      for (const bytes of SIZES) {
        if (bytes > bench.limits.largestBytes) continue;
        const parameters = { measure: 'issue', ...way, bytes };
        const once = () => issueOnce(bench, work, way, bytes);
        runs.push(await bench.sampler.measure(parameters, bench.limits.repeats, once));
      }
    }
    return runs;
  });
}

/** Alternating, so that what drifts meanwhile drifts for all of them. */
async function issueOnce(bench: Workbench, work: LocalWork, way: Way, bytes: number) {
  const { launching: route } = bench.traffic;
  const copy = () => bench.copy(way, bytes, { route });
  const onLane = await copyAwake(bench, way, bytes);
  let idle = onLane;
  let queued = onLane;
  const nothingNs = await bench.timeNs(() => {});
  const idleNs = await bench.timeNs(async () => {
    idle = await copy();
  });
  const workNs = await bench.timeNs(() => work.launch());
  let queuedNs = 0;
  for (let tries = 0; tries < QUEUED_TRIES; tries++) {
    queuedNs = await bench.timeNs(async () => {
      work.launch();
      queued = await copy();
    });
    // A thread that was held up before it issued the copy finds the work done: nothing was queued.
    if (queued.startedNs > queued.issuedNs) break;
  }
  const laneNs = onLane.completedNs - onLane.startedNs;
  const servedNs = queued.completedNs - queued.startedNs;
  const doneNs = queued.completedNs - queued.issuedNs;
  // A thread that was blocked saw neither start nor end of its copy: then only the sums tell.
  const sawIt = servedNs >= SEEN_SHARE * laneNs;
  return {
    laneNs,
    idleAddedNs: idleNs - nothingNs,
    queuedAddedNs: queuedNs - workNs,
    queuedTollNs: sawIt ? servedNs - laneNs : queuedNs - workNs - (idleNs - nothingNs),
    idleBlockedNs: idle.issuerBlockedNs,
    queuedBlockedNs: queued.issuerBlockedNs,
    queuedDoneNs: doneNs,
    blockedShare: queued.issuerBlockedNs / doneNs,
  };
}

/** The queued copy finds its thread awake: what it is compared with must do so, too. */
async function copyAwake(bench: Workbench, way: Way, bytes: number): Promise<CrossingRecord> {
  const servedNs = ({ startedNs, completedNs }: CrossingRecord) => completedNs - startedNs;
  let best = await bench.copy(way, bytes);
  for (let more = 0; more < AWAKE_COPIES; more++) {
    const next = await bench.copy(way, bytes);
    if (servedNs(next) < servedNs(best)) best = next;
  }
  return best;
}

const AWAKE_COPIES = 3;
const QUEUED_TRIES = 5;
/** A record that shows less than this of what the copy takes at least did not see it. */
const SEEN_SHARE = 0.5;
