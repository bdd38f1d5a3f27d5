import { bf16FromF32, f32FromBf16 } from '../bf16.ts';
import { bytesPerElement, type ElementType } from '../device.ts';
import { f32FromF16 } from '../f16.ts';
import {
  type ExpertFormat,
  type ExpertGroups,
  type ExpertShare,
  expertDownWorkspace,
  type GateForm,
  MXFP4_BLOCK,
  type NormOffset,
  routeWorkspace,
  type Weighing,
} from '../ops.ts';
import { type ContractCase, expectClose, expectSame, expectThat } from './case.ts';
import { filled } from './filled.ts';
import { int4Matrix, uploadInt4 } from './linear-cases.ts';
import { referenceFp8, referenceSigmoid } from './reference.ts';
import {
  referenceE2m1,
  referenceGroups,
  referenceMxfp4,
  referenceRow,
  referenceWeights,
} from './reference-experts.ts';
import { benchCase, type Workbench } from './workbench.ts';

const EPSILON = 1e-5;
const SWIGLU: GateForm = { limit: Number.POSITIVE_INFINITY, alpha: 1, shift: 0 };
const GEGLU: GateForm = { limit: Number.POSITIVE_INFINITY, alpha: 'gelu-tanh', shift: 0 };
const CLAMPED: GateForm = { limit: 0.5, alpha: 1.702, shift: 1 };

interface RouteCase {
  readonly count: number;
  readonly width: number;
  readonly experts: number;
  readonly topK: number;
  readonly hasBias: boolean;
  readonly weighing: Weighing;
  readonly normOffset?: NormOffset;
  /** How many, and how many of them a line chooses from; absent: one. */
  readonly groups?: readonly [all: number, kept: number];
}

/** Poisoned outputs for who goes where. */
async function groupOutputs(
  bench: Workbench,
  { count, topK, experts: allExperts }: RouteCase,
  experts = allExperts,
) {
  return {
    chosen: await bench.poisoned(4 * count * topK),
    starts: await bench.poisoned(4 * (experts + 1)),
    order: await bench.poisoned(4 * count * topK),
    count,
    experts,
    allExperts,
    topK,
  };
}

/** Logits no further apart than this, in units of their spread, may be ordered either way. */
const NEAR: Readonly<Record<ElementType, number>> = { f32: 1e-4, bf16: 4e-2 };

function referenceActivated(gate: number, alpha: GateForm['alpha']): number {
  if (alpha !== 'gelu-tanh') return gate / (1 + Math.exp(-alpha * gate));
  const inner = Math.sqrt(2 / Math.PI) * (gate + 0.044715 * gate ** 3);
  return (gate * (1 + Math.tanh(inner))) / 2;
}

/**
 * Whether each is in a group that is chosen from; null: two groups are too near to say, where
 * logits are off by `near`, sigmoids by a quarter of it, and two of them by half.
 */
function eligibleOf(
  scores: readonly number[],
  [groups, kept]: readonly [all: number, kept: number],
  near: number,
): readonly boolean[] | null {
  const size = scores.length / groups;
  const totals = Array.from({ length: groups }, (_, group) => {
    const own = scores.slice(group * size, (group + 1) * size).sort((a, b) => b - a);
    return own[0]! + (own[1] ?? 0);
  });
  const order = [...totals.keys()].sort((a, b) => totals[b]! - totals[a]!);
  if (kept < groups && totals[order[kept - 1]!]! - totals[order[kept]!]! < near) return null;
  const best = order.slice(0, kept);
  return scores.map((_, expert) => best.includes(Math.floor(expert / size)));
}

