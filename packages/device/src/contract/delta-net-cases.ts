import { bytesPerElement, type Slice } from '../device.ts';
import { type ContractCase, expectClose, expectSame, expectThat } from './case.ts';
import { type Numbers, referenceRmsNorm, referenceSigmoid } from './reference.ts';
import { benchCase, type Workbench } from './workbench.ts';

/** Rows that a state is there for, and the layers in it, of which the last is worked on. */
const ROWS = 5;
const LAYERS = 2;
const TAPS = 4;

interface Run {
  readonly row: number;
  readonly start: number;
  readonly length: number;
}

/** Runs of prompts, from the start and from the middle, and single tokens; padding between. */
const BATCHES: readonly (readonly Run[])[] = [
  [{ row: 3, start: 0, length: 1 }],
  [
    { row: 1, start: 0, length: 9 },
    { row: 4, start: 7, length: 5 },
    { row: -1, start: 0, length: 2 },
    { row: 0, start: 2, length: 1 },
    { row: 2, start: 0, length: 2 },
  ],
  [2, 0, -1, 4, 1].map((row, i) => ({ row, start: i, length: 1 })),
];

function tokensOf(batch: readonly Run[]) {
  const rows = batch.flatMap(({ row, length }) => new Array<number>(length).fill(row));
  const positions = batch.flatMap(({ start, length }) =>
    Array.from({ length }, (_, i) => start + i),
  );
  return { rows, positions, count: rows.length };
}

/** Walks over the tokens of each row that is none of padding, with where they are in the batch. */
function forRuns(batch: readonly Run[], visit: (run: Run, first: number) => void): void {
  let first = 0;
  for (const run of batch) {
    if (run.row >= 0) visit(run, first);
    first += run.length;
  }
}

/** Lines of padding are undefined. */
const linesOf = (values: Numbers, rows: readonly number[], width: number) =>
  rows.flatMap((row, i) =>
    row < 0 ? [] : Array.from({ length: width }, (_, at) => values[i * width + at]!),
  );

const silu = (x: number) => x * referenceSigmoid(x);

async function checkConv(
  bench: Workbench,
  batch: readonly Run[],
  channels: number,
  isTrial: boolean,
) {
  const { rows, positions, count } = tokensOf(batch);
  const stride = channels + 24;
  const elementBytes = bytesPerElement(bench.element);
  const size = (TAPS - 1) * channels;
  const [lines, weight] = [bench.random(count * stride), bench.random(channels * TAPS)];
  const before = bench.random(ROWS * LAYERS * size);
  const states = await bench.upload(before);
  const out = await bench.output(count * channels);
  bench.launch('causal-conv', {
    states,
    rowBytes: LAYERS * size * elementBytes,
    layerBytes: size * elementBytes,
    tokenRows: await bench.uploadWords(rows),
    positions: await bench.uploadWords(positions),
    count,
    isTrial,
    lines: await bench.upload(lines),
    weight: await bench.upload(weight),
    out,
    stride,
    channels,
  });
  const expected = new Float64Array(count * channels);
  const after = new Float64Array(before);
  forRuns(batch, ({ row, start, length }, first) => {
    const state = (row * LAYERS + 1) * size;
    for (let channel = 0; channel < channels; channel++) {
      const earlier = [0, 1, 2].map((i) =>
        start === 0 ? 0 : before[state + i * channels + channel]!,
      );
      const own = Array.from({ length }, (_, i) => lines[(first + i) * stride + channel]!);
      const all = [...earlier, ...own];
      own.forEach((_, i) => {
        const sum = [0, 1, 2, 3].reduce((t, j) => t + weight[channel * TAPS + j]! * all[i + j]!, 0);
        expected[(first + i) * channels + channel] = silu(sum);
      });
      if (isTrial) continue;
      all.slice(-3).forEach((value, i) => {
        after[state + i * channels + channel] = value;
      });
    }
  });
  const what = `causal-conv of ${channels} channels, ${count} tokens${isTrial ? ', trial' : ''}`;
  const found = linesOf(await bench.download(out), rows, channels);
  expectClose(what, found, linesOf(expected, rows, channels), bench.tolerance);
  expectSame(`${what}: states`, await bench.download(states), after);
}

