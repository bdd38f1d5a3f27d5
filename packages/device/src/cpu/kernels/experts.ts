import { E4M3_VALUES } from '../../fp8.ts';
import { int4Scale, int4Zero } from '../../int4.ts';
import { E2M1_VALUES, e8m0Value } from '../../mxfp4.ts';
import type { ExpertFormat, ExpertShare, GateForm, Weighing } from '../../ops.ts';
import { geluTanh, sigmoid } from './lines.ts';
import { rangeOf, Scratch, type Share } from './share.ts';

/** Which assignments are whose, as ExpertGroups of ops.ts has it. */
export interface Groups {
  readonly chosen: Int32Array;
  readonly starts: Int32Array;
  readonly order: Int32Array;
  readonly count: number;
  readonly experts: number;
  readonly allExperts: number;
  readonly topK: number;
}

export interface Choice extends Groups {
  /** [count, allExperts] */
  readonly logits: Float32Array;
  readonly tokenRows: Int32Array;
  readonly weights: Float32Array;
  readonly choiceBias: Float32Array | null;
  readonly choiceGroups: number;
  readonly keptGroups: number;
  readonly logitScale: number;
  readonly expertScales: Float32Array | null;
  readonly weighing: Weighing;
  readonly weightScale: number;
  readonly shares: readonly ExpertShare[];
}

const numberOr = (value: number) => (Number.isNaN(value) ? Number.NEGATIVE_INFINITY : value);

/** Each line's experts and what they weigh, and the groups that come of it. */
export function chooseExperts(choice: Choice): void {
  const { logits, tokenRows, chosen, weights, count, allExperts, topK, choiceBias } = choice;
  const { weighing, weightScale, shares, logitScale, expertScales } = choice;
  const { choiceGroups, keptGroups } = choice;
  const logitOf = (value: number) => numberOr(value * logitScale);
  const [from, to] = shares[0]!;
  const isSigmoid = weighing === 'sigmoid' || weighing === 'sigmoid-normalised';
  for (let line = 0; line < count; line++) {
    const own = logits.subarray(line * allExperts, (line + 1) * allExperts).map(logitOf);
    const slots = chosen.subarray(line * topK, (line + 1) * topK);
    if (tokenRows[line]! < 0) {
      slots.fill(-1);
      weights.fill(0, line * topK, (line + 1) * topK);
      continue;
    }
    const scores = isSigmoid ? own.map((x, i) => sigmoid(x) + (choiceBias?.[i] ?? 0)) : own;
    const order = (a: number, b: number) => scores[b]! - scores[a]! || a - b;
    const eligible =
      choiceGroups === 1 ? [...own.keys()] : expertsOfBestGroups(scores, choiceGroups, keptGroups);
    const best = eligible.sort(order).slice(0, topK);
    slots.set(best.map((expert) => (expert >= from && expert < to ? expert - from : -1)));
    const top = own[best[0]!]!;
    const powerOf = (logit: number) => (isSigmoid ? sigmoid(logit) : Math.exp(logit - top));
    const powers = weighing === 'softmax-all' ? own : best.map((expert) => own[expert]!);
    let total = weighing === 'sigmoid' ? 1 : 0;
    if (weighing !== 'sigmoid') for (const logit of powers) total += powerOf(logit);
    best.forEach((expert, slot) => {
      const scale = weightScale * (expertScales?.[expert] ?? 1);
      weights[line * topK + slot] = (scale * powerOf(own[expert]!)) / total;
    });
  }
  groupByExpert(choice);
}

/** Those of the `kept` groups whose best two scores add up to most, the first among equals. */
function expertsOfBestGroups(scores: Float32Array, groups: number, kept: number): number[] {
  const size = scores.length / groups;
  const totals = Array.from({ length: groups }, (_, group) => {
    let [first, second] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (const score of scores.subarray(group * size, (group + 1) * size)) {
      if (score > first) [first, second] = [score, first];
      else if (score > second) second = score;
    }
    return first + second;
  });
  const best = [...totals.keys()].sort((a, b) => totals[b]! - totals[a]! || a - b).slice(0, kept);
  return best.flatMap((group) => Array.from({ length: size }, (_, i) => group * size + i));
}

function groupByExpert({ chosen, starts, order, count, experts, topK }: Groups): void {
  starts.fill(0);
  const isExpert = (expert: number) => expert >= 0 && expert < experts;
  const assignments = count * topK;
  for (let i = 0; i < assignments; i++) if (isExpert(chosen[i]!)) starts[chosen[i]! + 1]! += 1;
  for (let expert = 0; expert < experts; expert++) starts[expert + 1]! += starts[expert]!;
  const next = starts.slice();
  for (let i = 0; i < assignments; i++) {
    if (isExpert(chosen[i]!)) order[next[chosen[i]!]!++] = i;
  }
}

/** The weights of all experts, [experts * outputs, inputs]. */
export interface ExpertWeights {
  readonly format: ExpertFormat;
  /** Elements, or codes. */
  readonly values: Float32Array | Uint8Array;
  /** Of FP8, of MXFP4, or words of int4. */
  readonly scales: Float32Array | Uint8Array | Uint32Array | null;
  readonly blockOutputs: number;
  readonly blockInputs: number;
  readonly inputs: number;
}