async function checkRoute(bench: Workbench, test: RouteCase): Promise<void> {
  const { count, width, experts, topK, hasBias, weighing, normOffset = 0 } = test;
  const { groups: choice = [1, 1] } = test;
  const [choiceGroups, keptGroups] = choice;
  const isSigmoid = weighing.startsWith('sigmoid');
  const input = bench.random(count * width, 3);
  const norm = bench.random(width);
  // Of large logits all sigmoids are one, and groups alike.
  const router = bench.random(experts * width, choiceGroups > 1 ? 0.1 : 1);
  // The last expert is the first one's twin: their logits are equal, and the first comes first.
  router.copyWithin((experts - 1) * width, 0, width);
  const bias = hasBias ? bench.random(experts, 2) : null;
  if (bias !== null) bias[experts - 1] = bias[0]!;
  const choiceBias = isSigmoid && hasBias ? bench.dice.values(experts, 0.5) : null;
  if (choiceBias !== null) choiceBias[experts - 1] = choiceBias[0]!;
  const weightScale = isSigmoid ? 2.5 : 1;
  const logitScale = hasBias ? 0.5 : 1;
  const expertScales = hasBias ? bench.dice.values(experts, 2) : null;
  const rows = Array.from({ length: count }, (_, i) => (i % 5 === 3 ? -1 : i));
  const groups = await groupOutputs(bench, test);
  const normed = await bench.output(count * width);
  const weights = await bench.output(count * topK, 'f32');
  const { bytes } = routeWorkspace({ ...groups, width }, bytesPerElement(bench.element));
  bench.launch('route', {
    ...groups,
    input: await bench.upload(input),
    norm: await bench.upload(norm),
    normOffset,
    epsilon: EPSILON,
    normed,
    router: await bench.upload(router),
    routerBias: bias && (await bench.upload(bias)),
    choiceBias: choiceBias && (await bench.upload(choiceBias, 'f32')),
    choiceGroups,
    keptGroups,
    logitScale,
    expertScales: expertScales && (await bench.upload(expertScales, 'f32')),
    weighing,
    weightScale,
    tokenRows: await bench.uploadWords(rows),
    weights,
    width,
    shares: [[0, experts]],
    workspace: await bench.poisoned(bytes, 'contract workspace'),
  });
  const what = `route ${count} x ${width} to ${topK} of ${experts}, ${weighing}`;
  const chosen = await bench.downloadWords(groups.chosen);
  const [lines, actual] = [await bench.download(normed), await bench.download(weights, 'f32')];
  const expected = new Float64Array(count * width);
  let torn = 0;
  for (let line = 0; line < count; line++) {
    const slots = [...chosen.subarray(line * topK, (line + 1) * topK)];
    const x = input.subarray(line * width, (line + 1) * width);
    const squares = x.reduce((sum, value) => sum + value * value, 0);
    const scale = 1 / Math.sqrt(squares / width + EPSILON);
    const own = Array.from(x, (value, k) => value * scale * (norm[k]! + normOffset));
    expected.set(own, line * width);
    if (rows[line]! < 0) {
      expectSame(`${what}: experts of padding`, slots, new Array<number>(topK).fill(-1));
      continue;
    }
    const logits = Array.from(
      { length: experts },
      (_, e) => logitScale * referenceRow(router, bias, e, own),
    );
    const scores = logits.map((logit, i) =>
      isSigmoid ? referenceSigmoid(logit) + (choiceBias?.[i] ?? 0) : logit,
    );
    const near = NEAR[bench.element] * (Math.hypot(...logits) / Math.sqrt(experts));
    const eligible = eligibleOf(scores, choice, near);
    if (eligible === null) torn += 1;
    const best = scores.filter((_, i) => eligible?.[i] ?? true).sort((a, b) => b - a);
    expectThat(new Set(slots).size === topK, `${what}: line ${line} has an expert twice`);
    slots.forEach((expert, slot) => {
      if (eligible === null) return;
      const score = eligible[expert] ? scores[expert]! : Number.NaN;
      const gap = Math.abs(score - best[slot]!);
      expectThat(gap <= near, `${what}: slot ${slot} of line ${line} has expert ${expert}`);
    });
    const [first, twin] = [slots.indexOf(0), slots.indexOf(experts - 1)];
    // Of groups one may be out of the question, and the other not.
    const isOrdered = experts === 1 || choiceGroups > 1 || twin < 0 || (first >= 0 && first < twin);
    expectThat(isOrdered, `${what}: line ${line} has expert 0 behind its equal`);
    const given = actual.subarray(line * topK, (line + 1) * topK);
    // A logit's error is one of its weight's own size.
    const wanted = referenceWeights(logits, slots, weighing, weightScale).map(
      (weight, slot) => weight * (expertScales?.[slots[slot]!] ?? 1),
    );
    expectClose(`${what}: weights`, given, wanted, 10 * bench.tolerance);
  }
  expectThat(torn <= count / 2, `${what}: ${torn} lines are torn between groups`);
  expectClose(`${what}: normalised lines`, lines, expected, bench.tolerance);
  const { starts, order } = referenceGroups(chosen, experts);
  expectSame(`${what}: starts`, await bench.downloadWords(groups.starts), starts);
  const given = await bench.downloadWords(groups.order);
  expectSame(`${what}: order`, given.subarray(0, order.length), order);
}

