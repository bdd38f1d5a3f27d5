import type { Activation } from '../../ops.ts';
import { hashUniform } from '../../random.ts';
import { rangeOf, type Share } from './share.ts';

/** A norm's weights, and what is added to them. */
export interface Norm {
  readonly weight: Float32Array;
  readonly offset: number;
  readonly epsilon: number;
}

/** out = input over its root mean square, times weight, for a share of `count` lines of `width`. */
export function rmsNorm(
  input: Float32Array,
  { weight, offset, epsilon }: Norm,
  out: Float32Array,
  count: number,
  share: Share,
): void {
  const width = weight.length;
  const [from, to] = rangeOf(share, count);
  for (let start = from * width; start < to * width; start += width) {
    let squares = 0;
    for (let i = start; i < start + width; i++) squares += input[i]! * input[i]!;
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) {
      out[start + i] = input[start + i]! * scale * (weight[i]! + offset);
    }
  }
}

/** out += input, for a share of the elements. */
export function add(input: Float32Array, out: Float32Array, share: Share): void {
  const [from, to] = rangeOf(share, out.length);
  for (let i = from; i < to; i++) out[i]! += input[i]!;
}

/**
 * The sum of `inputs` in their order, each step rounded to f32: out = it, or out += it. For a share
 * of the elements.
 */
export function sumInputs(
  inputs: readonly Float32Array[],
  out: Float32Array,
  adds: boolean,
  share: Share,
): void {
  const [from, to] = rangeOf(share, out.length);
  for (let i = from; i < to; i++) {
    let sum = 0;
    for (const input of inputs) sum = Math.fround(sum + input[i]!);
    out[i] = adds ? out[i]! + sum : sum;
  }
}

/** Lines of `inputs` side by side, for a share of `count` lines of `width` each. */
export function gatherInputs(
  inputs: readonly Float32Array[],
  out: Float32Array,
  { count, width }: { readonly count: number; readonly width: number },
  share: Share,
): void {
  const [from, to] = rangeOf(share, count);
  for (let line = from; line < to; line++) {
    for (const [index, input] of inputs.entries()) {
      const target = (line * inputs.length + index) * width;
      out.set(input.subarray(line * width, (line + 1) * width), target);
    }
  }
}

export const silu = (x: number) => x / (1 + Math.exp(-x));
export const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** Gaussian error linear units in the form with tanh (arXiv 1606.08415, section 2). */
export function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
}

export const ACTIVATIONS: Readonly<Record<Activation, (x: number) => number>> = {
  silu,
  'gelu-tanh': geluTanh,
};

/** out = activation(first half of the line) * second half, for a share of lines of 2 `width`. */
export function gateMul(
  activation: Activation,
  input: Float32Array,
  out: Float32Array,
  count: number,
  width: number,
  share: Share,
): void {
  const [from, to] = rangeOf(share, count);
  const activate = ACTIVATIONS[activation];
  for (let line = from; line < to; line++) {
    const gates = line * 2 * width;
    for (let i = 0; i < width; i++) {
      out[line * width + i] = activate(input[gates + i]!) * input[gates + width + i]!;
    }
  }
}

/** out[i] = scale * table[tokens[i]]; ids outside [0, vocab) read line 0. */
export function embed(
  table: Float32Array,
  tokens: Int32Array,
  out: Float32Array,
  scale: number,
  width: number,
  vocab: number,
): void {
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    const start = (token >= 0 && token < vocab ? token : 0) * width;
    for (let at = 0; at < width; at++) out[i * width + at] = scale * table[start + at]!;
  }
}

/** out[i] = input[indices[i]]; indices outside the input leave their line as it is. */
export function select(
  input: Float32Array,
  indices: Int32Array,
  out: Float32Array,
  width: number,
): void {
  for (let i = 0; i < indices.length; i++) {
    const start = indices[i]! * width;
    if (start >= 0 && start + width <= input.length) {
      out.set(input.subarray(start, start + width), i * width);
    }
  }
}

/** Vectors shorter than this are not made as long as others: they have no direction. */
const LEAST_LENGTH = 1e-12;

/** out[i] = input[indices[i]] * norm at length 1; indices outside the input leave their line. */
export function pool(
  input: Float32Array,
  indices: Int32Array,
  { weight, offset }: Omit<Norm, 'epsilon'>,
  out: Float32Array,
): void {
  const norm = weight.map((each) => each + offset);
  const width = norm.length;
  for (let i = 0; i < indices.length; i++) {
    const start = indices[i]! * width;
    if (start < 0 || start + width > input.length) continue;
    let squares = 0;
    for (let at = 0; at < width; at++) squares += (input[start + at]! * norm[at]!) ** 2;
    const scale = 1 / Math.max(Math.sqrt(squares), LEAST_LENGTH);
    for (let at = 0; at < width; at++) {
      out[i * width + at] = input[start + at]! * norm[at]! * scale;
    }
  }
}

/** out[i] = mean + spread * (2 u - 1) for a share of `out`, u = hashUniform(seed, i). */
export function fillUniform(
  out: Float32Array,
  mean: number,
  spread: number,
  seed: number,
  share: Share,
): void {
  const [from, to] = rangeOf(share, out.length);
  for (let i = from; i < to; i++) out[i] = mean + spread * (2 * hashUniform(seed, i) - 1);
}

/** Downwards. */
export function bytesFromF32(values: Float32Array, out: Uint8Array): void {
  for (const [i, value] of values.entries()) out[i] = Math.floor(value);
}

const CHUNK = 4096;

/**
 * The same as fillUniform for narrower types: `round` stores a chunk of float32 values in as many
 * elements of `out`.
 */
export function fillUniformRounded<Out extends Uint8Array | Uint16Array>(
  out: Out,
  round: (values: Float32Array, out: Out) => unknown,
  mean: number,
  spread: number,
  seed: number,
  share: Share,
): void {
  const [from, to] = rangeOf(share, out.length);
  const chunk = new Float32Array(CHUNK);
  for (let start = from; start < to; start += CHUNK) {
    const length = Math.min(CHUNK, to - start);
    for (let i = 0; i < length; i++) {
      chunk[i] = mean + spread * (2 * hashUniform(seed, start + i) - 1);
    }
    round(chunk.subarray(0, length), out.subarray(start, start + length) as Out);
  }
}
