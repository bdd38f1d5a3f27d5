import { e4m3FromF32, f32FromE4m3 } from '../../fp8.ts';
import { LINE_KV_PARTS, type LineKv, qkvWidth } from '../../ops.ts';
import { rangeOf, Scratch, type Share } from './share.ts';

/** KV and where a batch's tokens live in it, as OpArgs' KvGeometry says; KV is split in `pages`. */
export interface PagedKv {
  /** Elements, or E4M3 codes. */
  readonly kv: Float32Array | Uint8Array;
  readonly pageTable: Int32Array;
  readonly tokenRows: Int32Array;
  readonly positions: Int32Array;
  readonly pageElements: number;
  readonly layerElement: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly pageTokens: number;
  readonly pagesPerRow: number;
}

export interface RopeArgs extends PagedKv {
  readonly qkv: Float32Array;
  readonly lineKv: LineKv;
  readonly valueNorm: boolean;
  readonly queryNorm: Float32Array | null;
  readonly keyNorm: Float32Array | null;
  readonly normOffset: number;
  readonly epsilon: number;
  readonly rope: Float32Array;
  readonly rotaryDim: number;
  readonly count: number;
  readonly heads: number;
}

export interface AttentionArgs extends PagedKv {
  readonly qkv: Float32Array;
  readonly lineKv: LineKv;
  readonly sinks: Float32Array | null;
  readonly out: Float32Array;
  readonly count: number;
  readonly heads: number;
  readonly scale: number;
  readonly window: number;
}

/**
 * Where the (k, v) block of this layer starts in the page that holds `position` of `row`, or -1
 * when row, position or page lie outside the tables: such tokens are padding.
 */
function blockStart(paged: PagedKv, row: number, position: number): number {
  const { kv, pageTable, kvHeads, headDim, pageTokens, pagesPerRow } = paged;
  if (row < 0 || position < 0 || position >= pagesPerRow * pageTokens) return -1;
  const entry = row * pagesPerRow + Math.floor(position / pageTokens);
  if (entry >= pageTable.length) return -1;
  const page = pageTable[entry]!;
  const halfBlock = kvHeads * pageTokens * headDim;
  const start = page * paged.pageElements + paged.layerElement;
  return page >= 0 && start + 2 * halfBlock <= kv.length ? start : -1;
}

/** Normalises (where asked) and rotates q and k in place, and writes k and v to their page. */
export function ropeWriteKv(args: RopeArgs, share: Share): void {
  const { qkv, rope, kv, heads, kvHeads, headDim, pageTokens, epsilon } = args;
  const width = qkvWidth(args);
  const parts = LINE_KV_PARTS[args.lineKv];
  const turned = heads + (parts > 0 ? kvHeads : 0);
  const [from, to] = rangeOf(share, args.count);
  for (let i = from; i < to; i++) {
    const position = args.positions[i]!;
    const block = blockStart(args, args.tokenRows[i]!, position);
    const angles = position * headDim;
    if (block < 0 || angles + headDim > rope.length) continue;
    const token = block + (position % pageTokens) * headDim;
    const at = (n: number) => token + n * pageTokens * headDim;
    // Before keys are turned, since they may be values as well.
    for (let n = 0; n < kvHeads && parts > 0; n++) {
      const start = i * width + (heads + (parts - 1) * kvHeads + n) * headDim;
      const value = qkv.slice(start, start + headDim);
      if (args.valueNorm) normaliseHead(value, 0, headDim, null, 0, epsilon);
      writeKv(kv, at(kvHeads + n), value);
    }
    for (let head = 0; head < turned; head++) {
      const start = i * width + head * headDim;
      const norm = head < heads ? args.queryNorm : args.keyNorm;
      if (norm !== null) normaliseHead(qkv, start, headDim, norm, args.normOffset, epsilon);
      rotateHead(qkv, start, rope, angles, args.rotaryDim);
    }
    for (let n = 0; n < turned - heads; n++) {
      const start = i * width + (heads + n) * headDim;
      writeKv(kv, at(n), qkv.subarray(start, start + headDim));
    }
  }
}

