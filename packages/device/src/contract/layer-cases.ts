import { hashUniform } from '../random.ts';
import { type ContractCase, expectClose, expectSame, expectThat } from './case.ts';
import { filled } from './filled.ts';
import { benchCase } from './workbench.ts';

export const layerCases: readonly ContractCase[] = [
  benchCase('embed', 'arithmetic', async (bench) => {
    const [vocab, width] = [50, 72];
    const table = bench.random(vocab * width);
    const tokens = [0, 49, 7, 7, -1, 50, 0x7fffffff, 3];
    const common = {
      table: await bench.upload(table),
      tokens: await bench.uploadWords(tokens),
      count: tokens.length,
      width,
      vocab,
    };
    const expected = tokens.flatMap((token) => {
      const row = token >= 0 && token < vocab ? token : 0;
      return [...table.subarray(row * width, (row + 1) * width)];
    });
    const out = await bench.output(tokens.length * width);
    bench.launch('embed', { ...common, out, scale: 1 });
    expectSame('embedded lines', await bench.download(out), expected);
    bench.launch('embed', { ...common, out, scale: 5.5 });
    const scaled = expected.map((value) => 5.5 * value);
    expectClose('scaled lines', await bench.download(out), scaled, bench.tolerance);
  }),
  benchCase('copy', 'arithmetic', async (bench) => {
    const bytes = filled(new Uint8Array(1000), () => bench.dice.integer(0, 255));
    const input = await bench.uploadBytes(bytes);
    const out = await bench.poisoned(900);
    bench.launch('copy', { input, out, bytes: 900 });
    expectSame('copied bytes', await bench.downloadBytes(out), bytes.subarray(0, 900));
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
  benchCase('pool', 'arithmetic', async (bench) => {
    for (const width of [80, 77, 1024]) {
      const input = bench.random(9 * width);
      input.fill(0, 3 * width, 4 * width);
      const norm = bench.random(width);
      const indices = [8, 0, -1, 3, 9, 8];
      const out = await bench.output(indices.length * width, 'f32');
      bench.launch('pool', {
        input: await bench.upload(input),
        indices: await bench.uploadWords(indices),
        norm: await bench.upload(norm),
        normOffset: width === 80 ? 1 : 0,
        out,
        count: indices.length,
        width,
      });
      const lines = await bench.download(out, 'f32');
      indices.forEach((index, i) => {
        if (index < 0 || index >= 9) return;
        const weights = norm.map((weight) => weight + (width === 80 ? 1 : 0));
        const line = Float64Array.from(weights, (each, at) => each * input[index * width + at]!);
        const length = Math.hypot(...line) || 1;
        const found = lines.subarray(i * width, (i + 1) * width);
        expectClose(
          `line ${i} of ${width}`,
          found,
          line.map((x) => x / length),
          1e-5,
        );
      });
    }
  }),
  benchCase('fill-uniform', 'arithmetic', async (bench) => {
    const elements = 10_007;
    for (const type of ['f32', 'bf16'] as const) {
      const out = await bench.output(elements, type);
      bench.launch('fill-uniform', { out, elements, type, mean: 0.5, spread: 0.25, seed: 77 });
      const values = await bench.download(out, type);
      const expected = filled(
        new Float64Array(elements),
        (i) => 0.5 + 0.25 * (2 * hashUniform(77, i) - 1),
      );
      expectClose(`fill-uniform ${type}`, values, expected, type === 'f32' ? 1e-6 : 1e-2);
      expectThat(new Set(values).size > elements / 100, 'fill-uniform repeats itself');
    }
    const out = await bench.poisoned(elements);
    const any = { mean: 3, spread: 1, seed: 5 };
    bench.launch('fill-uniform', { out, elements, type: 'bytes', ...any });
    const bytes = filled(new Uint8Array(elements), (i) => Math.floor(256 * hashUniform(5, i)));
    expectSame('fill-uniform bytes', await bench.downloadBytes(out), bytes);
  }),
];
