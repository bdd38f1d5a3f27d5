import { bf16FromF32 } from '../bf16.ts';
import type { Slice } from '../device.ts';
import { bytesPerElement, slice } from '../device.ts';
import { type ContractCase, expectClose, expectSame } from './case.ts';
import { filled } from './filled.ts';
import { benchCase, bytesOf, type Workbench } from './workbench.ts';

/** Between ranks alone: many blocks' pushes, and more than is pushed. */
const LARGE_SHAPES = [
  { count: 37, width: 5120 },
  { count: 160, width: 5120 },
] as const;

/** Few bytes, a kernel's full load, more; widths that no vector divides. */
const SHAPES = [
  { count: 1, width: 64 },
  { count: 3, width: 7 },
  { count: 5, width: 2048 },
  { count: 33, width: 1000 },
] as const;

export const collectiveCases: readonly ContractCase[] = [
  benchCase('all-reduce', 'arithmetic', async (bench) => {
    for (const { count, width } of SHAPES) {
      for (const epilogue of ['store', 'add'] as const) {
        const sizes = { count, width, epilogue };
        await checkReduce(bench, sizes);
      }
    }
    if (bench.device.info.ranks === 1) return;
    for (const shape of LARGE_SHAPES) await checkReduce(bench, { ...shape, epilogue: 'add' });
  }),
  benchCase('all-gather', 'arithmetic', async (bench) => {
    for (const { count, width } of SHAPES) {
      const parts = await inputsOf(bench, count * width, 'f32');
      const out = await bench.output(count * width * parts.values.length, 'f32');
      bench.launch('all-gather', { inputs: parts.inputs, out, count, width });
      const expected = Array.from({ length: count }, (_, line) =>
        parts.values.flatMap((values) => [...values.subarray(line * width, (line + 1) * width)]),
      ).flat();
      for (const rank of bench.device.ranks) {
        const found = new Float32Array((await bench.downloadRank(rank, out)).buffer);
        expectSame(`all-gather of ${count} x ${width}`, found, expected);
      }
    }
  }),
  benchCase('collectives one behind the other', 'arithmetic', async (bench) => {
    const [count, width] = [2, 512];
    const parts = await inputsOf(bench, count * width, bench.element);
    const first = await bench.upload(new Float32Array(count * width));
    const inputs = parts.inputs;
    // Each is overwritten as soon as the one before is queued: none may still be read.
    const rounds = 40;
    const graph = bench.device.capture(bench.stream, 'rounds', () => {
      for (let round = 0; round < rounds; round++) {
        bench.launch('all-reduce', { inputs, out: first, epilogue: 'store', count, width });
        bench.launch('all-reduce', {
          inputs: [first],
          out: parts.inputs[0]!,
          epilogue: 'store',
          count,
          width,
        });
        bench.launch('fill-uniform', {
          out: parts.inputs[0]!,
          elements: count * width,
          type: bench.element,
          mean: round + 1,
          spread: 0,
          seed: round,
        });
      }
    });
    bench.stream.launchGraph(graph);
    bench.stream.launchGraph(graph);
    await bench.stream.synchronize();
    bench.device.discard(graph);
    const ranks = bench.device.info.ranks;
    // Where a device is alone, only the first of its inputs is written again.
    const last = rounds - 1;
    const others = ranks === 1 ? parts.values.slice(1) : [];
    const expected = filled(new Float64Array(count * width), (i) =>
      others.reduce((sum, values) => sum + values[i]!, last * Math.max(ranks, 1)),
    );
    for (const rank of bench.device.ranks) {
      const found = await bench.numbersOf(rank, first);
      expectClose('the last sum but one', found, expected, bench.tolerance);
    }
  }),
];

async function checkReduce(
  bench: Workbench,
  { count, width, epilogue }: { count: number; width: number; epilogue: 'store' | 'add' },
): Promise<void> {
  const elements = count * width;
  const parts = await inputsOf(bench, elements, bench.element);
  const before = bench.random(elements);
  const out = epilogue === 'add' ? await bench.upload(before) : await bench.output(elements);
  bench.launch('all-reduce', { inputs: parts.inputs, out, epilogue, count, width });
  const expected = filled(new Float64Array(elements), (i) =>
    parts.values.reduce((sum, values) => sum + values[i]!, epilogue === 'add' ? before[i]! : 0),
  );
  let first: Float32Array | null = null;
  for (const rank of bench.device.ranks) {
    const found = await bench.numbersOf(rank, out);
    expectClose(
      `all-reduce (${epilogue}) of ${count} x ${width}`,
      found,
      expected,
      bench.tolerance,
    );
    expectSame('another rank', found, first ?? found);
    first = found;
  }
}

/** Inputs that differ from rank to rank; two of them where the device is alone. */
async function inputsOf(
  bench: Workbench,
  elements: number,
  type: 'f32' | 'bf16',
): Promise<{ readonly inputs: readonly Slice[]; readonly values: readonly Float32Array[] }> {
  const { ranks } = bench.device;
  const values = Array.from({ length: Math.max(ranks.length, 2) }, () => bench.random(elements));
  const bytes = values.map((each) => bytesOf(type === 'f32' ? each : bf16FromF32(each)));
  if (ranks.length === 1) {
    return { inputs: await Promise.all(bytes.map((each) => bench.uploadBytes(each))), values };
  }
  const input = await bench.output(elements, type);
  for (const [index, rank] of ranks.entries()) await bench.writeRank(rank, input, bytes[index]!);
  return { inputs: [slice(input.buffer, 0, elements * bytesPerElement(type))], values };
}