/**
 * Devices that have a part of the experts each, one of them fewer than there is room for: together
 * they choose what one that has all of them chooses, with the same weights.
 */
async function checkShares(bench: Workbench, test: RouteCase): Promise<void> {
  const { count, width, experts, topK, weighing } = test;
  const input = await bench.upload(bench.random(count * width, 3));
  const norm = await bench.upload(bench.random(width));
  const router = await bench.upload(bench.random(experts * width));
  const rows = Array.from({ length: count }, (_, i) => (i % 5 === 3 ? -1 : i));
  const tokenRows = await bench.uploadWords(rows);
  const routed = async ([from, to]: ExpertShare, room: number) => {
    const groups = await groupOutputs(bench, test, room);
    const weights = await bench.output(count * topK, 'f32');
    const { bytes } = routeWorkspace({ ...groups, width }, bytesPerElement(bench.element));
    bench.launch('route', {
      ...groups,
      input,
      norm,
      normOffset: 0,
      epsilon: EPSILON,
      normed: await bench.output(count * width),
      router,
      routerBias: null,
      choiceBias: null,
      choiceGroups: 1,
      keptGroups: 1,
      logitScale: 1,
      expertScales: null,
      weighing,
      weightScale: 1,
      tokenRows,
      weights,
      width,
      shares: [[from, to]],
      workspace: await bench.poisoned(bytes, 'contract workspace'),
    });
    return {
      chosen: await bench.downloadWords(groups.chosen),
      starts: await bench.downloadWords(groups.starts),
      order: await bench.downloadWords(groups.order),
      weights: await bench.download(weights, 'f32'),
    };
  };
  const all = await routed([0, experts], experts);
  const [first, second] = [Math.ceil(experts / 3), Math.ceil((2 * experts) / 3)];
  const room = Math.ceil(experts / 3) + 1;
  for (const [from, to] of [
    [0, first],
    [first, second],
    [second, experts],
  ] as const) {
    const what = `experts ${from} to ${to} of ${experts}, ${count} lines`;
    const own = await routed([from, to], room);
    const wanted = [...all.chosen].map((each) => (each >= from && each < to ? each - from : -1));
    expectSame(`${what}: chosen`, own.chosen, wanted);
    expectSame(`${what}: weights`, own.weights, all.weights);
    const { starts, order } = referenceGroups(wanted, room);
    expectSame(`${what}: starts`, own.starts, starts);
    expectSame(`${what}: order`, own.order.subarray(0, order.length), order);
  }
}

/** How assignments are spread over experts. */
type Spread = 'random' | 'collapsed' | 'with gaps';

interface ExpertCase {
  readonly format: ExpertFormat;
  readonly count: number;
  readonly topK: number;
  readonly experts: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly spread: Spread;
  readonly hasBias: boolean;
}

/** Experts of each line: different ones, unless all lines collapse onto the first few. */
function choose(bench: Workbench, { count, topK, experts, spread }: ExpertCase): number[] {
  return Array.from({ length: count }, (_, line) => {
    const own = bench.dice.permutation(experts).slice(0, topK);
    if (spread === 'collapsed') return own.map((_, slot) => (slot + experts - 1) % experts);
    if (spread === 'with gaps' && line % 3 === 1) return own.map(() => -1);
    return own;
  }).flat();
}

