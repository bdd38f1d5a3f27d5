import { E4M3_VALUES } from '../../fp8.ts';
import { rangeOf, Scratch, type Share } from './share.ts';

/** Pages of lines, and where a batch's tokens are in them: PagedLines of ops.ts. */
export interface PagedLines {
  readonly kv: Float32Array;
  readonly pageTable: Int32Array;
  readonly tokenRows: Int32Array;
  readonly positions: Int32Array;
  readonly pageElements: number;
  readonly layerElement: number;
  readonly pageTokens: number;
  readonly pagesPerRow: number;
}

export interface WriteLatentsArgs extends PagedLines {
  readonly projected: Float32Array;
  readonly projectedStride: number;
  readonly turnedFrom: number;
  readonly queries: Float32Array;
  readonly latents: Float32Array;
  readonly norm: Float32Array;
  readonly epsilon: number;
  readonly rope: Float32Array;
  readonly count: number;
  readonly heads: number;
  readonly rank: number;
  readonly rotaryDim: number;
}

export interface AttendLatentsArgs extends PagedLines {
  readonly queries: Float32Array;
  readonly out: Float32Array;
  readonly count: number;
  readonly heads: number;
  readonly rank: number;
  readonly rotaryDim: number;
  readonly scale: number;
}

/** Where a position's line is, or -1 for what lies outside the tables: such tokens are padding. */
function lineStart(paged: PagedLines, row: number, position: number, width: number): number {
  const { kv, pageTable, pageTokens, pagesPerRow } = paged;
  if (row < 0 || position < 0 || position >= pagesPerRow * pageTokens) return -1;
  const entry = row * pagesPerRow + Math.floor(position / pageTokens);
  if (entry >= pageTable.length) return -1;
  const page = pageTable[entry]!;
  const line = paged.layerElement + (position % pageTokens) * width;
  const start = page * paged.pageElements + line;
  return page >= 0 && start + width <= kv.length ? start : -1;
}

/** Turns pairs of neighbours of `from`, from `start` on, to where they go. */
function turn(
  from: Float32Array,
  start: number,
  to: Float32Array,
  target: number,
  rope: Float32Array,
  angles: number,
  dims: number,
): void {
  for (let i = 0; i < dims; i += 2) {
    const [cos, sin] = [rope[angles + i]!, rope[angles + i + 1]!];
    const [first, second] = [from[start + i]!, from[start + i + 1]!];
    to[target + i] = first * cos - second * sin;
    to[target + i + 1] = second * cos + first * sin;
  }
}

/** The token's line of its page, and what of its queries turns. */
export function writeLatents(args: WriteLatentsArgs, share: Share): void {
  const { projected, projectedStride, turnedFrom, queries, latents, norm, epsilon, rope } = args;
  const { kv, heads, rank, rotaryDim } = args;
  const width = rank + rotaryDim;
  const [first, end] = rangeOf(share, args.count);
  for (let i = first; i < end; i++) {
    const position = args.positions[i]!;
    const line = lineStart(args, args.tokenRows[i]!, position, width);
    const angles = position * rotaryDim;
    if (line < 0 || angles + rotaryDim > rope.length) continue;
    const from = i * width;
    let squares = 0;
    for (let k = 0; k < rank; k++) squares += latents[from + k]! * latents[from + k]!;
    const scale = 1 / Math.sqrt(squares / rank + epsilon);
    for (let k = 0; k < rank; k++) kv[line + k] = latents[from + k]! * scale * norm[k]!;
    turn(latents, from + rank, kv, line + rank, rope, angles, rotaryDim);
    for (let head = 0; head < heads; head++) {
      const source = (i * heads + head) * projectedStride + turnedFrom;
      const target = (i * heads + head) * width + rank;
      turn(projected, source, queries, target, rope, angles, rotaryDim);
    }
  }
}

const scoreScratch = new Scratch();
const sumScratch = new Scratch();