function widenRow(weights: ExpertWeights, row: number, out: Float64Array): void {
  const { format, values, scales, blockOutputs, blockInputs, inputs } = weights;
  const start = row * inputs;
  if (format === 'element') {
    for (let k = 0; k < inputs; k++) out[k] = values[start + k]!;
    return;
  }
  const blocks = Math.ceil(inputs / blockInputs);
  const rowScales = Math.floor(row / blockOutputs) * blocks;
  for (let block = 0; block < blocks; block++) {
    const [numbers, scale] = decoded(format, scales![rowScales + block]!);
    const end = Math.min((block + 1) * blockInputs, inputs);
    for (let k = block * blockInputs; k < end; k++) {
      const at = start + k;
      const code = format === 'fp8-e4m3' ? values[at]! : (values[at >> 1]! >> (4 * (at & 1))) & 15;
      out[k] = numbers[code]! * scale;
    }
  }
}

/** What a block's codes mean, and what that is multiplied by. */
function decoded(
  format: Exclude<ExpertFormat, 'element'>,
  stored: number,
): readonly [values: ArrayLike<number>, scale: number] {
  if (format === 'fp8-e4m3') return [E4M3_VALUES, stored];
  if (format === 'mxfp4') return [E2M1_VALUES, e8m0Value(stored)];
  return [INT4_VALUES[int4Zero(stored)]!, int4Scale(stored)];
}

/** Codes less each zero point. */
const INT4_VALUES = Array.from({ length: 17 }, (_, zero) =>
  Float64Array.from({ length: 16 }, (_, code) => code - zero),
);

function product(row: Float64Array, input: Float32Array, start: number, inputs: number): number {
  let sum = 0;
  for (let k = 0; k < inputs; k++) sum += row[k]! * input[start + k]!;
  return sum;
}

export interface GateArgs extends Groups, GateForm {
  readonly input: Float32Array;
  readonly weights: ExpertWeights;
  readonly bias: Float32Array | null;
  readonly out: Float32Array;
  readonly inner: number;
  readonly isInterleaved: boolean;
}

const gateScratch = new Scratch();
const upScratch = new Scratch();

/** For a share of the inner outputs: of each expert that has lines, and of no other. */
export function expertGate(args: GateArgs, share: Share): void {
  const { input, weights, bias, out, inner, isInterleaved, order, starts, experts, topK } = args;
  const { limit, alpha, shift } = args;
  const { inputs } = weights;
  const [from, to] = rangeOf(share, inner);
  const gateRow = gateScratch.take(inputs);
  const upRow = upScratch.take(inputs);
  for (let expert = 0; expert < experts; expert++) {
    const [first, end] = [starts[expert]!, starts[expert + 1]!];
    if (first === end) continue;
    for (let unit = from; unit < to; unit++) {
      const own = expert * 2 * inner;
      const gateAt = own + (isInterleaved ? 2 * unit : unit);
      const upAt = own + (isInterleaved ? 2 * unit + 1 : inner + unit);
      widenRow(weights, gateAt, gateRow);
      widenRow(weights, upAt, upRow);
      for (let at = first; at < end; at++) {
        const assignment = order[at]!;
        const line = Math.floor(assignment / topK) * inputs;
        const gate = product(gateRow, input, line, inputs) + (bias?.[gateAt] ?? 0);
        const up = product(upRow, input, line, inputs) + (bias?.[upAt] ?? 0);
        const held = Math.min(gate, limit);
        const activated =
          alpha === 'gelu-tanh' ? geluTanh(held) : held / (1 + Math.exp(-alpha * held));
        const clamped = Math.max(-limit, Math.min(up, limit));
        out[assignment * inner + unit] = activated * (clamped + shift);
      }
    }
  }
}

export interface DownArgs extends Groups {
  readonly input: Float32Array;
  readonly matrix: ExpertWeights;
  readonly bias: Float32Array | null;
  readonly weights: Float32Array;
  readonly epilogue: 'store' | 'add';
  readonly out: Float32Array;
  readonly outputs: number;
}

const downScratch = new Scratch();
const partScratch = new Scratch();

/** For a share of the outputs. */
export function expertDown(args: DownArgs, share: Share): void {
  const { input, matrix, bias, weights, out, outputs, order, starts, experts } = args;
  const { count, topK, epilogue } = args;
  const { inputs } = matrix;
  const [from, to] = rangeOf(share, outputs);
  const row = downScratch.take(inputs);
  const parts = partScratch.take(count * topK);
  for (let column = from; column < to; column++) {
    parts.fill(0, 0, count * topK);
    for (let expert = 0; expert < experts; expert++) {
      const [first, end] = [starts[expert]!, starts[expert + 1]!];
      if (first === end) continue;
      const output = expert * outputs + column;
      widenRow(matrix, output, row);
      for (let at = first; at < end; at++) {
        const assignment = order[at]!;
        const sum = product(row, input, assignment * inputs, inputs) + (bias?.[output] ?? 0);
        parts[assignment] = weights[assignment]! * sum;
      }
    }
    for (let line = 0; line < count; line++) {
      let sum = 0;
      for (let slot = 0; slot < topK; slot++) sum += parts[line * topK + slot]!;
      const at = line * outputs + column;
      out[at] = epilogue === 'add' ? out[at]! + sum : sum;
    }
  }
}