async function uploadGroups(bench: Workbench, test: ExpertCase, chosen: readonly number[]) {
  const { count, topK, experts } = test;
  const { starts, order } = referenceGroups(chosen, experts);
  const padded = [...order, ...new Array<number>(chosen.length - order.length).fill(0x7fffffff)];
  const groups: ExpertGroups = {
    chosen: await bench.uploadWords(chosen),
    starts: await bench.uploadWords(starts),
    order: await bench.uploadWords(padded),
    count,
    experts,
    allExperts: experts,
    topK,
  };
  return groups;
}

/** Weights [rows, inputs] on the device, and their values. */
async function experts(bench: Workbench, format: ExpertFormat, rows: number, inputs: number) {
  const { dice } = bench;
  if (format === 'element') {
    const values = bench.once('experts', () => bench.random(rows * inputs));
    const element = { format, scales: null, blockOutputs: 1, blockInputs: 1 } as const;
    return { values: () => values, weight: await bench.upload(values), ...element };
  }
  if (format === 'mxfp4') {
    const { bytes, scales } = bench.once('experts in mxfp4', () => ({
      bytes: filled(new Uint8Array((rows * inputs) / 2), () => dice.integer(0, 255)),
      scales: filled(new Uint8Array((rows * inputs) / MXFP4_BLOCK), () => dice.integer(123, 126)),
    }));
    return {
      values: () => referenceMxfp4(bytes, scales),
      weight: await bench.uploadBytes(bytes),
      format,
      scales: await bench.uploadBytes(scales),
      blockOutputs: 1,
      blockInputs: MXFP4_BLOCK,
    };
  }
  if (format === 'int4') {
    const group = [inputs === 192 ? 192 : 128, 64, 32].find((size) => inputs % size === 0)!;
    return int4Matrix(bench, inputs, rows, group);
  }
  const codes = bench.once('experts in FP8', () =>
    filled(new Uint8Array(rows * inputs), () => {
      const code = dice.integer(0, 253);
      return code < 127 ? code : code + 1;
    }),
  );
  const block = [rows % 32 === 0 ? 32 : 1, Math.min(inputs, 128)] as const;
  const blocks = Math.ceil(rows / block[0]) * Math.ceil(inputs / block[1]);
  const scales = filled(new Float32Array(blocks), () => 0.004 * (1 + dice.uniform()));
  return {
    values: () => referenceFp8(codes, scales, inputs, block),
    weight: await bench.uploadBytes(codes),
    format,
    scales: await bench.upload(scales, 'f32'),
    blockOutputs: block[0],
    blockInputs: block[1],
  };
}

function describe(what: string, test: ExpertCase): string {
  const { format, count, topK, experts, inputs, outputs, spread } = test;
  const spreading = `${topK} of ${experts} experts ${spread}`;
  return `${what} ${format}, ${count} lines, ${spreading}, ${inputs} x ${outputs}`;
}

async function checkGate(bench: Workbench, test: ExpertCase, form: GateForm): Promise<void> {
  const { format, count, topK, experts: number, inputs, outputs: inner } = test;
  const isInterleaved = form === CLAMPED;
  const { values, ...matrix } = await experts(bench, format, number * 2 * inner, inputs);
  const input = bench.once('input', () => bench.random(count * inputs, 0.3));
  const bias = test.hasBias ? bench.random(number * 2 * inner) : null;
  const chosen = choose(bench, test);
  const out = await bench.output(count * topK * inner);
  bench.launch('expert-gate', {
    ...(await uploadGroups(bench, test, chosen)),
    ...matrix,
    ...form,
    input: await bench.upload(input),
    bias: bias && (await bench.upload(bias)),
    out,
    inputs,
    inner,
    isInterleaved,
  });
  const lines = await bench.download(out);
  const of = chosen.flatMap((expert, assignment) => (expert < 0 ? [] : [{ expert, assignment }]));
  const what = describe('expert-gate', test);
  const wanted = bench.once(`${what} ${form.alpha}`, () => {
    const weights = values();
    return of.flatMap(({ expert, assignment }) => {
      const line = Math.floor(assignment / topK) * inputs;
      const x = input.subarray(line, line + inputs);
      return Array.from({ length: inner }, (_, unit) => {
        const row = expert * 2 * inner;
        const [gateRow, upRow] = isInterleaved
          ? [row + 2 * unit, row + 2 * unit + 1]
          : [row + unit, row + inner + unit];
        const gate = Math.min(referenceRow(weights, bias, gateRow, x), form.limit);
        const up = referenceRow(weights, bias, upRow, x);
        const held = Math.max(-form.limit, Math.min(up, form.limit));
        return referenceActivated(gate, form.alpha) * (held + form.shift);
      });
    });
  });
  const actual = of.flatMap(({ assignment }) => [
    ...lines.subarray(assignment * inner, (assignment + 1) * inner),
  ]);
  expectClose(what, actual, wanted, bench.tolerance);
}

