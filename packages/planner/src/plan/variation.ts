import { arrivalSeconds } from '../workload/arrivals.ts';
import { Draws } from '../workload/draws.ts';
import type { Workload, WorkloadRequest } from '../workload/workload.ts';

/** Requests of one point at least, so that percentiles mean something, and at most. */
const POINT_REQUESTS_MIN = 32;
const POINT_REQUESTS_MAX = 512;
/** Of a point of an open load. */
const RATE_REQUESTS_MAX = 256;
/** Turns of a closed loop. */
const TURNS = 2;
/** How long a point of an open load lasts, if bounds allow. */
const POINT_SECONDS = 60;

const clamp = (value: number, least: number, most: number) =>
  Math.min(most, Math.max(least, Math.round(value)));

/** As many requests as wanted, the load's own over and over; later turns share nothing new. */
function take(workload: Workload, count: number): readonly WorkloadRequest[] {
  const { requests } = workload;
  return Array.from({ length: count }, (_, index) => requests[index % requests.length]!);
}

/** Requests of the same lengths, so many at a time whatever their times were. */
export function atConcurrency(workload: Workload, concurrency: number): Workload {
  const count = clamp(TURNS * concurrency, POINT_REQUESTS_MIN, POINT_REQUESTS_MAX);
  const requests = take(workload, Math.max(count, concurrency)).map((request) => {
    return { ...request, atNs: 0 };
  });
  const name = `${concurrency} at a time, of ${workload.name}`;
  return { name, concurrency, chunkTokens: workload.chunkTokens, requests };
}

/**
 * Requests of the same lengths at another rate: an open load's own times closer together or further
 * apart, so that its bursts stay; those of a closed one as a Poisson process.
 */
export function atRate(workload: Workload, requestsPerSecond: number, seed: number): Workload {
  const count = clamp(requestsPerSecond * POINT_SECONDS, POINT_REQUESTS_MIN, RATE_REQUESTS_MAX);
  const requests = take(workload, count);
  const seconds = timesOf(workload, requests, requestsPerSecond, seed);
  const name = `${requestsPerSecond} req/s, of ${workload.name}`;
  return {
    name,
    concurrency: null,
    chunkTokens: workload.chunkTokens,
    requests: requests.map((request, index) => {
      return { ...request, atNs: Math.round(seconds[index]! * 1e9) };
    }),
  };
}

function timesOf(
  workload: Workload,
  requests: readonly WorkloadRequest[],
  requestsPerSecond: number,
  seed: number,
): readonly number[] {
  const count = requests.length;
  const { requests: own, concurrency } = workload;
  const turnSeconds = ((own.at(-1)?.atNs ?? 0) / 1e9) * (own.length / Math.max(1, own.length - 1));
  if (concurrency === null && turnSeconds > 0) {
    const scale = own.length / requestsPerSecond / turnSeconds;
    return requests.map(({ atNs }, index) => {
      return (Math.floor(index / own.length) * turnSeconds + atNs / 1e9) * scale;
    });
  }
  const arrivals = { requestsPerSecond, burstiness: 1 };
  const times = arrivalSeconds(count, arrivals, new Draws(seed, 'arrivals'));
  return times.map((time) => time - times[0]!);
}