/** Softmax attention of each head of a share of the tokens' heads. */
export function attendLatents(args: AttendLatentsArgs, share: Share): void {
  const { queries, out, kv, heads, rank, positions, tokenRows, scale } = args;
  const width = rank + args.rotaryDim;
  const [first, end] = rangeOf(share, args.count * heads);
  const sums = sumScratch.take(rank);
  for (let item = first; item < end; item++) {
    const token = Math.floor(item / heads);
    const [position, row] = [positions[token]!, tokenRows[token]!];
    if (lineStart(args, row, position, width) < 0) continue;
    const scores = scoreScratch.take(position + 1);
    let top = Number.NEGATIVE_INFINITY;
    for (let j = 0; j <= position; j++) {
      const line = lineStart(args, row, j, width);
      let score = 0;
      for (let k = 0; k < width; k++) score += queries[item * width + k]! * kv[line + k]!;
      scores[j] = line < 0 ? Number.NEGATIVE_INFINITY : score * scale;
      top = Math.max(top, scores[j]!);
    }
    sums.fill(0, 0, rank);
    let total = 0;
    for (let j = 0; j <= position; j++) {
      const line = lineStart(args, row, j, width);
      if (line < 0) continue;
      const weight = Math.exp(scores[j]! - top);
      total += weight;
      for (let k = 0; k < rank; k++) sums[k]! += weight * kv[line + k]!;
    }
    for (let k = 0; k < rank; k++) out[item * rank + k] = sums[k]! / total;
  }
}

/** A weight [heads * headRows, columns]: elements, or codes with their scales. */
export interface HeadWeight {
  readonly values: Float32Array | Uint8Array;
  readonly scales: Float32Array | null;
  readonly blockOutputs: number;
  readonly blockInputs: number;
}

export interface HeadLinearArgs {
  readonly input: Float32Array;
  readonly weight: HeadWeight;
  readonly out: Float32Array;
  readonly count: number;
  readonly heads: number;
  readonly headRows: number;
  readonly firstRow: number;
  readonly rows: number;
  readonly columns: number;
  readonly isTransposed: boolean;
  readonly inputStride: number;
  readonly outStride: number;
}

const rowScratch = new Scratch();
const productScratch = new Scratch();

function widenRow(weight: HeadWeight, row: number, columns: number, to: Float64Array): void {
  const { values, scales, blockOutputs, blockInputs } = weight;
  const start = row * columns;
  if (scales === null) {
    for (let k = 0; k < columns; k++) to[k] = values[start + k]!;
    return;
  }
  const block = Math.floor(row / blockOutputs) * Math.ceil(columns / blockInputs);
  for (let k = 0; k < columns; k++) {
    const scale = scales[block + Math.floor(k / blockInputs)]!;
    to[k] = E4M3_VALUES[values[start + k]!]! * scale;
  }
}

/** Of a share of the heads. */
export function headLinear(args: HeadLinearArgs, share: Share): void {
  const { input, out, count, heads, headRows, firstRow, rows, columns, isTransposed } = args;
  const [first, end] = rangeOf(share, heads);
  const row = rowScratch.take(columns);
  for (let head = first; head < end; head++) {
    const products = productScratch.take(count * columns);
    products.fill(0, 0, count * columns);
    for (let r = 0; r < rows; r++) {
      widenRow(args.weight, head * headRows + firstRow + r, columns, row);
      for (let line = 0; line < count; line++) {
        const from = (line * heads + head) * args.inputStride;
        if (isTransposed) {
          const value = input[from + r]!;
          for (let k = 0; k < columns; k++) products[line * columns + k]! += value * row[k]!;
          continue;
        }
        let sum = 0;
        for (let k = 0; k < columns; k++) sum += input[from + k]! * row[k]!;
        out[(line * heads + head) * args.outStride + r] = sum;
      }
    }
    if (!isTransposed) continue;
    for (let line = 0; line < count; line++) {
      const to = (line * heads + head) * args.outStride;
      for (let k = 0; k < columns; k++) out[to + k] = products[line * columns + k]!;
    }
  }
}
