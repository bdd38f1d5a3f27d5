import { filled } from './filled.ts';
/**
 * What the operations mean, in float64 and as plainly as can be: every device is checked against
 * these. Shapes as in ops.ts; inputs are what the device's element type holds exactly.
 */

export type Numbers = ArrayLike<number>;

export interface KvShape {
  readonly pageElements: number;
  readonly layerElement: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly pageTokens: number;
  readonly pagesPerRow: number;
}

/** Index in the KV pages of dimension 0 of a position's key (part 0) or value (part 1). */
export function kvIndex(
  shape: KvShape,
  pageTable: Numbers,
  row: number,
  position: number,
  part: 0 | 1,
  kvHead: number,
): number {
  const entry = row * shape.pagesPerRow + Math.floor(position / shape.pageTokens);
  const layer = pageTable[entry]! * shape.pageElements + shape.layerElement;
  const token = position % shape.pageTokens;
  const line = (part * shape.kvHeads + kvHead) * shape.pageTokens + token;
  return layer + line * shape.headDim;
}

/** The value of an E4M3 code (OCP 8-bit floating point specification): 0x7f and 0xff are NaN. */
export function referenceE4m3(code: number): number {
  const sign = code & 0x80 ? -1 : 1;
  const exponent = (code >> 3) & 0xf;
  const fraction = code & 0x7;
  if (exponent === 0xf && fraction === 0x7) return Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -9;
  return sign * (1 + fraction / 8) * 2 ** (exponent - 7);
}

const E4M3_VALUES = Array.from({ length: 0x7f }, (_, code) => referenceE4m3(code));

/** The nearest E4M3 value, ties to the even code, no greater than 448. */
export function referenceRoundE4m3(value: number): number {
  const size = Math.min(Math.abs(value), 448);
  const above = E4M3_VALUES.findIndex((candidate) => candidate >= size);
  if (above === 0) return 0;
  const [low, high] = [E4M3_VALUES[above - 1]!, E4M3_VALUES[above]!];
  const isHigh = size - low > high - size || (size - low === high - size && above % 2 === 0);
  return Math.sign(value) * (isHigh ? high : low);
}

export interface ReferenceLinear {
  readonly input: Numbers;
  readonly norm: Numbers | null;
  readonly normOffset?: number;
  readonly epsilon: number;
  readonly activation?: 'silu' | 'gelu-tanh';
  readonly weight: Numbers;
  readonly bias: Numbers | null;
  readonly epilogue: 'store' | 'add' | 'gate';
  /** What `add` adds to. */
  readonly out: Numbers;
  readonly count: number;
  readonly inputs: number;
  readonly outputs: number;
}

export function referenceLinear(all: ReferenceLinear): Float64Array {
  const { input, norm, epsilon, weight, bias, epilogue, out, count, inputs, outputs } = all;
  const weights = norm === null ? null : Array.from(norm, (each) => each + (all.normOffset ?? 0));
  const x = weights === null ? input : referenceRmsNorm(input, weights, inputs, epsilon);
  const product = new Float64Array(count * outputs);
  for (let line = 0; line < count; line++) {
    for (let column = 0; column < outputs; column++) {
      let sum = bias === null ? 0 : bias[column]!;
      for (let k = 0; k < inputs; k++) sum += x[line * inputs + k]! * weight[column * inputs + k]!;
      product[line * outputs + column] = sum;
    }
  }
  if (epilogue === 'add') return product.map((value, i) => value + out[i]!);
  const activation = all.activation ?? 'silu';
  return epilogue === 'gate' ? referenceGate(product, outputs / 2, activation) : product;
}

/** Each line of `width` over its root mean square, times `weight`. */
export function referenceRmsNorm(
  input: Numbers,
  weight: Numbers,
  width: number,
  epsilon: number,
): Float64Array {
  const out = new Float64Array(input.length);
  for (let start = 0; start < input.length; start += width) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += input[start + i]! ** 2;
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) out[start + i] = input[start + i]! * scale * weight[i]!;
  }
  return out;
}

