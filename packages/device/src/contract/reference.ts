/**
 * What the operations mean, in float64 and as plainly as can be: every device is checked against
 * these. Shapes as in ops.ts; inputs are what the device's element type holds exactly.
 */

export type Numbers = ArrayLike<number>;

export interface KvShape {
  readonly layers: number;
  readonly layer: number;
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
  const block = (pageTable[entry]! * shape.layers + shape.layer) * 2 + part;
  const token = position % shape.pageTokens;
  return ((block * shape.kvHeads + kvHead) * shape.pageTokens + token) * shape.headDim;
}

/** out[count, outputs] = input[count, inputs] * weight[outputs, inputs]^T + bias. */
export function referenceMatmul(
  input: Numbers,
  weight: Numbers,
  bias: Numbers | null,
  [count, inputs, outputs]: readonly [number, number, number],
): Float64Array {
  const out = new Float64Array(count * outputs);
  for (let line = 0; line < count; line++) {
    for (let column = 0; column < outputs; column++) {
      let sum = bias === null ? 0 : bias[column]!;
      for (let k = 0; k < inputs; k++) {
        sum += input[line * inputs + k]! * weight[column * inputs + k]!;
      }
      out[line * outputs + column] = sum;
    }
  }
  return out;
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

/** silu(input[:, :width]) * input[:, width:] for lines of 2 width. */
export function referenceSiluMul(input: Numbers, width: number): Float64Array {
  const lines = input.length / (2 * width);
  return Float64Array.from({ length: lines * width }, (_, i) => {
    const start = Math.floor(i / width) * 2 * width + (i % width);
    const gate = input[start]!;
    return (gate / (1 + Math.exp(-gate))) * input[start + width]!;
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

/** One head of q or k: normalised if asked, then rotated by halves. */
export function referenceRotate(
  head: Numbers,
  norm: Numbers | null,
  epsilon: number,
  rope: Numbers,
  position: number,
): Float64Array {
  const dim = head.length;
  const half = dim / 2;
  const x = norm === null ? head : referenceRmsNorm(head, norm, dim, epsilon);
  return Float64Array.from({ length: dim }, (_, i) => {
    const cos = rope[(position * half + (i % half)) * 2]!;
    const sin = rope[(position * half + (i % half)) * 2 + 1]!;
    return i < half ? x[i]! * cos - x[i + half]! * sin : x[i]! * cos + x[i - half]! * sin;
  });
}

/** Attention of one query head over positions [first, position] of its row. */
export function referenceAttend(
  query: Numbers,
  kv: Numbers,
  shape: KvShape,
  pageTable: Numbers,
  [row, position, kvHead]: readonly [number, number, number],
  scale: number,
  window: number,
): Float64Array {
  const first = window > 0 ? Math.max(0, position - window + 1) : 0;
  const scores: number[] = [];
  for (let j = first; j <= position; j++) {
    const key = kvIndex(shape, pageTable, row, j, 0, kvHead);
    let dot = 0;
    for (let i = 0; i < shape.headDim; i++) dot += query[i]! * kv[key + i]!;
    scores.push(dot * scale);
  }
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const out = new Float64Array(shape.headDim);
  weights.forEach((weight, n) => {
    const value = kvIndex(shape, pageTable, row, first + n, 1, kvHead);
    for (let i = 0; i < shape.headDim; i++) out[i]! += (weight / total) * kv[value + i]!;
  });
  return out;
}
