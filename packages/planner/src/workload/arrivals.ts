import type { Draws } from './draws.ts';

export interface ArrivalOptions {
  /** Infinity: all at once. */
  readonly requestsPerSecond: number;
  /** Shape of the gamma-distributed gaps: 1 is a Poisson process, Infinity an even pace. */
  readonly burstiness: number;
}

/**
 * When each of `count` requests is sent, in seconds from the start, ascending. As vllm bench serve
 * does it, the times are scaled so that the last request comes at count / rate, whatever was drawn.
 */
export function arrivalSeconds(count: number, options: ArrivalOptions, draws: Draws): number[] {
  const { requestsPerSecond, burstiness } = options;
  if (requestsPerSecond === Number.POSITIVE_INFINITY) return new Array<number>(count).fill(0);
  const isEven = burstiness === Number.POSITIVE_INFINITY;
  let sum = 0;
  const times = Array.from({ length: count }, () => {
    sum += isEven ? 1 : draws.gamma(burstiness);
    return sum;
  });
  const scale = count / requestsPerSecond / (times.at(-1) ?? 1);
  return times.map((time) => time * scale);
}
