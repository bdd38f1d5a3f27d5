import { type DeviceBuffer, type Graph, slice } from '@bridgekeeper/device';
import type { Workbench } from '../workbench.ts';

/** Work on the device that one launch queues. */
export interface LocalWork {
  launch(): void;
}

/** Small enough for several in any time of interest, large enough to be no empty kernel. */
const PIECE_BYTES = 8 * 1024 * 1024;
const PIECES_MAX = 2_000;
const TRIALS = 4;

/** Lends `use` a graph that keeps the workbench's stream busy for as long as the limits say. */
export async function withQueuedWork<Result>(
  bench: Workbench,
  use: (work: LocalWork) => Promise<Result>,
): Promise<Result> {
  const { device, stream, limits } = bench;
  const bytes = Math.min(PIECE_BYTES, limits.localBytes);
  const input = slice(device.allocate(bytes, 'probe, work'));
  const out = slice(device.allocate(bytes, 'probe, work'));
  const capture = (pieces: number) =>
    device.capture(stream, `probe, ${pieces} copies`, () => {
      for (let i = 0; i < pieces; i++) stream.launch('copy', { input, out, bytes });
    });
  try {
    const trial = capture(10);
    const launch = (graph: Graph) => bench.timeNs(() => stream.launchGraph(graph));
    // The fastest: on a busy machine the others would make the work too short.
    let trialNs = Number.POSITIVE_INFINITY;
    for (let i = 0; i < TRIALS; i++) trialNs = Math.min(trialNs, await launch(trial));
    const pieceNs = Math.max(1, trialNs / 10);
    const pieces = Math.min(PIECES_MAX, Math.max(1, Math.ceil(limits.queuedNs / pieceNs)));
    const graph = capture(pieces);
    await launch(graph);
    return await use({ launch: () => stream.launchGraph(graph) });
  } finally {
    await stream.synchronize();
    free(bench, [input.buffer, out.buffer]);
  }
}

export function free({ device }: Workbench, buffers: readonly DeviceBuffer[]): void {
  for (const buffer of buffers) device.free(buffer);
}
