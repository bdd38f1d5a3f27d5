import type { Activation } from '../../ops.ts';
import { ACTIVATIONS, type Norm, sigmoid } from './lines.ts';
import { rangeOf, type Share } from './share.ts';

/** What some families put between products: see the operations of these names in ops.ts. */

interface Lines {
  readonly count: number;
  readonly width: number;
}

export interface Branch {
  readonly input: Float32Array;
  readonly norm: Norm | null;
  readonly scale: number;
  /** [1], of the sum. */
  readonly outScale: Float32Array | null;
  readonly epilogue: 'add' | 'store';
  readonly out: Float32Array;
}

export function addBranch(branch: Branch, { count, width }: Lines, share: Share): void {
  const { input, norm, scale, out } = branch;
  const adds = branch.epilogue === 'add';
  const ofSum = branch.outScale?.[0] ?? 1;
  const [from, to] = rangeOf(share, count);
  for (let start = from * width; start < to * width; start += width) {
    const factor = norm === null ? scale : scale * inverseRms(input, start, width, norm.epsilon);
    for (let i = 0; i < width; i++) {
      const weight = norm === null ? 1 : norm.weight[i]! + norm.offset;
      const own = input[start + i]! * factor * weight;
      out[start + i] = (adds ? out[start + i]! + own : own) * ofSum;
    }
  }
}

export function inverseRms(
  values: Float32Array,
  start: number,
  width: number,
  epsilon: number,
): number {
  let squares = 0;
  for (let i = start; i < start + width; i++) squares += values[i]! * values[i]!;
  return 1 / Math.sqrt(squares / width + epsilon);
}

export function normSpan(
  lines: Float32Array,
  { weight, epsilon }: Norm,
  { count, stride, first }: { count: number; stride: number; first: number },
  share: Share,
): void {
  const [from, to] = rangeOf(share, count);
  for (let line = from; line < to; line++) {
    const start = line * stride + first;
    const factor = inverseRms(lines, start, weight.length, epsilon);
    for (let i = 0; i < weight.length; i++) {
      lines[start + i] = lines[start + i]! * factor * weight[i]!;
    }
  }
}

interface PositionScale {
  readonly beta: number;
  readonly period: number;
  readonly stride: number;
  readonly width: number;
}

export function scaleByPosition(
  lines: Float32Array,
  positions: Int32Array,
  { beta, period, stride, width }: PositionScale,
): void {
  for (const [line, position] of positions.entries()) {
    const periods = Math.floor(Math.max(position, 0) / period);
    const factor = 1 + beta * Math.log(1 + periods);
    for (let i = line * stride; i < line * stride + width; i++) lines[i]! *= factor;
  }
}

export function sigmoidGate(input: Float32Array, out: Float32Array, share: Share): void {
  const [from, to] = rangeOf(share, out.length);
  for (let i = from; i < to; i++) out[i]! *= sigmoid(input[i]!);
}

export function gateLines(
  input: Float32Array,
  weight: Float32Array,
  out: Float32Array,
  { count, width }: Lines,
  share: Share,
): void {
  const inputs = weight.length;
  const [from, to] = rangeOf(share, count);
  for (let line = from; line < to; line++) {
    let sum = 0;
    for (let k = 0; k < inputs; k++) sum += input[line * inputs + k]! * weight[k]!;
    const factor = sigmoid(sum);
    for (let i = line * width; i < (line + 1) * width; i++) out[i]! *= factor;
  }
}

export interface GateSpan extends Lines {
  readonly activation: Activation;
  readonly stride: number;
  readonly first: number;
}

export function gateSpan(
  out: Float32Array,
  lines: Float32Array,
  { activation, count, width, stride, first }: GateSpan,
  share: Share,
): void {
  const activate = ACTIVATIONS[activation];
  const [from, to] = rangeOf(share, count);
  for (let line = from; line < to; line++) {
    const [at, other] = [line * width, line * stride + first];
    for (let i = 0; i < width; i++) out[at + i] = activate(out[at + i]!) * lines[other + i]!;
  }
}

export function finishLogits(logits: Float32Array, scale: number, cap: number, share: Share): void {
  const [from, to] = rangeOf(share, logits.length);
  for (let i = from; i < to; i++) {
    const scaled = logits[i]! * scale;
    logits[i] = cap > 0 ? cap * Math.tanh(scaled / cap) : scaled;
  }
}
