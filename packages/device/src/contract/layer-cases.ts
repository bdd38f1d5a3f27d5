import { hashUniform } from '../random.ts';
import { type ContractCase, expectClose, expectSame, expectThat } from './case.ts';
import { referenceMatmul, referenceRmsNorm, referenceSiluMul } from './reference.ts';
import { benchCase, type Workbench } from './workbench.ts';

/** [count, inputs, outputs]: one line, blocks and their remainders, many lines, long sums. */
const MATMULS = [
  [1, 256, 768],
  [1, 64, 17],
  [2, 128, 40],
  [3, 80, 33],
  [5, 64, 7],
  [8, 256, 96],
  [17, 96, 50],
  [64, 128, 128],
  [131, 160, 72],
  [2, 4096, 24],
] as const;

async function checkMatmul(
  bench: Workbench,
  [count, inputs, outputs]: readonly [number, number, number],
  withBias: boolean,
  outType: 'f32' | 'bf16',
): Promise<void> {
  const input = bench.random(count * inputs);
  const weight = bench.random(outputs * inputs);
  const bias = withBias ? bench.random(outputs, 10) : null;
  const out = await bench.output(count * outputs, outType);
  bench.launch('matmul', {
    input: await bench.upload(input),
    weight: await bench.upload(weight),
    bias: bias === null ? null : await bench.upload(bias),
    out,
    count,
    inputs,
    outputs,
    outType,
  });
  expectClose(
    `matmul ${count} x ${inputs} x ${outputs}${withBias ? ' with bias' : ''} to ${outType}`,
    await bench.download(out, outType),
    referenceMatmul(input, weight, bias, [count, inputs, outputs]),
    bench.tolerance,
  );
}

/** [count, width]. */
const NORMS = [
  [1, 256],
  [3, 64],
  [7, 80],
  [33, 768],
  [2, 4096],
] as const;

export const layerCases: readonly ContractCase[] = [
  benchCase('embed', 'arithmetic', async (bench) => {
    const [vocab, width] = [50, 72];
    const table = bench.random(vocab * width);
    const tokens = [0, 49, 7, 7, -1, 50, 0x7fffffff, 3];
    const out = await bench.output(tokens.length * width);
    bench.launch('embed', {
      table: await bench.upload(table),
      tokens: await bench.uploadWords(tokens),
      out,
      count: tokens.length,
      width,
      vocab,
    });
    const expected = tokens.flatMap((token) => {
      const row = token >= 0 && token < vocab ? token : 0;
      return [...table.subarray(row * width, (row + 1) * width)];
    });
    expectSame('embedded lines', await bench.download(out), expected);
  }),
  benchCase('matmul', 'arithmetic', async (bench) => {
    for (const shape of MATMULS) {
      await checkMatmul(bench, shape, false, bench.element);
      await checkMatmul(bench, shape, true, bench.element);
      await checkMatmul(bench, shape, false, 'f32');
    }
  }),
  benchCase('rms-norm', 'arithmetic', async (bench) => {
    for (const [count, width] of NORMS) {
      const input = bench.random(count * width, 30);
      const weight = bench.random(width);
      const out = await bench.output(count * width);
      const epsilon = 1e-5;
      bench.launch('rms-norm', {
        input: await bench.upload(input),
        weight: await bench.upload(weight),
        out,
        count,
        width,
        epsilon,
      });
      expectClose(
        `rms-norm ${count} x ${width}`,
        await bench.download(out),
        referenceRmsNorm(input, weight, width, epsilon),
        bench.tolerance,
      );
    }
  }),
  benchCase('rms-norm of lines near zero', 'arithmetic', async (bench) => {
    const width = 128;
    const input = bench.random(2 * width, 1e-4).fill(0, 0, width);
    const weight = bench.random(width);
    const out = await bench.output(2 * width);
    bench.launch('rms-norm', {
      input: await bench.upload(input),
      weight: await bench.upload(weight),
      out,
      count: 2,
      width,
      epsilon: 1e-6,
    });
    const expected = referenceRmsNorm(input, weight, width, 1e-6);
    expectClose('small lines', await bench.download(out), expected, bench.tolerance);
  }),
  benchCase('add-rms-norm', 'arithmetic', async (bench) => {
    for (const [count, width] of NORMS) {
      const residual = bench.random(count * width, 3);
      const input = bench.random(count * width);
      const weight = bench.random(width);
      const out = await bench.output(count * width);
      const sum = await bench.upload(residual);
      bench.launch('add-rms-norm', {
        residual: sum,
        input: await bench.upload(input),
        weight: await bench.upload(weight),
        out,
        count,
        width,
        epsilon: 1e-5,
      });
      const added = Float64Array.from(residual, (value, i) => value + input[i]!);
      const what = `add-rms-norm ${count} x ${width}`;
      expectClose(`residual of ${what}`, await bench.download(sum), added, bench.tolerance);
      expectClose(
        what,
        await bench.download(out),
        referenceRmsNorm(added, weight, width, 1e-5),
        bench.tolerance,
      );
    }
  }),
  benchCase('silu-mul', 'arithmetic', async (bench) => {
    for (const [count, width] of NORMS) {
      const input = bench.random(count * 2 * width, 8);
      const out = await bench.output(count * width);
      bench.launch('silu-mul', { input: await bench.upload(input), out, count, width });
      expectClose(
        `silu-mul ${count} x ${width}`,
        await bench.download(out),
        referenceSiluMul(input, width),
        bench.tolerance,
      );
    }
  }),
  benchCase('select', 'arithmetic', async (bench) => {
    const width = 80;
    const input = bench.random(9 * width);
    const indices = [8, 0, -1, 3, 3];
    const out = await bench.output(indices.length * width);
    bench.launch('select', {
      input: await bench.upload(input),
      indices: await bench.uploadWords(indices),
      out,
      count: indices.length,
      width,
    });
    const lines = await bench.download(out);
    indices.forEach((index, i) => {
      if (index < 0) return;
      const line = lines.subarray(i * width, (i + 1) * width);
      expectSame(`line ${i}`, line, input.subarray(index * width, (index + 1) * width));
    });
  }),
  benchCase('fill-uniform', 'arithmetic', async (bench) => {
    const elements = 10_007;
    for (const type of ['f32', 'bf16'] as const) {
      const out = await bench.output(elements, type);
      bench.launch('fill-uniform', { out, elements, type, mean: 0.5, spread: 0.25, seed: 77 });
      const values = await bench.download(out, type);
      const expected = Float64Array.from(
        { length: elements },
        (_, i) => 0.5 + 0.25 * (2 * hashUniform(77, i) - 1),
      );
      expectClose(`fill-uniform ${type}`, values, expected, type === 'f32' ? 1e-6 : 1e-2);
      expectThat(new Set(values).size > elements / 100, 'fill-uniform repeats itself');
    }
  }),
];
