import { bf16FromF32, f32FromBf16 } from '../bf16.ts';
import type { Slice } from '../device.ts';
import {
  LINE_KV_PARTS,
  type LineKv,
  type NormOffset,
  type OpArgs,
  qkvWidth,
  type StorageFormat,
} from '../ops.ts';
import { type ContractCase, expectClose, expectThat } from './case.ts';
import { filled } from './filled.ts';
import {
  type KvShape,
  kvIndex,
  referenceAttend,
  referenceE4m3,
  referenceRmsNorm,
  referenceRope,
  referenceRotate,
  referenceRoundE4m3,
} from './reference.ts';
import { benchCase, bytesOf, type Workbench } from './workbench.ts';

/** One configuration of heads and pages. */
interface HeadShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly pageTokens: number;
}

const HEADS: readonly HeadShape[] = [
  { heads: 4, kvHeads: 2, headDim: 64, pageTokens: 16 },
  { heads: 3, kvHeads: 3, headDim: 80, pageTokens: 16 },
  { heads: 6, kvHeads: 2, headDim: 96, pageTokens: 32 },
  { heads: 8, kvHeads: 2, headDim: 128, pageTokens: 16 },
  { heads: 8, kvHeads: 1, headDim: 64, pageTokens: 64 },
  { heads: 5, kvHeads: 1, headDim: 128, pageTokens: 32 },
  { heads: 2, kvHeads: 1, headDim: 256, pageTokens: 16 },
  { heads: 8, kvHeads: 1, headDim: 512, pageTokens: 16 },
];
/** Of a layer before, whose heads are of another size. */
const ODD_ELEMENTS = 2 * 16 * 40;

const ROWS = 4;
const PAGES_PER_ROW = 9;
const EPSILON = 1e-6;

/** A flat batch of tokens and what is true of each. */
interface Batch {
  readonly rows: number[];
  readonly positions: number[];
}

/** Rows with their histories on pages in random order, and the shape of the last of the layers. */
class PagedRows {
  readonly heads: number;
  readonly lineKv: LineKv;
  readonly shape: KvShape;
  readonly pageTable: Int32Array;
  readonly pages: number;
  readonly #bench: Workbench;

  constructor(bench: Workbench, { heads, ...shape }: HeadShape, lineKv: LineKv) {
    this.#bench = bench;
    this.heads = heads;
    this.lineKv = lineKv;
    const layer = 2 * shape.kvHeads * shape.pageTokens * shape.headDim;
    const before = layer + (shape.headDim > 128 ? ODD_ELEMENTS : 0);
    const places = { pageElements: before + layer, layerElement: before };
    this.shape = { ...shape, ...places, pagesPerRow: PAGES_PER_ROW };
    this.pages = ROWS * PAGES_PER_ROW + 3;
    const order = bench.dice.permutation(this.pages);
    this.pageTable = Int32Array.from(order.slice(0, ROWS * PAGES_PER_ROW));
  }

  get kvElements(): number {
    return this.pages * this.shape.pageElements;
  }

  get qkvWidth(): number {
    return qkvWidth({ ...this.shape, heads: this.heads, lineKv: this.lineKv });
  }

  async geometry(batch: Batch, kv: Slice) {
    return {
      ...this.shape,
      kv,
      pageTable: await this.#bench.uploadWords(this.pageTable),
      tokenRows: await this.#bench.uploadWords(batch.rows),
      positions: await this.#bench.uploadWords(batch.positions),
      heads: this.heads,
      count: batch.rows.length,
    };
  }

  /**
   * Pages that end before a row's first position that is seen are of others by now: one of another
   * row, or of nobody.
   */
  loseBefore(firsts: readonly number[]): void {
    firsts.forEach((first, row) => {
      const start = row * PAGES_PER_ROW;
      const other = ((row + 1) % ROWS) * PAGES_PER_ROW;
      const lost = Math.floor(first / this.shape.pageTokens);
      for (let index = 0; index < lost; index++) {
        this.pageTable[start + index] = index % 2 === 0 ? this.pageTable[other + 8]! : -1;
      }
    });
  }