export const referenceSigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** activation(input[:, :width]) * input[:, width:] for lines of 2 width. */
export function referenceGate(
  input: Numbers,
  width: number,
  activation: 'silu' | 'gelu-tanh',
): Float64Array {
  const gelu = (x: number) => {
    const inner = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
    return (x * (1 + Math.tanh(inner))) / 2;
  };
  const activate = activation === 'silu' ? (x: number) => x * referenceSigmoid(x) : gelu;
  const lines = input.length / (2 * width);
  return filled(new Float64Array(lines * width), (i) => {
    const start = Math.floor(i / width) * 2 * width + (i % width);
    return activate(input[start]!) * input[start + width]!;
  });
}

/** cos and sin of position * theta^(-2 i / headDim): [maxPositions, headDim / 2, 2]. */
export function referenceRope(maxPositions: number, headDim: number, theta: number): Float64Array {
  const half = headDim / 2;
  const table = new Float64Array(maxPositions * headDim);
  for (let position = 0; position < maxPositions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = position * theta ** (-i / half);
      table[(position * half + i) * 2] = Math.cos(angle);
      table[(position * half + i) * 2 + 1] = Math.sin(angle);
    }
  }
  return table;
}

/** One head of q or k: normalised if asked, the first `rotaryDim` of it rotated by halves. */
export function referenceRotate(
  head: Numbers,
  norm: Numbers | null,
  epsilon: number,
  rope: Numbers,
  position: number,
  rotaryDim: number = head.length,
): Float64Array {
  const dim = head.length;
  const half = rotaryDim / 2;
  const x = norm === null ? head : referenceRmsNorm(head, norm, dim, epsilon);
  return filled(new Float64Array(dim), (i) => {
    if (i >= rotaryDim) return x[i]!;
    const cos = rope[position * dim + (i % half) * 2]!;
    const sin = rope[position * dim + (i % half) * 2 + 1]!;
    return i < half ? x[i]! * cos - x[i + half]! * sin : x[i]! * cos + x[i - half]! * sin;
  });
}

/**
 * Attention of one query head over positions [first, position] of its row; `sink` is a score
 * without a value.
 */
export function referenceAttend(
  query: Numbers,
  kv: Numbers,
  shape: KvShape,
  pageTable: Numbers,
  [row, position, kvHead]: readonly [number, number, number],
  scale: number,
  window: number,
  sink = Number.NEGATIVE_INFINITY,
): Float64Array {
  const first = window > 0 ? Math.max(0, position - window + 1) : 0;
  const scores: number[] = [];
  for (let j = first; j <= position; j++) {
    const key = kvIndex(shape, pageTable, row, j, 0, kvHead);
    let dot = 0;
    for (let i = 0; i < shape.headDim; i++) dot += query[i]! * kv[key + i]!;
    scores.push(dot * scale);
  }
  const top = Math.max(sink, ...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const total = weights.reduce((sum, weight) => sum + weight, Math.exp(sink - top));
  const out = new Float64Array(shape.headDim);
  weights.forEach((weight, n) => {
    const value = kvIndex(shape, pageTable, row, first + n, 1, kvHead);
    for (let i = 0; i < shape.headDim; i++) out[i]! += (weight / total) * kv[value + i]!;
  });
  return out;
}

const CODES = filled(new Float64Array(256), (code) => referenceE4m3(code));

/** Values of FP8 codes [rows, inputs] under the scales of blocks. */
export function referenceFp8(
  codes: Numbers,
  scales: Numbers,
  inputs: number,
  [blockOutputs, blockInputs]: readonly [number, number],
): Float64Array {
  const columns = Math.ceil(inputs / blockInputs);
  const values = new Float64Array(codes.length);
  // Millions of them: `Float64Array.from` takes ten times as long.
  for (let i = 0; i < values.length; i++) {
    const row = Math.floor(i / inputs);
    const column = i % inputs;
    const block = Math.floor(row / blockOutputs) * columns + Math.floor(column / blockInputs);
    values[i] = CODES[codes[i]!]! * scales[block]!;
  }
  return values;
}
