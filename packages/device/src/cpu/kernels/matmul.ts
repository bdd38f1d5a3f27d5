import { rangeOf, Scratch, type Share } from './share.ts';

export interface MatmulShape {
  readonly count: number;
  readonly inputs: number;
  readonly outputs: number;
}

/** Shares begin at multiples of this, so that no block of outputs is cut in two. */
const OUTPUT_BLOCK = 8;

/** Elements that a weight may have: the inner loops count in 32-bit integers. */
const WEIGHT_ELEMENTS_MAX = 2 ** 31 - 1;

const tileScratch = new Scratch();

/**
 * out[count, outputs] = input[count, inputs] * weight[outputs, inputs]^T + bias, over a share of
 * the outputs: the reference of simd/, and what runs where there is no SIMD. Blocks hold several
 * lines and outputs in registers, but every sum runs over k alone and in order: a line's results do
 * not depend on the lines beside it. Throws RangeError for a weight of 2^31 elements or more.
 */
export function matmul(
  input: Float32Array,
  weight: Float32Array,
  bias: Float32Array | null,
  out: Float32Array,
  shape: MatmulShape,
  share: Share,
): void {
  const { count, inputs, outputs } = shape;
  if (weight.length > WEIGHT_ELEMENTS_MAX || input.length > WEIGHT_ELEMENTS_MAX) {
    throw new RangeError(`a product of ${count} x ${inputs} x ${outputs} is too large`);
  }
  const [from, to] = rangeOf(share, outputs, OUTPUT_BLOCK);
  let line = 0;
  for (; line + 4 <= count; line += 4) {
    const tile = tileOf(input, line * inputs, inputs);
    for (let column = from; column < to; column++) {
      fourLines(tile, weight, inputs, column, out, line * outputs, outputs);
    }
  }
  for (; line < count; line++) {
    oneLine(input, line * inputs, weight, out, line * outputs, inputs, from, to);
  }
  if (bias !== null) addBias(out, bias, shape, from, to);
}

/** Four lines side by side in float64: the inner loop reads them in a row and converts nothing. */
function tileOf(input: Float32Array, start: number, inputs: number): Float64Array {
  const tile = tileScratch.take(4 * inputs);
  for (let k = 0; k < inputs; k++) {
    for (let line = 0; line < 4; line++) tile[4 * k + line] = input[start + line * inputs + k]!;
  }
  return tile;
}

/** Outputs [from, to) of one line, four at a time. */
function oneLine(
  x: Float32Array,
  xStart: number,
  w: Float32Array,
  out: Float32Array,
  outStart: number,
  inputs: number,
  from: number,
  to: number,
): void {
  let column = from;
  for (; column + 4 <= to; column += 4) {
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    const w0 = column * inputs;
    const w1 = w0 + inputs;
    const w2 = w1 + inputs;
    const w3 = w2 + inputs;
    for (let k = 0; k < inputs; k = (k + 1) | 0) {
      const value = x[(xStart + k) | 0]!;
      s0 += value * w[(w0 + k) | 0]!;
      s1 += value * w[(w1 + k) | 0]!;
      s2 += value * w[(w2 + k) | 0]!;
      s3 += value * w[(w3 + k) | 0]!;
    }
    const at = outStart + column;
    out[at] = s0;
    out[at + 1] = s1;
    out[at + 2] = s2;
    out[at + 3] = s3;
  }
  for (; column < to; column++) {
    let sum = 0;
    const row = column * inputs;
    for (let k = 0; k < inputs; k++) sum += x[xStart + k]! * w[row + k]!;
    out[outStart + column] = sum;
  }
}

/** Output `column` of the four lines of a tile. */
function fourLines(
  tile: Float64Array,
  w: Float32Array,
  inputs: number,
  column: number,
  out: Float32Array,
  outStart: number,
  outputs: number,
): void {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  const row = column * inputs;
  for (let k = 0, t = 0; k < inputs; k = (k + 1) | 0, t = (t + 4) | 0) {
    const value = w[(row + k) | 0]!;
    s0 += tile[t]! * value;
    s1 += tile[(t + 1) | 0]! * value;
    s2 += tile[(t + 2) | 0]! * value;
    s3 += tile[(t + 3) | 0]! * value;
  }
  const at = outStart + column;
  out[at] = s0;
  out[at + outputs] = s1;
  out[at + 2 * outputs] = s2;
  out[at + 3 * outputs] = s3;
}

function addBias(
  out: Float32Array,
  bias: Float32Array,
  { count, outputs }: MatmulShape,
  from: number,
  to: number,
): void {
  for (let line = 0; line < count; line++) {
    for (let column = from; column < to; column++) out[line * outputs + column]! += bias[column]!;
  }
}