interface RuleShape {
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

const RULES: readonly RuleShape[] = [
  { keyHeads: 1, valueHeads: 1, keyDim: 32, valueDim: 32 },
  { keyHeads: 2, valueHeads: 4, keyDim: 64, valueDim: 40 },
  { keyHeads: 1, valueHeads: 2, keyDim: 128, valueDim: 72 },
];

/** One head's tokens in order: `state` [keyDim, valueDim] is left as it is after the last. */
function referenceRule(
  shape: RuleShape,
  head: number,
  state: Float64Array,
  token: {
    readonly mixed: Numbers;
    readonly gates: Numbers;
    readonly rate: number;
    readonly bias: number;
  },
): Float64Array {
  const { keyHeads, valueHeads, keyDim, valueDim } = shape;
  const keyHead = Math.floor((head * keyHeads) / valueHeads);
  const part = (start: number, length: number) =>
    Array.from({ length }, (_, i) => token.mixed[start + i]!);
  const unit = (values: readonly number[], scale: number) => {
    const length = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) + 1e-6);
    return values.map((value) => (value / length) * scale);
  };
  const query = unit(part(keyHead * keyDim, keyDim), keyDim ** -0.5);
  const key = unit(part((keyHeads + keyHead) * keyDim, keyDim), 1);
  const value = part(2 * keyHeads * keyDim + head * valueDim, valueDim);
  const beta = referenceSigmoid(token.gates[head]!);
  const step = Math.log(1 + Math.exp(token.gates[valueHeads + head]! + token.bias));
  const decay = Math.exp(-Math.exp(token.rate) * step);
  const out = new Float64Array(valueDim);
  for (let j = 0; j < valueDim; j++) {
    let seen = 0;
    for (let i = 0; i < keyDim; i++) seen += decay * state[i * valueDim + j]! * key[i]!;
    const change = beta * (value[j]! - seen);
    for (let i = 0; i < keyDim; i++) {
      const at = i * valueDim + j;
      state[at] = decay * state[at]! + key[i]! * change;
      out[j]! += state[at]! * query[i]!;
    }
  }
  return out;
}

async function checkRule(
  bench: Workbench,
  batch: readonly Run[],
  shape: RuleShape,
  isTrial: boolean,
) {
  const { valueHeads, keyDim, valueDim } = shape;
  const { rows, positions, count } = tokensOf(batch);
  const width = 2 * shape.keyHeads * keyDim + valueHeads * valueDim;
  const size = valueHeads * keyDim * valueDim;
  const [mixed, gates] = [bench.random(count * width), bench.random(count * 2 * valueHeads, 2)];
  const [rates, bias] = [bench.dice.values(valueHeads, 1), bench.dice.values(valueHeads, 1)];
  const before = bench.dice.values(ROWS * LAYERS * size, 0.3);
  const states = await bench.upload(before, 'f32');
  const out = await bench.output(count * valueHeads * valueDim);
  bench.launch('delta-rule', {
    ...shape,
    states,
    rowBytes: LAYERS * size * 4,
    layerBytes: size * 4,
    tokenRows: await bench.uploadWords(rows),
    positions: await bench.uploadWords(positions),
    count,
    isTrial,
    mixed: await bench.upload(mixed),
    gates: await bench.upload(gates),
    decayLog: await bench.upload(rates, 'f32'),
    stepBias: await bench.upload(bias, 'f32'),
    out,
  });
  const expected = new Float64Array(count * valueHeads * valueDim);
  const after = new Float64Array(before);
  forRuns(batch, ({ row, start, length }, first) => {
    for (let head = 0; head < valueHeads; head++) {
      const at = (row * LAYERS + 1) * size + head * keyDim * valueDim;
      const state = after.subarray(at, at + keyDim * valueDim);
      if (start === 0) state.fill(0);
      for (let token = first; token < first + length; token++) {
        const line = referenceRule(shape, head, state, {
          mixed: mixed.subarray(token * width, (token + 1) * width),
          gates: gates.subarray(token * 2 * valueHeads, (token + 1) * 2 * valueHeads),
          rate: rates[head]!,
          bias: bias[head]!,
        });
        expected.set(line, (token * valueHeads + head) * valueDim);
      }
    }
  });
  const { keyHeads } = shape;
  const what = `delta-rule, ${valueHeads}/${keyHeads} heads of ${keyDim} x ${valueDim}, ${count}`;
  const found = linesOf(await bench.download(out), rows, valueHeads * valueDim);
  expectClose(what, found, linesOf(expected, rows, valueHeads * valueDim), bench.tolerance);
  const left = await bench.download(states, 'f32');
  if (isTrial) {
    expectSame(`${what}: states of a trial`, left, before);
    return;
  }
  expectClose(`${what}: states`, left, after, 1e-5);
  const other = rows.includes(1) ? 3 : 1;
  const untouched = [...left.subarray(other * LAYERS * size, (other * LAYERS + 1) * size)];
  const was = before.subarray(other * LAYERS * size, (other * LAYERS + 1) * size);
  expectThat(
    untouched.every((value, i) => value === was[i]),
    `${what}: another layer's changed`,
  );
}

/** Inputs of a run of tokens. */
interface Tokens {
  readonly lines: Float32Array;
  readonly gates: Float32Array;
  readonly count: number;
}

/**
 * What engines do with prefixes: a row's state is put aside, the row goes on, and another row goes
 * on from what was put aside, as the first did and to the last bit.
 */
