import type { CrossingRecord } from '@bridgekeeper/bridge';
import { DeviceError, type Stream } from '@bridgekeeper/device';
import type { Route } from '@bridgekeeper/engine';
import { type MeasuredRun, summarise } from '@bridgekeeper/report';
import type { Way, Workbench } from '../workbench.ts';

/** Long enough that whatever lies between two copies of a lane does not count. */
const COPY_NS = 4e6;
/** Of each lane; the first and last are made while other lanes are not yet or no longer at it. */
const ROUNDS = 6;
const COUNTS = [1, 2, 3, 4, 6, 8, 12, 16] as const;
const WAY: Way = { direction: 'h2d', memory: 'pinned' };

/** A route of one lane, and a stream that only it uses. */
interface Seat {
  readonly route: Route;
  readonly stream: Stream;
}

/** Opens contexts one by one until the limit or a refusal, and races them on the bridge. */
export async function measureContexts(bench: Workbench): Promise<MeasuredRun[]> {
  const seats: Seat[] = [];
  const opens: MeasuredRun['metrics'][] = [];
  const closes: MeasuredRun['metrics'][] = [];
  const runs: MeasuredRun[] = [];
  let refusal: string | null = null;
  const bytes = await bytesFor(bench);
  try {
    while (refusal === null && seats.length + 1 < bench.limits.contexts) {
      bench.sampler.assertGoesOn();
      try {
        const startedNs = bench.nowNs();
        const route = await bench.traffic.openRoute('probe-own');
        opens.push({ openNs: bench.nowNs() - startedNs });
        seats.push({ route, stream: bench.device.createStream('probe, own') });
      } catch (error) {
        refusal = refusalOf(error);
      }
    }
    for (const contexts of countsUpTo(seats.length)) {
      runs.push(
        await race(bench, seats.slice(0, contexts), bytes, { measure: 'contexts', contexts }),
      );
    }
  } finally {
    for (const { route } of seats) {
      const startedNs = bench.nowNs();
      await bench.traffic.closeRoute(route);
      closes.push({ closeNs: bench.nowNs() - startedNs });
    }
  }
  const alone = summarise({ measure: 'context-lifecycle', together: 1 }, merge(opens, closes));
  const parameters = { measure: 'context-limit', refusal };
  const limit = summarise(parameters, [{ opened: seats.length + 1 }]);
  return [...runs, limit, alone, ...(await openTogether(bench, seats.length))];
}

function refusalOf(error: unknown): string {
  if (error instanceof DeviceError) return error.message;
  throw error;
}

const merge = (
  opens: readonly MeasuredRun['metrics'][],
  closes: readonly MeasuredRun['metrics'][],
) => opens.map((open, index) => ({ ...open, ...closes[index] }));

function countsUpTo(most: number): number[] {
  return [...new Set([...COUNTS.filter((count) => count <= most), most])].filter((n) => n > 0);
}

/** A copy that takes about `COPY_NS` on an idle bridge. */
async function bytesFor(bench: Workbench): Promise<number> {
  const { sizes } = bench.limits;
  for (const bytes of sizes) {
    await bench.copy(WAY, bytes);
    const { startedNs, completedNs } = await bench.copy(WAY, bytes);
    if (completedNs - startedNs >= COPY_NS) return bytes;
  }
  return sizes.at(-1)!;
}

/** Opening several contexts at once, from as many threads. */
async function openTogether(bench: Workbench, most: number): Promise<MeasuredRun[]> {
  const together = Math.min(8, most);
  if (together < 2) return [];
  bench.sampler.assertGoesOn();
  const { traffic } = bench;
  const startedNs = bench.nowNs();
  const opened = await Promise.allSettled(
    Array.from({ length: together }, () => traffic.openRoute('probe-own')),
  );
  const openedNs = bench.nowNs();
  const routes = opened.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  await Promise.all(routes.map((route) => traffic.closeRoute(route)));
  const closeNs = bench.nowNs() - openedNs;
  if (routes.length < together) return [];
  const metrics = { openNs: openedNs - startedNs, closeNs };
  return [summarise({ measure: 'context-lifecycle', together }, [metrics])];
}

/** Streams and threads of one context, one direction and both. */
export async function measureSharedContext(bench: Workbench): Promise<MeasuredRun[]> {
  const bytes = await bytesFor(bench);
  const seats: Seat[] = [];
  try {
    for (let i = 0; i < 4; i++) {
      const route = await bench.traffic.openRoute('probe-shared', 'shared');
      seats.push({ route, stream: bench.device.createStream('probe, shared') });
    }
    const runs: MeasuredRun[] = [];
    for (const streams of [1, 2, 4]) {
      const parameters = { measure: 'streams', streams };
      runs.push(await race(bench, seats.slice(0, streams), bytes, parameters));
    }
    return [...runs, await raceDirections(bench, seats.slice(0, 2), bytes)];
  } finally {
    for (const { route } of seats) await bench.traffic.closeRoute(route);
  }
}

/** Whether the two directions of one context take turns. */
async function raceDirections(bench: Workbench, seats: readonly Seat[], bytes: number) {
  const [up, down] = seats;
  const h2d = () => lap(bench, up!, bytes, WAY);
  const d2h = () => lap(bench, down!, bytes, { ...WAY, direction: 'd2h' });
  const parameters = { measure: 'directions', bytes };
  return bench.sampler.measure(parameters, bench.limits.fewRepeats, async () => {
    const upNs = spanNs(await h2d());
    const downNs = spanNs(await d2h());
    const bothNs = spanNs((await Promise.all([h2d(), d2h()])).flat());
    return { upNs, downNs, bothNs };
  });
}

/** Copies of one seat, one after the other. */
async function lap(bench: Workbench, seat: Seat, bytes: number, way: Way, rounds = ROUNDS) {
  const records: CrossingRecord[] = [];
  for (let round = 0; round < rounds; round++) records.push(await bench.copy(way, bytes, seat));
  return records;
}

function spanNs(records: readonly CrossingRecord[]): number {
  const ends = records.map(({ completedNs }) => completedNs);
  const starts = records.map(({ startedNs }) => startedNs);
  return Math.max(...ends) - Math.min(...starts);
}

/** All seats copy at once; what counts is what was copied while all of them were at it. */
async function race(
  bench: Workbench,
  seats: readonly Seat[],
  bytes: number,
  parameters: MeasuredRun['parameters'],
): Promise<MeasuredRun> {
  bench.sampler.assertGoesOn();
  // With one lap of each, the slower seats would finish alone.
  const laps = await Promise.all(seats.map((seat) => lap(bench, seat, bytes, WAY)));
  const beginNs = Math.max(...laps.map((records) => records[0]!.completedNs));
  const endNs = Math.min(...laps.map((records) => records.at(-1)!.completedNs));
  const shared = laps
    .flat()
    .filter(({ startedNs, completedNs }) => startedNs >= beginNs && completedNs <= endNs);
  const counted = shared.length > 0 ? shared : laps.flatMap((records) => records.slice(1));
  const bytesPerSecond = (counted.length * bytes * 1e9) / spanNs(counted);
  const times = counted.map(({ startedNs, completedNs }) => ({
    serviceNs: completedNs - startedNs,
  }));
  const { metrics, ...run } = summarise({ ...parameters, bytes }, times);
  return { ...run, metrics: { ...metrics, bytesPerSecond } };
}
