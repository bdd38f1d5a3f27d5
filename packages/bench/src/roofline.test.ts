import { describe, expect, test } from 'vitest';
import { DECODE_SUITE } from './decode.ts';
import { PREFILL_SUITE } from './prefill.ts';
import type { Suite } from './suite.ts';

/** A suite's flags at their defaults, but for `changes`. */
function valuesOf(suite: Suite, changes: Readonly<Record<string, unknown>>) {
  const defaults = Object.entries(suite.flags).map(([name, flag]) => [name, flag.default]);
  return { ...Object.fromEntries(defaults), ...changes };
}

const io = {} as Parameters<Suite['run']>[2];

async function runsOf(suite: Suite, changes: Readonly<Record<string, unknown>>) {
  return suite.run(valuesOf(suite, changes), () => {}, io);
}

describe.each(['model', 'cpu'])('bench decode on %s', (device) => {
  test('compares each batch with the floor of its bytes or operations', async () => {
    const changes = { device, batch: [1, 3], contextTokens: [64], steps: 8, repeats: 1 };
    const { runs } = await runsOf(DECODE_SUITE, changes);
    expect(runs.map(({ parameters }) => parameters.batch)).toEqual([1, 3]);
    for (const { metrics } of runs) {
      const { bytesFloorMs, operationsFloorMs } = metrics;
      expect(metrics.floorMs).toBe(Math.max(bytesFloorMs!, operationsFloorMs!));
      expect(metrics.floorFraction).toBeCloseTo(metrics.floorMs! / metrics.stepMs!, 10);
    }
    const [one, three] = runs.map(({ metrics }) => metrics);
    // The weights are read once for all rows, each row's KV once; arithmetic is done for each row.
    expect(three!.bytesFloorMs).toBeGreaterThan(one!.bytesFloorMs!);
    expect(three!.bytesFloorMs).toBeLessThan(3 * one!.bytesFloorMs!);
    expect(three!.operationsFloorMs).toBeCloseTo(3 * one!.operationsFloorMs!, 6);
  });
});

test('a modelled GPU takes its floor and what its kernels take to start, no less', async () => {
  const { runs } = await runsOf(PREFILL_SUITE, { device: 'model', chunkTokens: [256] });
  expect(runs[0]!.metrics.floorFraction).toBeGreaterThan(0);
  expect(runs[0]!.metrics.floorFraction).toBeLessThan(1);
});