async function checkDown(
  bench: Workbench,
  test: ExpertCase,
  epilogue: 'store' | 'add',
): Promise<void> {
  const { format, count, topK, experts: number, inputs, outputs } = test;
  const { values, ...matrix } = await experts(bench, format, number * outputs, inputs);
  const chosen = choose(bench, test);
  // Lines of assignments to no expert are poison.
  const input = bench.once('input', () => {
    const lines = bench.random(count * topK * inputs, 0.3);
    chosen.forEach((expert, i) => {
      if (expert < 0) lines.fill(Number.NaN, i * inputs, (i + 1) * inputs);
    });
    return lines;
  });
  const bias = test.hasBias ? bench.random(number * outputs) : null;
  const weights = bench.dice.values(count * topK);
  const before = bench.random(count * outputs);
  const out = epilogue === 'add' ? await bench.upload(before) : await bench.output(before.length);
  bench.launch('expert-down', {
    ...(await uploadGroups(bench, test, chosen)),
    ...matrix,
    input: await bench.upload(input),
    bias: bias && (await bench.upload(bias)),
    weights: await bench.upload(weights, 'f32'),
    epilogue,
    out,
    inputs,
    outputs,
    workspace: await bench.poisoned(expertDownWorkspace(test), 'contract workspace'),
  });
  const what = describe('expert-down', test);
  const wanted = bench.once(`${what} ${epilogue}`, () => {
    const matrixValues = values();
    const sums = Float64Array.from(before, (value) => (epilogue === 'add' ? value : 0));
    chosen.forEach((expert, assignment) => {
      if (expert < 0) return;
      const line = Math.floor(assignment / topK);
      const x = input.subarray(assignment * inputs, (assignment + 1) * inputs);
      for (let column = 0; column < outputs; column++) {
        const sum = referenceRow(matrixValues, bias, expert * outputs + column, x);
        sums[line * outputs + column]! += weights[assignment]! * sum;
      }
    });
    return sums;
  });
  expectClose(what, await bench.download(out), wanted, bench.tolerance);
}

/** One line and few, more than a warp's lanes of assignments, many for each expert. */
const SIZES: readonly Omit<ExpertCase, 'format' | 'hasBias'>[] = [
  { count: 1, topK: 1, experts: 1, inputs: 64, outputs: 24, spread: 'random' },
  { count: 1, topK: 4, experts: 7, inputs: 192, outputs: 70, spread: 'random' },
  { count: 3, topK: 8, experts: 13, inputs: 128, outputs: 130, spread: 'with gaps' },
  { count: 8, topK: 4, experts: 5, inputs: 320, outputs: 40, spread: 'random' },
  { count: 31, topK: 2, experts: 33, inputs: 64, outputs: 66, spread: 'with gaps' },
  { count: 3, topK: 4, experts: 11, inputs: 576, outputs: 50, spread: 'with gaps' },
  { count: 40, topK: 2, experts: 12, inputs: 576, outputs: 50, spread: 'collapsed' },
  { count: 50, topK: 3, experts: 6, inputs: 96, outputs: 48, spread: 'random' },
  { count: 40, topK: 2, experts: 9, inputs: 160, outputs: 34, spread: 'collapsed' },
  { count: 150, topK: 1, experts: 3, inputs: 64, outputs: 20, spread: 'collapsed' },
  { count: 60, topK: 2, experts: 3, inputs: 96, outputs: 72, spread: 'with gaps' },
  { count: 140, topK: 2, experts: 3, inputs: 352, outputs: 26, spread: 'collapsed' },
  { count: 200, topK: 2, experts: 4, inputs: 160, outputs: 22, spread: 'random' },
];
const FORMATS: readonly ExpertFormat[] = ['element', 'fp8-e4m3', 'mxfp4', 'int4'];

