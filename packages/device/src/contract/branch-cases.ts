import type { NormOffset } from '../ops.ts';
import { type ContractCase, expectClose } from './case.ts';
import { referenceGate, referenceRmsNorm, referenceSigmoid } from './reference.ts';
import { benchCase, type Workbench } from './workbench.ts';

const EPSILON = 1e-5;
const SIZES = [
  [1, 64],
  [3, 77],
  [5, 2880],
  [130, 96],
] as const;

async function checkAddBranch(
  bench: Workbench,
  [count, width]: readonly [number, number],
  normOffset: NormOffset | null,
  ofSum: number | null,
  epilogue: 'add' | 'store' = 'add',
): Promise<void> {
  const [input, before] = [bench.random(count * width, 3), bench.random(count * width)];
  const norm = normOffset === null ? null : bench.random(width);
  const isAdded = epilogue === 'add';
  const out = isAdded ? await bench.upload(before) : await bench.output(before.length);
  bench.launch('add-branch', {
    input: await bench.upload(input),
    norm: norm && (await bench.upload(norm)),
    normOffset: normOffset ?? 0,
    epsilon: EPSILON,
    scale: 0.22,
    outScale: ofSum === null ? null : await bench.upload(Float32Array.of(ofSum)),
    epilogue,
    out,
    count,
    width,
  });
  const weights = norm?.map((weight) => weight + normOffset!);
  const branch = weights === undefined ? input : referenceRmsNorm(input, weights, width, EPSILON);
  const expected = Float64Array.from(
    before,
    (value, i) => ((isAdded ? value : 0) + 0.22 * branch[i]!) * (ofSum ?? 1),
  );
  const how = `norm offset ${normOffset}, times ${ofSum}, ${epilogue}`;
  const what = `add-branch ${count} x ${width}, ${how}`;
  expectClose(what, await bench.download(out), expected, bench.tolerance);
}

/** Lines of which a span is changed: what is beside it must stay as it is. */
async function checkSpans(bench: Workbench): Promise<void> {
  for (const [count, width] of SIZES) {
    const [stride, first] = [width + 40, 16];
    const lines = bench.random(count * stride, 2);
    const norm = bench.random(width);
    const out = await bench.upload(lines);
    const upload = await bench.upload(norm);
    bench.launch('norm-span', {
      lines: out,
      norm: upload,
      epsilon: EPSILON,
      count,
      stride,
      first,
      width,
    });
    const expected = new Float64Array(lines);
    for (let line = 0; line < count; line++) {
      const at = line * stride + first;
      expected.set(referenceRmsNorm(lines.subarray(at, at + width), norm, width, EPSILON), at);
    }
    const what = `norm-span ${count} x ${width}`;
    expectClose(what, await bench.download(out), expected, bench.tolerance);
  }
}

async function checkPositions(bench: Workbench): Promise<void> {
  const positions = [0, 15, 16, 31, 32, 1000, -1];
  const [stride, width, period, beta] = [100, 72, 16, 0.1];
  const count = positions.length;
  const values = bench.random(count * stride);
  const lines = await bench.upload(values);
  const uploaded = await bench.uploadWords(positions);
  const args = { lines, positions: uploaded, beta, period, count, stride, width };
  bench.launch('scale-by-position', args);
  const expected = Float64Array.from(values, (value, i) => {
    const position = positions[Math.floor(i / stride)]!;
    const isScaled = i % stride < width && position >= 0;
    return isScaled ? value * (1 + beta * Math.log(1 + Math.floor(position / period))) : value;
  });
  expectClose('scale-by-position', await bench.download(lines), expected, bench.tolerance);
}

async function checkGates(bench: Workbench): Promise<void> {
  for (const [count, width] of SIZES) {
    const [input, before] = [bench.random(count * width, 4), bench.random(count * width)];
    const out = await bench.upload(before);
    const uploaded = await bench.upload(input);
    bench.launch('sigmoid-gate', { input: uploaded, out, elements: count * width });
    const gated = Float64Array.from(before, (value, i) => value * referenceSigmoid(input[i]!));
    const found = await bench.download(out);
    expectClose(`sigmoid-gate ${count} x ${width}`, found, gated, bench.tolerance);
    const inputs = 80;
    const [lines, weight] = [bench.random(count * inputs), bench.random(inputs, 0.5)];
    const lineOut = await bench.upload(before);
    bench.launch('gate-lines', {
      input: await bench.upload(lines),
      weight: await bench.upload(weight),
      out: lineOut,
      count,
      inputs,
      width,
    });
    const expected = Float64Array.from(before, (value, i) => {
      const start = Math.floor(i / width) * inputs;
      const sum = weight.reduce((total, each, k) => total + each * lines[start + k]!, 0);
      return value * referenceSigmoid(sum);
    });
    const lineFound = await bench.download(lineOut);
    expectClose(`gate-lines ${count} x ${width}`, lineFound, expected, bench.tolerance);
  }
}

async function checkGatedSpans(bench: Workbench): Promise<void> {
  for (const [count, width] of SIZES) {
    const [stride, first] = [width + 40, 16];
    const [values, lines] = [bench.random(count * width, 3), bench.random(count * stride)];
    const uploaded = await bench.upload(lines);
    for (const activation of ['silu', 'gelu-tanh'] as const) {
      const out = await bench.upload(values);
      const sizes = { count, width, stride, first };
      bench.launch('gate-span', { out, lines: uploaded, activation, ...sizes });
      // A gate's halves, line by line.
      const both = Float32Array.from({ length: 2 * values.length }, (_, i) => {
        const [line, at] = [Math.floor(i / 2 / width), i % (2 * width)];
        return at < width ? values[line * width + at]! : lines[line * stride + first + at - width]!;
      });
      const what = `gate-span ${count} x ${width} by ${activation}`;
      const expected = referenceGate(both, width, activation);
      expectClose(what, await bench.download(out), expected, bench.tolerance);
    }
  }
}

async function checkLogits(bench: Workbench): Promise<void> {
  const values = bench.dice.values(5000, 60);
  for (const [scale, cap] of [
    [0.125, 0],
    [1, 30],
    [0.5, 30],
  ] as const) {
    const logits = await bench.upload(values, 'f32');
    bench.launch('finish-logits', { logits, scale, cap, elements: values.length });
    const expected = Float64Array.from(values, (value) =>
      cap === 0 ? value * scale : cap * Math.tanh((value * scale) / cap),
    );
    const found = await bench.download(logits, 'f32');
    expectClose(`finish-logits ${scale}, ${cap}`, found, expected, 1e-5);
  }
}

export const branchCases: readonly ContractCase[] = [
  benchCase('branches are added', 'arithmetic', async (bench) => {
    for (const size of SIZES) {
      for (const offset of [null, 0, 1] as const) await checkAddBranch(bench, size, offset, null);
      await checkAddBranch(bench, size, 0, 0.75);
      await checkAddBranch(bench, size, 0, null, 'store');
    }
  }),
  benchCase('spans of lines are normalised', 'arithmetic', checkSpans),
  benchCase('queries are scaled by their positions', 'arithmetic', checkPositions),
  benchCase('branches gate spans of lines', 'arithmetic', checkGatedSpans),
  benchCase('sigmoids gate elements and lines', 'arithmetic', checkGates),
  benchCase('logits are scaled and capped', 'arithmetic', checkLogits),
];
