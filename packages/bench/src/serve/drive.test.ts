import { VirtualClock } from '@bridgekeeper/device';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { drive } from './drive.ts';
import type { Outcome } from './outcome.ts';

/** A server that takes so long for each request, and the most it had at a time. */
function slowServer(clock: VirtualClock) {
  const seen = { open: 0, peak: 0, order: [] as number[] };
  const send = async (request: { index: number; ns: number }, arrivedNs: number) => {
    const startedNs = clock.nowNs();
    seen.order.push(request.index);
    seen.open += 1;
    seen.peak = Math.max(seen.peak, seen.open);
    await clock.sleepUntilNs(startedNs + request.ns);
    seen.open -= 1;
    const chunkNs = [clock.nowNs()];
    const counts = { completionTokens: 1, promptTokens: 1, fault: undefined };
    return { arrivedNs, startedNs, chunkNs, ...counts } satisfies Outcome;
  };
  return { seen, send };
}

const job = fc.record({ gapNs: fc.nat(2000), ns: fc.nat(3000) });

test('each request goes when it is due, or when a place is free, and in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(job),
      fc.integer({ min: 1, max: 5 }),
      async (jobs, maxConcurrency) => {
        const clock = new VirtualClock();
        const { seen, send } = slowServer(clock);
        let due = 0;
        const dueNs = jobs.map(({ gapNs }) => {
          due += gapNs;
          return due;
        });
        const requests = jobs.map(({ ns }, index) => ({ index, ns }));
        const load = { requests, atSeconds: dueNs.map((ns) => ns / 1e9), maxConcurrency };
        const { outcomes, durationNs } = await clock.runUntil(drive(load, clock, send));
        expect(seen.peak).toBeLessThanOrEqual(maxConcurrency);
        expect(seen.order).toEqual(requests.map(({ index }) => index));
        const ends: number[] = [];
        for (const [index, { arrivedNs, startedNs, chunkNs }] of outcomes.entries()) {
          expect(arrivedNs).toBeCloseTo(dueNs[index]!, 3);
          // The k-th request waits until all but k - 1 of those before it have ended.
          const before = [...ends].sort((a, b) => b - a);
          const freeNs = before[maxConcurrency - 1] ?? 0;
          expect(startedNs).toBeCloseTo(Math.max(arrivedNs, freeNs), 3);
          ends.push(chunkNs[0]!);
        }
        expect(durationNs).toBeCloseTo(Math.max(0, ...ends), 3);
      },
    ),
  );
});