  /** KV with random values at positions [firsts[row], ends[row]) and NaN everywhere else. */
  history(firsts: readonly number[], ends: readonly number[]): Float32Array {
    const { kvHeads, headDim } = this.shape;
    const kv = new Float32Array(this.kvElements).fill(Number.NaN);
    ends.forEach((end, row) => {
      for (let position = firsts[row]!; position < end; position++) {
        for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
          for (const part of [0, 1] as const) {
            const at = kvIndex(this.shape, this.pageTable, row, position, part, kvHead);
            kv.set(this.#bench.random(headDim), at);
          }
        }
      }
    });
    return kv;
  }
}

function describe({ heads, shape }: PagedRows, test: AttentionCase): string {
  const { kvHeads, headDim, pageTokens } = shape;
  const shapes = `${heads}/${kvHeads} heads of ${headDim}, pages of ${pageTokens}`;
  const { phase, window, hasNorms, hasSinks, kvFormat } = test;
  const rotary = test.rotaryDim === undefined ? '' : `, ${test.rotaryDim} dims rotate`;
  const ofLine = test.lineKv === undefined ? '' : `, lines with ${test.lineKv}`;
  const values = test.valueNorm ? ', values normalised' : '';
  const norms = (hasNorms ? ', with norms' : '') + (hasSinks ? ', with sinks' : '') + rotary;
  const what = `${shapes}${norms}${ofLine}${values}`;
  return `attention, ${phase}, window ${window}, KV ${kvFormat}, ${what}`;
}

interface AttentionCase {
  readonly heads: HeadShape;
  readonly phase: OpArgs['attention']['phase'];
  readonly window: number;
  readonly batch: Batch;
  readonly hasNorms: boolean;
  readonly hasSinks: boolean;
  readonly kvFormat: StorageFormat;
  /** Absent: all dims rotate. */
  readonly rotaryDim?: number;
  readonly normOffset?: NormOffset;
  /** Absent: keys and values. */
  readonly lineKv?: LineKv;
  readonly valueNorm?: boolean;
}

const MAX_POSITIONS = 64 * PAGES_PER_ROW;

const E4M3 = filled(new Float32Array(256), (code) => referenceE4m3(code));

/** KV as bytes of its format, and as the numbers that those stand for. */
function stored(bench: Workbench, kv: Float32Array, kvFormat: StorageFormat) {
  if (kvFormat === 'element') {
    return { bytes: bytesOf(bench.element === 'f32' ? kv : bf16FromF32(kv)), values: kv };
  }
  const bytes = new Uint8Array(kv.length);
  const values = new Float32Array(kv.length);
  for (let i = 0; i < kv.length; i++) {
    // Of the size of elements: below 2, subnormals among them.
    const code = () => bench.dice.integer(0, 0x3f) | (kv[i]! < 0 ? 0x80 : 0);
    bytes[i] = Number.isNaN(kv[i]) ? 0x7f : code();
    values[i] = E4M3[bytes[i]!]!;
  }
  return { bytes, values };
}

