import type { MeasuredRun } from '@bridgekeeper/report';
import { WAYS, type Way, type Workbench } from '../workbench.ts';

/** How long a crossing keeps an idle bridge, by direction, memory and size. */
export async function measureCrossings(bench: Workbench): Promise<MeasuredRun[]> {
  const runs: MeasuredRun[] = [];
  await wakeUp(bench);
  for (const way of WAYS) {
    for (const bytes of bench.limits.sizes) {
      const parameters = { measure: 'crossing', ...way, bytes };
      const run = await bench.sampler.measure(parameters, bench.limits.repeats, async () => {
        const { startedNs, completedNs } = await bench.copy(way, bytes);
        return { serviceNs: completedNs - startedNs };
      });
      runs.push(run);
    }
  }
  return runs;
}

const WAKING_NS = 200e6;
const WAKING_BYTES = 65_536;

/**
 * The first copies of a process find code that was never run and a GPU that saves power: whatever
 * was measured first would pay for it.
 */
async function wakeUp(bench: Workbench): Promise<void> {
  const endNs = bench.nowNs() + WAKING_NS;
  while (bench.nowNs() < endNs) {
    bench.sampler.assertGoesOn();
    for (const way of WAYS) await bench.copy(way, WAKING_BYTES);
  }
}

const FRESH_BYTES = [65_536, 4_194_304] as const;

/** What the first crossing of newly allocated memory costs beside the second. */
export async function measureFreshMemory(bench: Workbench): Promise<MeasuredRun[]> {
  const runs: MeasuredRun[] = [];
  for (const way of WAYS) {
    for (const bytes of FRESH_BYTES) {
      if (bytes > bench.limits.largestBytes) continue;
      const parameters = { measure: 'fresh', ...way, bytes };
      const repeats = { ...bench.limits.repeats, most: bytes > 1e6 ? 5 : 15 };
      runs.push(
        await bench.sampler.measure(parameters, repeats, () => copyTwice(bench, way, bytes)),
      );
    }
  }
  return runs;
}

async function copyTwice(bench: Workbench, way: Way, bytes: number) {
  const host = bench.device.allocateHost(bytes, way.memory, 'probe, fresh');
  try {
    // A source is written before it crosses, by what has something to send.
    if (way.direction === 'h2d') bench.write(host);
    const first = await bench.copy(way, bytes, { host });
    const second = await bench.copy(way, bytes, { host });
    const firstNs = first.completedNs - first.startedNs;
    const secondNs = second.completedNs - second.startedNs;
    return { firstNs, secondNs, addedNs: firstNs - secondNs };
  } finally {
    bench.device.freeHost(host);
  }
}

/** Allocating and freeing host memory, its pages never touched. */
export async function measureHostMemory(bench: Workbench): Promise<MeasuredRun[]> {
  const runs: MeasuredRun[] = [];
  const { device, limits } = bench;
  for (const memory of ['pinned', 'pageable'] as const) {
    for (const bytes of [1_048_576, limits.largestBytes]) {
      const parameters = { measure: 'host-memory', memory, bytes };
      const run = await bench.sampler.measure(parameters, limits.fewRepeats, async () => {
        const startedNs = bench.nowNs();
        const host = device.allocateHost(bytes, memory, 'probe, allocation');
        const allocatedNs = bench.nowNs();
        device.freeHost(host);
        return { allocateNs: allocatedNs - startedNs, freeNs: bench.nowNs() - allocatedNs };
      });
      runs.push(run);
    }
  }
  return runs;
}
