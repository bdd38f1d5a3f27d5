import { rangeOf, type Share } from './share.ts';
import { dots, ROWS_PER_PASS, simdFloats } from './simd.ts';

export interface MatmulShape {
  readonly count: number;
  readonly inputs: number;
  readonly outputs: number;
}

/**
 * Floats of weight that are worked on at a time: they and some lines stay in a core's second-level
 * cache.
 */
const TILE_FLOATS = 16_384;
/** Floats of input that are worked on at a time. */
const LINES_FLOATS = 262_144;

/**
 * out[count, outputs] = input[count, inputs] * weight[outputs, inputs]^T + bias, over a share of
 * the outputs. Tiles of lines and weights are copied to where the SIMD loop works, and every sum is
 * one pass of it over k: a line's results do not depend on the lines beside it.
 */
export function matmul(
  input: Float32Array,
  weight: Float32Array,
  bias: Float32Array | null,
  out: Float32Array,
  { count, inputs, outputs }: MatmulShape,
  share: Share,
): void {
  const [from, to] = rangeOf(share, outputs, ROWS_PER_PASS);
  if (from === to) return;
  const stride = roundUp(inputs);
  const lines = Math.min(count, Math.max(1, Math.floor(LINES_FLOATS / stride)));
  const columns = Math.min(roundUp(to - from), roundUp(Math.floor(TILE_FLOATS / stride)));
  const weightStart = lines * stride;
  const outStart = weightStart + columns * stride;
  const floats = simdFloats(outStart + columns);
  for (let line = 0; line < count; line += lines) {
    const lineEnd = Math.min(line + lines, count);
    copyRows(floats, 0, input, line, lineEnd, inputs);
    for (let column = from; column < to; column += columns) {
      const columnEnd = Math.min(column + columns, to);
      copyRows(floats, weightStart, weight, column, columnEnd, inputs);
      const sums = floats.subarray(outStart, outStart + columnEnd - column);
      for (let n = line; n < lineEnd; n++) {
        const x = (n - line) * stride;
        // The last pass may compute sums of rows that are not there: they are not read.
        dots(x * 4, weightStart * 4, outStart * 4, stride * 4, roundUp(sums.length));
        if (bias !== null) {
          for (let i = 0; i < sums.length; i++) sums[i]! += bias[column + i]!;
        }
        out.set(sums, n * outputs + column);
      }
    }
  }
}

/** The least positive multiple of 4 that is not below `count`. */
function roundUp(count: number): number {
  return Math.max(4, Math.ceil(count / 4) * 4);
}

/** Rows [from, to) of a matrix to `start`, padded with zeros to whole vectors. */
function copyRows(
  floats: Float32Array,
  start: number,
  matrix: Float32Array,
  from: number,
  to: number,
  width: number,
): void {
  if (width % 4 === 0) {
    floats.set(matrix.subarray(from * width, to * width), start);
    return;
  }
  const stride = roundUp(width);
  floats.fill(0, start, start + (to - from) * stride);
  for (let row = from; row < to; row++) {
    floats.set(matrix.subarray(row * width, (row + 1) * width), start + (row - from) * stride);
  }
}