function writeKv(kv: Float32Array | Uint8Array, to: number, values: Float32Array): void {
  if (kv instanceof Float32Array) kv.set(values, to);
  else e4m3FromF32(values, kv.subarray(to, to + values.length));
}

let widened = new Float32Array(0);

/** `length` values of KV from `start`, as float32, and where they begin there. */
function readKv(
  kv: Float32Array | Uint8Array,
  start: number,
  length: number,
): readonly [values: Float32Array, start: number] {
  if (kv instanceof Float32Array) return [kv, start];
  if (widened.length < length) widened = new Float32Array(length);
  return [f32FromE4m3(kv.subarray(start, start + length), widened), 0];
}

/** Without a norm, the root mean square becomes 1. */
function normaliseHead(
  qkv: Float32Array,
  start: number,
  headDim: number,
  norm: Float32Array | null,
  offset: number,
  epsilon: number,
): void {
  let squares = 0;
  for (let i = 0; i < headDim; i++) squares += qkv[start + i]! * qkv[start + i]!;
  const scale = 1 / Math.sqrt(squares / headDim + epsilon);
  for (let i = 0; i < headDim; i++) {
    qkv[start + i] = qkv[start + i]! * scale * (norm === null ? 1 : norm[i]! + offset);
  }
}

function rotateHead(
  qkv: Float32Array,
  start: number,
  rope: Float32Array,
  angles: number,
  rotaryDim: number,
): void {
  const half = rotaryDim / 2;
  for (let i = 0; i < half; i++) {
    const cos = rope[angles + 2 * i]!;
    const sin = rope[angles + 2 * i + 1]!;
    const low = qkv[start + i]!;
    const high = qkv[start + half + i]!;
    qkv[start + i] = low * cos - high * sin;
    qkv[start + half + i] = high * cos + low * sin;
  }
}

const queryScratch = new Scratch();
const scoreScratch = new Scratch();
const sumScratch = new Scratch();

/** Softmax attention of each query head of a share of the tokens' heads. */
export function attention(args: AttentionArgs, share: Share): void {
  const { heads, positions, tokenRows } = args;
  const [from, to] = rangeOf(share, args.count * heads);
  for (let item = from; item < to; item++) {
    const token = Math.floor(item / heads);
    const position = positions[token]!;
    const row = tokenRows[token]!;
    if (blockStart(args, row, position) < 0) continue;
    attendHead(args, token, item % heads, row, position);
  }
}

/** One query head over its positions, page by page. A page outside KV contributes nothing. */
function attendHead(
  args: AttentionArgs,
  token: number,
  head: number,
  row: number,
  position: number,
): void {
  const { qkv, sinks, out, kv, heads, kvHeads, headDim, pageTokens, scale, window } = args;
  const first = window > 0 ? Math.max(0, position - window + 1) : 0;
  const count = position + 1 - first;
  const scores = scoreScratch.take(count);
  const query = queryScratch.take(headDim);
  const sums = sumScratch.take(headDim);
  const queryStart = token * qkvWidth(args) + head * headDim;
  for (let i = 0; i < headDim; i++) query[i] = qkv[queryStart + i]! * scale;
  const keyHead = Math.floor((head * kvHeads) / heads) * pageTokens * headDim;
  const valueHead = keyHead + kvHeads * pageTokens * headDim;
  for (let n = 0; n < count; ) {
    const [block, offset, length] = runAt(args, row, first + n, count - n);
    if (block < 0) {
      scores.fill(Number.NEGATIVE_INFINITY, n, n + length);
    } else {
      const [keys, start] = readKv(kv, block + keyHead + offset, length * headDim);
      scoreKeys(query, keys, start, headDim, scores, n, length);
    }
    n += length;
  }
  const sink = sinks === null ? Number.NEGATIVE_INFINITY : sinks[head]!;
  const total = softmax(scores, count, sink);
  sums.fill(0, 0, headDim);
  for (let n = 0; n < count; ) {
    const [block, offset, length] = runAt(args, row, first + n, count - n);
    if (block >= 0) {
      const [values, start] = readKv(kv, block + valueHead + offset, length * headDim);
      addValues(sums, values, start, headDim, scores, n, length);
    }
    n += length;
  }
  const to = (token * heads + head) * headDim;
  for (let i = 0; i < headDim; i++) out[to + i] = sums[i]! / total;
}