async function checkAll(check: (test: ExpertCase) => Promise<void>): Promise<void> {
  for (const format of FORMATS) {
    for (const size of SIZES) {
      await check({ ...size, format, hasBias: false });
      await check({ ...size, format, hasBias: true });
    }
  }
}

/** Codes times scales as they leave the device: products with lines of a single one. */
async function checkMxfp4(bench: Workbench, blocks: number, experts: number): Promise<void> {
  // Row s of an expert has scale s, and each of its blocks all codes twice.
  const [inputs, outputs] = [32 * blocks, 256];
  const codes = filled(new Uint8Array(experts * outputs * blocks * 16), (i) => {
    const first = (2 * (i % 16)) % 16;
    return first | ((first + 1) << 4);
  });
  const lines = 16;
  const input = new Float32Array(lines * inputs);
  for (let line = 0; line < lines; line++) {
    // Whose codes of the last block they meet.
    input[(line + 1) * inputs - MXFP4_BLOCK + line] = 1;
  }
  const chosen = new Array<number>(lines).fill(0);
  const test = { count: lines, topK: 1, experts, inputs, outputs } as const;
  const spread = 'collapsed' as const;
  const groups = await uploadGroups(
    bench,
    { ...test, format: 'mxfp4', spread, hasBias: false },
    chosen,
  );
  const out = await bench.upload(new Float32Array(lines * outputs));
  bench.launch('expert-down', {
    ...groups,
    weight: await bench.uploadBytes(codes),
    format: 'mxfp4',
    scales: await bench.uploadBytes(
      filled(new Uint8Array(experts * outputs * blocks), (i) => Math.floor(i / blocks) % outputs),
    ),
    blockOutputs: 1,
    blockInputs: MXFP4_BLOCK,
    input: await bench.upload(input),
    bias: null,
    weights: await bench.upload(new Float32Array(lines).fill(1), 'f32'),
    epilogue: 'add',
    out,
    inputs,
    outputs,
    workspace: await bench.poisoned(expertDownWorkspace(test)),
  });
  const actual = await bench.download(out);
  for (let code = 0; code < 16; code++) {
    for (let scale = 0; scale < 256; scale++) {
      const found = actual[code * outputs + scale]!;
      const what = `code ${code} under scale ${scale} is ${found}`;
      if (scale > 128) {
        expectThat(!Number.isFinite(found), `${what}, not out of range`);
      } else {
        const value = referenceE2m1(code) * 2 ** (scale - 127);
        expectThat(found === value, `${what}, expected ${value}`);
      }
    }
  }
}

/**
 * Every code under every zero point, with scales of f16: by lines that each pick one input, values
 * come out rounded once to the device's elements.
 */