async function checkSnapshot(bench: Workbench): Promise<void> {
  const shape = { keyHeads: 2, valueHeads: 4, keyDim: 64, valueDim: 40 };
  const { keyHeads, valueHeads, keyDim, valueDim } = shape;
  const channels = 2 * keyHeads * keyDim + valueHeads * valueDim;
  const before = 9;
  const [convBytes, ruleBytes] = [
    (TAPS - 1) * channels * bytesPerElement(bench.element),
    valueHeads * keyDim * valueDim * 4,
  ];
  const [convStates, ruleStates] = [
    await bench.poisoned(ROWS * LAYERS * convBytes),
    await bench.poisoned(ROWS * LAYERS * ruleBytes),
  ];
  const kept = await bench.poisoned(LAYERS * (convBytes + ruleBytes));
  const weight = await bench.upload(bench.random(channels * TAPS));
  const decayLog = await bench.upload(bench.dice.values(valueHeads, 1), 'f32');
  const stepBias = await bench.upload(bench.dice.values(valueHeads, 1), 'f32');
  const tokens = (count: number): Tokens => ({
    lines: bench.random(count * channels),
    gates: bench.random(count * 2 * valueHeads, 2),
    count,
  });
  const [first, second] = [tokens(before), tokens(6)];
  const run = async (row: number, start: number, { lines, gates, count }: Tokens) => {
    const rows = {
      tokenRows: await bench.uploadWords(new Array<number>(count).fill(row)),
      positions: await bench.uploadWords(Array.from({ length: count }, (_, i) => start + i)),
      count,
      isTrial: false,
    };
    const of = (states: Slice, bytes: number) => ({
      states,
      rowBytes: LAYERS * bytes,
      layerBytes: bytes,
    });
    const mixed = await bench.output(count * channels);
    const out = await bench.output(count * valueHeads * valueDim);
    bench.launch('causal-conv', {
      ...rows,
      ...of(convStates, convBytes),
      lines: await bench.upload(lines),
      weight,
      out: mixed,
      stride: channels,
      channels,
    });
    bench.launch('delta-rule', {
      ...shape,
      ...rows,
      ...of(ruleStates, ruleBytes),
      mixed,
      gates: await bench.upload(gates),
      decayLog,
      stepBias,
      out,
    });
    return bench.download(out);
  };
  const part = (all: Slice, index: number, bytes: number): Slice => ({
    ...all,
    offsetBytes: all.offsetBytes + index * bytes,
    bytes,
  });
  const copy = (row: number, isKept: boolean) => {
    const [conv, rule] = [LAYERS * convBytes, LAYERS * ruleBytes];
    const pairs: readonly (readonly [Slice, Slice])[] = [
      [part(convStates, row, conv), { ...kept, bytes: conv }],
      [part(ruleStates, row, rule), { ...kept, offsetBytes: kept.offsetBytes + conv, bytes: rule }],
    ];
    for (const [own, other] of pairs) {
      const [input, out] = isKept ? [own, other] : [other, own];
      bench.launch('copy', { input, out, bytes: own.bytes });
    }
  };
  await run(3, 0, first);
  copy(3, true);
  const expected = await run(3, before, second);
  await run(1, 0, second);
  copy(1, false);
  expectSame('a row that goes on from a snapshot', await run(1, before, second), expected);
  copy(1, false);
  expectSame('another time', await run(1, before, second), expected);
}

async function checkNorm(bench: Workbench, count: number, heads: number, width: number) {
  const [stride, first] = [heads * width + 48, 32];
  const [lines, norm] = [bench.random(count * stride, 3), bench.random(width)];
  const values = bench.random(count * heads * width);
  const out = await bench.upload(values);
  bench.launch('gated-norm', {
    lines: await bench.upload(lines),
    norm: await bench.upload(norm),
    epsilon: 1e-6,
    out,
    count,
    stride,
    first,
    heads,
    width,
  });
  const expected = referenceRmsNorm(values, norm, width, 1e-6).map((value, i) => {
    const line = Math.floor(i / (heads * width));
    return value * silu(lines[line * stride + first + (i % (heads * width))]!);
  });
  const what = `gated-norm ${count} x ${heads} x ${width}`;
  expectClose(what, await bench.download(out), expected, bench.tolerance);
}

export const deltaNetCases: readonly ContractCase[] = [
  benchCase('causal convolutions go on where their rows were', 'arithmetic', async (bench) => {
    for (const batch of BATCHES) {
      for (const channels of [64, 200]) await checkConv(bench, batch, channels, false);
      await checkConv(bench, batch, 64, true);
    }
  }),
  benchCase('the gated delta rule goes on where its rows were', 'arithmetic', async (bench) => {
    for (const batch of BATCHES) {
      for (const shape of RULES) await checkRule(bench, batch, shape, false);
      await checkRule(bench, batch, RULES[1]!, true);
    }
  }),
  benchCase('a row goes on from what another has put aside', 'arithmetic', checkSnapshot),
  benchCase('heads are normalised and gated', 'arithmetic', async (bench) => {
    await checkNorm(bench, 1, 4, 128);
    await checkNorm(bench, 7, 3, 40);
  }),
];