/**
 * The positions of one page from `position` on: the block, the offset in each head, and how many,
 * up to `limit`.
 */
function runAt(
  paged: PagedKv,
  row: number,
  position: number,
  limit: number,
): readonly [block: number, offset: number, length: number] {
  const inPage = position % paged.pageTokens;
  const length = Math.min(limit, paged.pageTokens - inPage);
  return [blockStart(paged, row, position), inPage * paged.headDim, length];
}

/** scores[to..] = query . key for `length` keys in a row, four at a time. */
function scoreKeys(
  query: Float64Array,
  kv: Float32Array,
  start: number,
  headDim: number,
  scores: Float64Array,
  to: number,
  length: number,
): void {
  let n = 0;
  for (; n + 4 <= length; n += 4) {
    const k0 = start + n * headDim;
    const k1 = k0 + headDim;
    const k2 = k1 + headDim;
    const k3 = k2 + headDim;
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    for (let i = 0; i < headDim; i++) {
      const value = query[i]!;
      s0 += value * kv[k0 + i]!;
      s1 += value * kv[k1 + i]!;
      s2 += value * kv[k2 + i]!;
      s3 += value * kv[k3 + i]!;
    }
    scores[to + n] = s0;
    scores[to + n + 1] = s1;
    scores[to + n + 2] = s2;
    scores[to + n + 3] = s3;
  }
  for (; n < length; n++) {
    let sum = 0;
    const key = start + n * headDim;
    for (let i = 0; i < headDim; i++) sum += query[i]! * kv[key + i]!;
    scores[to + n] = sum;
  }
}

/**
 * Replaces scores by their exponentials, relative to the largest; returns the sum of these, with
 * that of `sink`, which is a score without a value.
 */
function softmax(scores: Float64Array, count: number, sink: number): number {
  let top = sink;
  for (let n = 0; n < count; n++) if (scores[n]! > top) top = scores[n]!;
  let total = Math.exp(sink - top);
  for (let n = 0; n < count; n++) {
    const weight = Math.exp(scores[n]! - top);
    scores[n] = weight;
    total += weight;
  }
  return total;
}

/** sums += weights[from..] * value for `length` values in a row, four at a time. */
function addValues(
  sums: Float64Array,
  kv: Float32Array,
  start: number,
  headDim: number,
  weights: Float64Array,
  from: number,
  length: number,
): void {
  let n = 0;
  for (; n + 4 <= length; n += 4) {
    const v0 = start + n * headDim;
    const v1 = v0 + headDim;
    const v2 = v1 + headDim;
    const v3 = v2 + headDim;
    const w0 = weights[from + n]!;
    const w1 = weights[from + n + 1]!;
    const w2 = weights[from + n + 2]!;
    const w3 = weights[from + n + 3]!;
    for (let i = 0; i < headDim; i++) {
      const low = w0 * kv[v0 + i]! + w1 * kv[v1 + i]!;
      sums[i]! += low + (w2 * kv[v2 + i]! + w3 * kv[v3 + i]!);
    }
  }
  for (; n < length; n++) {
    const weight = weights[from + n]!;
    const value = start + n * headDim;
    for (let i = 0; i < headDim; i++) sums[i]! += weight * kv[value + i]!;
  }
}