async function checkInt4(bench: Workbench, count: number): Promise<void> {
  const [inputs, group, outputs] = [256, 32, 17 * 16];
  const groups = inputs / group;
  // Output o has zero point o / 16, and its code of input i is o + i.
  const codes = filled(
    new Uint8Array(outputs * inputs),
    (i) => (Math.floor(i / inputs) + (i % inputs)) % 16,
  );
  const zeros = filled(new Uint8Array(outputs * groups), (i) => Math.floor(i / groups / 16));
  const scales = f32FromF16(
    filled(new Uint16Array(outputs * groups), () => bench.dice.integer(0x1000, 0x4fff)),
  );
  const weight = await uploadInt4(bench, codes, scales, zeros);
  const test = { count, topK: 1, experts: 1, inputs, outputs } as const;
  const groupsOf = { ...test, format: 'int4', spread: 'collapsed', hasBias: false } as const;
  for (let first = 0; first < inputs; first += count) {
    const lines = new Float32Array(count * inputs);
    const inputOf = (line: number) => (first + line) % inputs;
    for (let line = 0; line < count; line++) lines[line * inputs + inputOf(line)] = 1;
    const out = await bench.output(count * outputs);
    bench.launch('expert-down', {
      ...(await uploadGroups(bench, groupsOf, new Array<number>(count).fill(0))),
      ...weight,
      blockInputs: group,
      input: await bench.upload(lines),
      bias: null,
      weights: await bench.upload(new Float32Array(count).fill(1), 'f32'),
      epilogue: 'store',
      out,
      inputs,
      outputs,
      workspace: await bench.poisoned(expertDownWorkspace(test), 'contract workspace'),
    });
    const actual = await bench.download(out);
    const exact = filled(new Float32Array(actual.length), (i) => {
      const [line, output] = [Math.floor(i / outputs), i % outputs];
      const scale = scales[output * groups + Math.floor(inputOf(line) / group)]!;
      return (((output + inputOf(line)) % 16) - Math.floor(output / 16)) * scale;
    });
    const wanted = bench.element === 'f32' ? exact : f32FromBf16(bf16FromF32(exact));
    expectSame(`int4 of experts by ${count} lines from ${first} on`, actual, wanted);
  }
}

export const expertCases: readonly ContractCase[] = [
  benchCase('routes to experts', 'arithmetic', async (bench) => {
    const sizes = [
      [1, 64, 8, 1],
      [1, 2880, 32, 4],
      [4, 256, 5, 5],
      [7, 96, 33, 3],
      [4, 72, 129, 8],
      [40, 128, 128, 4],
      [150, 64, 16, 8],
    ] as const;
    for (const [count, width, number, topK] of sizes) {
      const common = { count, width, experts: number, topK };
      await checkRoute(bench, { ...common, hasBias: false, weighing: 'softmax-chosen' });
      await checkRoute(bench, { ...common, hasBias: true, weighing: 'softmax-all' });
      const centred = { ...common, normOffset: 1 } as const;
      await checkRoute(bench, { ...centred, hasBias: true, weighing: 'sigmoid-normalised' });
      await checkRoute(bench, { ...centred, hasBias: false, weighing: 'sigmoid' });
    }
  }),
  benchCase('routes to experts of the best groups', 'arithmetic', async (bench) => {
    for (const [count, width, experts, topK, groups] of [
      [1, 64, 8, 2, [4, 1]],
      [5, 96, 15, 4, [3, 2]],
      [9, 128, 256, 8, [8, 4]],
      [40, 64, 24, 3, [8, 5]],
    ] as const) {
      const common = { count, width, experts, topK, groups };
      await checkRoute(bench, { ...common, hasBias: true, weighing: 'sigmoid-normalised' });
      await checkRoute(bench, { ...common, hasBias: false, weighing: 'sigmoid' });
    }
  }),
  benchCase('experts that are shared out', 'arithmetic', async (bench) => {
    for (const [count, width, experts, topK] of [
      [1, 64, 7, 2],
      [7, 96, 33, 3],
      [41, 128, 20, 4],
    ] as const) {
      const sizes = { count, width, experts, topK, hasBias: false } as const;
      await checkShares(bench, { ...sizes, weighing: 'softmax-chosen' });
    }
  }),
  benchCase('gates of experts', 'arithmetic', async (bench) => {
    await checkAll((test) => checkGate(bench, test, SWIGLU));
    await checkAll((test) => checkGate(bench, test, CLAMPED));
    await checkAll(async (test) => {
      if (test.format === 'element') await checkGate(bench, test, GEGLU);
    });
  }),
  benchCase('experts add to their lines', 'arithmetic', (bench) =>
    checkAll((test) => checkDown(bench, test, test.count % 2 === 0 ? 'store' : 'add')),
  ),
  benchCase('MXFP4 is exact in every code and scale', 'arithmetic', async (bench) => {
    await checkMxfp4(bench, 1, 1);
    // Few lines of each expert, had they been spread evenly.
    await checkMxfp4(bench, 2, 4);
  }),
  benchCase('int4 of experts is rounded once', 'arithmetic', async (bench) => {
    for (const count of [1, 8, 24, 48, 256]) await checkInt4(bench, count);
  }),
];