/** What the operation must leave: KV with the batch's keys and values, and the output lines. */
function expected(
  paged: PagedRows,
  test: AttentionCase,
  inputs: {
    readonly qkv: Float32Array;
    readonly kv: Float32Array;
    readonly rope: Float32Array;
    readonly norms: readonly [query: Float32Array, key: Float32Array];
    readonly sinks: Float32Array | null;
  },
) {
  const { batch, heads, window, hasNorms, kvFormat, normOffset = 0 } = test;
  const parts = LINE_KV_PARTS[paged.lineKv];
  const { headDim, kvHeads } = heads;
  const kv = new Float64Array(inputs.kv);
  const round = (value: number) => (kvFormat === 'element' ? value : referenceRoundE4m3(value));
  const headAt = (i: number, head: number) => {
    const at = i * paged.qkvWidth + head * headDim;
    return inputs.qkv.subarray(at, at + headDim);
  };
  const rotate = (i: number, head: number, norm: Float32Array) =>
    referenceRotate(
      headAt(i, head),
      hasNorms ? norm.map((weight) => weight + normOffset) : null,
      EPSILON,
      inputs.rope,
      batch.positions[i]!,
      test.rotaryDim,
    );
  const tokens = batch.rows.flatMap((row, i) => (row < 0 ? [] : [{ row, i }]));
  const written = new Set<number>();
  const ones = new Float32Array(headDim).fill(1);
  for (const { row, i } of tokens) {
    for (let n = 0; n < kvHeads && parts > 0; n++) {
      const value = headAt(i, paged.heads + (parts - 1) * kvHeads + n);
      const both = [
        rotate(i, paged.heads + n, inputs.norms[1]),
        test.valueNorm ? referenceRmsNorm(value, ones, headDim, EPSILON) : value,
      ] as const;
      for (const part of [0, 1] as const) {
        const to = kvIndex(paged.shape, paged.pageTable, row, batch.positions[i]!, part, n);
        kv.set(both[part].map(round), to);
        written.add(to);
      }
    }
  }
  const lines = tokens.flatMap(({ row, i }) =>
    Array.from({ length: paged.heads }, (_, head) => {
      const query = rotate(i, head, inputs.norms[0]);
      const place = [row, batch.positions[i]!, Math.floor(head / (paged.heads / kvHeads))] as const;
      const scale = 1 / Math.sqrt(headDim);
      const { shape, pageTable } = paged;
      const sink = inputs.sinks?.[head];
      return referenceAttend(query, kv, shape, pageTable, place, scale, window, sink);
    }),
  );
  const places = [...written];
  return { places, pages: picked(kv, places, headDim), lines: joined(lines), tokens };
}

/** The keys and values at these places of KV. */
function picked(kv: Float32Array | Float64Array, places: readonly number[], headDim: number) {
  return joined(places.map((at) => kv.subarray(at, at + headDim)));
}

