import { type Graph, slice } from '@bridgekeeper/device';
import type { MeasuredRun } from '@bridgekeeper/report';
import type { Workbench } from '../workbench.ts';
import { free } from './work.ts';

/** In a row; fewer than drivers queue before they make the thread wait. */
const LAUNCHES = 100;
/** Kernels of the short and the long graph whose difference is a kernel's time inside a graph. */
const SHORT_GRAPH = 100;
const LONG_GRAPH = 1_100;
const ELEMENTS = 64;

/** What launches cost the thread that makes them, and what a kernel costs inside a graph. */
export async function measureSubmission(bench: Workbench): Promise<MeasuredRun[]> {
  const { device, stream, limits, sampler } = bench;
  const out = slice(device.allocate(4 * ELEMENTS, 'probe, submission'));
  const kernel = () => {
    const shape = { elements: ELEMENTS, type: 'f32', mean: 0, spread: 1, seed: 1 } as const;
    stream.launch('fill-uniform', { out, ...shape });
  };
  const graphOf = (kernels: number) =>
    device.capture(stream, `probe, ${kernels} kernels`, () => {
      for (let i = 0; i < kernels; i++) kernel();
    });
  const graphNs = (graph: Graph) => bench.timeNs(() => stream.launchGraph(graph));
  try {
    const [single, short, long] = [graphOf(1), graphOf(SHORT_GRAPH), graphOf(LONG_GRAPH)];
    const run = await sampler.measure({ measure: 'submission' }, limits.repeats, async () => {
      const nothingNs = await bench.timeNs(() => {});
      const launchedNs = await bench.timeNs(kernel);
      const nodeNs = ((await graphNs(long)) - (await graphNs(short))) / (LONG_GRAPH - SHORT_GRAPH);
      return {
        launchNs: await issueNs(bench, kernel),
        graphLaunchNs: await issueNs(bench, () => stream.launchGraph(single)),
        launchAndWaitNs: launchedNs,
        synchronizeNs: nothingNs,
        nodeNs,
      };
    });
    return [run];
  } finally {
    await stream.synchronize();
    free(bench, [out.buffer]);
  }
}

/** How long the launching thread is busy with one of many launches. */
async function issueNs({ device, stream }: Workbench, launch: () => void): Promise<number> {
  await stream.synchronize();
  const startedNs = device.clock.nowNs();
  for (let i = 0; i < LAUNCHES; i++) launch();
  // The clock of a modelled device moves while its launching thread waits.
  await device.breathe();
  const endedNs = device.clock.nowNs();
  await stream.synchronize();
  return (endedNs - startedNs) / LAUNCHES;
}
