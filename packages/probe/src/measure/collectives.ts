import {
  bytesPerElement,
  type CollectiveName,
  type Device,
  type Graph,
  pushedBytesMax,
  type Slice,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import type { MeasuredRun } from '@bridgekeeper/report';
import type { Workbench } from '../workbench.ts';

const KIB = 1024;
const SMALLEST_BYTES = 4 * KIB;
const WORD_BYTES = 4;
/** Logits of so many bytes are a line: more of them are more lines. */
const LINE_BYTES = 256 * KIB;
/** Collectives in a graph, where they are small. */
const IN_GRAPH = 256;

/** Why collectives cannot be measured here; null: they can. */
export function noCollectives({ group: { gpus, otherProcesses } }: Workbench): string | null {
  if (gpus === 1) return 'there is one GPU, and so no other to sum with';
  if (otherProcesses === 0) return null;
  return (
    `${otherProcesses} process(es) use the other GPUs: stop them, or measure all the same ` +
    'with --force'
  );
}

/** Sums and gathers over all GPUs by the kernels that serve, in captured graphs. */
export async function measureCollectives(bench: Workbench): Promise<MeasuredRun[]> {
  const device = await bench.group.open();
  try {
    return await measureOn(device, bench);
  } finally {
    await device.close();
  }
}

async function measureOn(device: Device, { limits, sampler }: Workbench): Promise<MeasuredRun[]> {
  const { ranks, element } = device.info;
  const largestBytes = limits.collectiveBytes;
  const stream = device.createStream('probe, collectives');
  const input = slice(device.allocate(largestBytes, 'probe, collectives'));
  const out = slice(device.allocate(ranks * largestBytes, 'probe, collectives'));
  const elements = largestBytes / bytesPerElement(element);
  const filling = { type: element, mean: 0, spread: 1, seed: 1 } as const;
  stream.launch('fill-uniform', { out: input, elements, ...filling });
  const runs: MeasuredRun[] = [];
  for (const name of ['all-reduce', 'all-gather'] as const) {
    for (const bytes of sizesUpTo(largestBytes, ranks)) {
      const record = collectiveOf(stream, name, input, out, bytes, bytesPerElement(element));
      const count = Math.max(1, Math.min(IN_GRAPH, Math.floor(largestBytes / bytes)));
      await device.prepare(stream, record);
      const graphOf = (length: number) =>
        device.capture(stream, `probe, ${length} of ${name}`, () => {
          for (let i = 0; i < length; i++) record();
        });
      const graphs = [graphOf(count), graphOf(2 * count)] as const;
      const parameters = { measure: 'collective', name, gpus: ranks, bytes };
      const run = await sampler.measure(parameters, limits.repeats, async () => {
        const [once, twice] = [
          await graphNs(device, stream, graphs[0]),
          await graphNs(device, stream, graphs[1]),
        ];
        // Launching and waiting are in both.
        const operationNs = Math.max(1, (twice - once) / count);
        return { operationNs, bytesPerSecond: (bytes * 1e9) / operationNs };
      });
      runs.push(run);
      for (const graph of graphs) device.discard(graph);
    }
  }
  return runs;
}

/** Powers of four, and on both sides of where sums are made in another way. */
function sizesUpTo(largestBytes: number, ranks: number): number[] {
  const pushed = pushedBytesMax(ranks);
  const sizes = new Set([pushed, 2 * pushed, largestBytes]);
  for (let bytes = SMALLEST_BYTES; bytes < largestBytes; bytes *= 4) sizes.add(bytes);
  return [...sizes].filter((bytes) => bytes <= largestBytes).sort((a, b) => a - b);
}

/** `bytes` of each rank: sums of one line, lines of logits side by side. */
function collectiveOf(
  stream: Stream,
  name: CollectiveName,
  input: Slice,
  out: Slice,
  bytes: number,
  elementBytes: number,
): () => void {
  const inputs = [input];
  if (name === 'all-reduce') {
    const sizes = { count: 1, width: bytes / elementBytes };
    const args = { inputs, out, epilogue: 'store', ...sizes } as const;
    return () => stream.launch('all-reduce', args);
  }
  const count = Math.max(1, Math.ceil(bytes / LINE_BYTES));
  const args = { inputs, out, count, width: bytes / count / WORD_BYTES };
  return () => stream.launch('all-gather', args);
}

async function graphNs({ clock }: Device, stream: Stream, graph: Graph): Promise<number> {
  await stream.synchronize();
  const startedNs = clock.nowNs();
  stream.launchGraph(graph);
  await stream.synchronize();
  return clock.nowNs() - startedNs;
}