function joined(parts: readonly (Float32Array | Float64Array)[]): Float64Array {
  const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const ropes = new Map<string, Float32Array>();

/** Angles of so many dims, and none of the others; made once, as every shape is checked often. */
function ropeOf(headDim: number, rotaryDim: number): Float32Array {
  const key = `${headDim} ${rotaryDim}`;
  const known = ropes.get(key);
  if (known !== undefined) return known;
  const rope = Float32Array.from(referenceRope(MAX_POSITIONS, headDim, 10_000));
  for (let i = 0; i < rope.length; i++) {
    if (i % headDim >= rotaryDim) rope[i] = 1 - (i % 2);
  }
  ropes.set(key, rope);
  return rope;
}

async function checkAttention(bench: Workbench, test: AttentionCase): Promise<void> {
  const { heads, phase, window, batch, kvFormat, hasNorms, hasSinks } = test;
  const { lineKv = 'keys and values', valueNorm = false } = test;
  const paged = new PagedRows(bench, heads, lineKv);
  const { headDim } = heads;
  const positionsOf = (row: number) => batch.positions.filter((_, i) => batch.rows[i] === row);
  const ends = Array.from({ length: ROWS }, (_, row) => {
    const own = positionsOf(row);
    if (own.length === 0) return 0;
    // Where lines bring nothing, their own are there.
    return lineKv === 'none' ? Math.max(...own) + 1 : Math.min(...own);
  });
  // What no line of the row sees may be anything, NaN as well.
  const firsts = ends.map((end, row) => {
    const lowest = Math.min(end, ...positionsOf(row));
    return window === 0 ? 0 : Math.max(0, lowest - window + 1);
  });
  paged.loseBefore(firsts);
  const before = bench.once(`kv ${firsts} to ${ends} ${kvFormat}`, () =>
    stored(bench, paged.history(firsts, ends), kvFormat),
  );
  const qkv = bench.once('qkv', () => bench.random(batch.rows.length * paged.qkvWidth, 2));
  const norms = [bench.random(headDim), bench.random(headDim)] as const;
  const sinks = hasSinks ? bench.random(paged.heads, 3) : null;
  const { rotaryDim = headDim, normOffset = 0 } = test;
  const rope = ropeOf(headDim, rotaryDim);
  const out = await bench.output(batch.rows.length * paged.heads * headDim);
  const kv = await bench.uploadBytes(before.bytes);
  bench.launch('attention', {
    ...(await paged.geometry(batch, kv)),
    kvFormat,
    qkv: await bench.upload(qkv),
    lineKv,
    valueNorm,
    sinks: sinks && (await bench.upload(sinks)),
    queryNorm: hasNorms ? await bench.upload(norms[0]) : null,
    keyNorm: hasNorms ? await bench.upload(norms[1]) : null,
    epsilon: EPSILON,
    rope: await bench.upload(rope, 'f32'),
    rotaryDim,
    normOffset,
    out,
    scale: 1 / Math.sqrt(headDim),
    window,
    phase,
  });
  const what = describe(paged, test);
  const wanted = bench.once(what, () =>
    expected(paged, test, { qkv, kv: before.values, rope, norms, sinks }),
  );
  const lines = await bench.download(out);
  const lineWidth = paged.heads * headDim;
  const actual = joined(
    wanted.tokens.map(({ i }) => lines.subarray(i * lineWidth, (i + 1) * lineWidth)),
  );
  // A value that falls between two codes may round either way.
  const tolerance = kvFormat === 'element' ? bench.tolerance : 2 * bench.tolerance + 5e-3;
  expectClose(what, actual, wanted.lines, tolerance);
  const after = await bench.downloadBytes(kv);
  const pages = kvFormat === 'element' ? elementsOf(bench, after) : decoded(after);
  const now = picked(pages, wanted.places, headDim);
  expectClose(`pages after ${what}`, now, wanted.pages, tolerance);
  const own = new Uint8Array(pages.length);
  for (const at of wanted.places) own.fill(1, at, at + headDim);
  // Nearly all are as they were, which their bits tell soonest.
  const [bits, then] = [bitsOf(pages), bitsOf(before.values)];
  let stray = -1;
  for (let i = 0; i < bits.length && stray < 0; i++) {
    if (bits[i] === then[i] || own[i] === 1) continue;
    if (!Object.is(pages[i], before.values[i])) stray = i;
  }
  expectThat(stray < 0, `${what} wrote element ${stray} of KV, where no token of the batch lives`);
}

/** `Float32Array.from` takes ten times as long. */
function decoded(codes: Uint8Array): Float32Array {
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) values[i] = E4M3[codes[i]!]!;
  return values;
}

const bitsOf = ({ buffer, byteOffset, length }: Float32Array) =>
  new Int32Array(buffer, byteOffset, length);

function elementsOf(bench: Workbench, bytes: Uint8Array): Float32Array {
  if (bench.element === 'f32') return new Float32Array(bytes.buffer);
  return f32FromBf16(new Uint16Array(bytes.buffer));
}

/** One token of each row, at the edges of pages, with padding between. */
function decodeBatch({ pageTokens }: HeadShape): Batch {
  return {
    rows: [2, -1, 0, 3, 1, -1],
    positions: [pageTokens, 0, 0, 5 * pageTokens - 1, PAGES_PER_ROW * pageTokens - 1, -1],
  };
}

/**
 * Two runs of consecutive positions, one from the start and one in the middle of a row, and
 * padding.
 */
function prefillBatch({ pageTokens }: HeadShape): Batch {
  const runs = [
    { row: 1, start: 0, length: pageTokens + 3 },
    { row: 3, start: 2 * pageTokens - 5, length: 21 },
    { row: 0, start: 7, length: 1 },
  ];
  const rows: number[] = [];
  const positions: number[] = [];
  for (const { row, start, length } of runs) {
    for (let i = 0; i < length; i++) {
      rows.push(row);
      positions.push(start + i);
    }
  }
  return { rows: [...rows, -1, -1], positions: [...positions, 0, -1] };
}

/** Short runs, each with room for more: over the end of a page, at the start, and far behind it. */
function draftBatch({ pageTokens }: HeadShape): Batch {
  const runs = [
    { row: 2, first: 3 * pageTokens - 2, length: 5 },
    { row: 0, first: 0, length: 2 },
    { row: 3, first: PAGES_PER_ROW * pageTokens - 4, length: 4 },
    { row: 1, first: pageTokens + 1, length: 1 },
  ];
  const lines = runs.flatMap(({ row, first, length }) =>
    Array.from({ length: 5 }, (_, i) => (i < length ? [row, first + i] : [-1, 0])),
  );
  return { rows: lines.map(([row]) => row!), positions: lines.map(([, at]) => at!) };
}

async function checkEveryShape(
  bench: Workbench,
  phase: AttentionCase['phase'],
  batchOf: (heads: HeadShape) => Batch,
  shapes: readonly HeadShape[] = HEADS,
): Promise<void> {
  for (const heads of shapes.filter(({ headDim }) => headDim <= 256)) {
    const plain = { hasNorms: false, hasSinks: false, window: 0 };
    const common = { heads, phase, batch: batchOf(heads), ...plain };
    const window = heads.pageTokens + 3;
    await checkAttention(bench, { ...common, kvFormat: 'element' });
    await checkAttention(bench, { ...common, kvFormat: 'element', hasNorms: true, window });
    await checkAttention(bench, { ...common, kvFormat: 'element', hasSinks: true, window });
    await checkAttention(bench, { ...common, kvFormat: 'fp8-e4m3', hasNorms: true });
    await checkAttention(bench, { ...common, kvFormat: 'fp8-e4m3', hasSinks: true });
    if (heads.headDim !== 64 && heads.headDim !== 256) continue;
    const centred = { ...common, hasNorms: true, normOffset: 1, rotaryDim: 32 } as const;
    await checkAttention(bench, { ...centred, kvFormat: 'element' });
  }
  for (const heads of shapes.filter(({ headDim }) => headDim > 128)) {
    const normed = { heads, phase, batch: batchOf(heads), hasNorms: true, hasSinks: false };
    const windowed = { ...normed, window: heads.pageTokens + 3 };
    const [element, fp8] = ['element', 'fp8-e4m3'] as const;
    const keys = { lineKv: 'keys', valueNorm: true } as const;
    await checkAttention(bench, { ...windowed, valueNorm: true, kvFormat: element });
    await checkAttention(bench, { ...normed, window: 0, ...keys, kvFormat: element });
    await checkAttention(bench, { ...windowed, ...keys, valueNorm: false, kvFormat: fp8 });
    await checkAttention(bench, { ...normed, window: 0, ...keys, kvFormat: fp8 });
    await checkAttention(bench, { ...windowed, lineKv: 'none', kvFormat: element });
    await checkAttention(bench, { ...normed, window: 0, lineKv: 'none', kvFormat: fp8 });
  }
}

export const attentionCases: readonly ContractCase[] = [
  benchCase('attention of decode steps', 'arithmetic', (bench) =>
    checkEveryShape(bench, 'decode', decodeBatch),
  ),
  benchCase('attention of prefill chunks', 'arithmetic', (bench) =>
    checkEveryShape(bench, 'prefill', prefillBatch),
  ),
  benchCase('attention of drafts', 'arithmetic', (bench) =>
    checkEveryShape(bench, 'verify', draftBatch, [HEADS[1]!, HEADS[3]!, HEADS[6]!, HEADS[7]!]),
  ),
  benchCase('attention of single tokens as a chunk', 'arithmetic', async (bench) => {
    const heads = HEADS[3]!;
    const common = { phase: 'prefill', hasNorms: true, hasSinks: false } as const;
    const single = { ...common, heads, batch: decodeBatch(heads) };
    await checkAttention(bench, { ...single, window: 0, kvFormat: 'element' });
    await checkAttention(bench, { ...single, window: 1, kvFormat: 'fp8-e4m3' });
  }),
];
