import type { Slice } from '../device.ts';
import { type ContractCase, expectClose, expectThat } from './case.ts';
import {
  type KvShape,
  kvIndex,
  type Numbers,
  referenceAttend,
  referenceRope,
  referenceRotate,
} from './reference.ts';
import { benchCase, type Workbench } from './workbench.ts';

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
];

const ROWS = 4;
const PAGES_PER_ROW = 9;
const EPSILON = 1e-6;

/** A flat batch of tokens and what is true of each. */
interface Batch {
  readonly rows: number[];
  readonly positions: number[];
}

/** Rows with their histories on pages in random order, and the shape of the last of two layers. */
class PagedRows {
  readonly heads: number;
  readonly shape: KvShape;
  readonly pageTable: Int32Array;
  readonly pages: number;
  readonly #bench: Workbench;

  constructor(bench: Workbench, { heads, ...shape }: HeadShape) {
    this.#bench = bench;
    this.heads = heads;
    this.shape = { ...shape, layers: 2, layer: 1, pagesPerRow: PAGES_PER_ROW };
    this.pages = ROWS * PAGES_PER_ROW + 3;
    const order = bench.dice.permutation(this.pages);
    this.pageTable = Int32Array.from(order.slice(0, ROWS * PAGES_PER_ROW));
  }

  get kvElements(): number {
    const { layers, kvHeads, pageTokens, headDim } = this.shape;
    return this.pages * layers * 2 * kvHeads * pageTokens * headDim;
  }

  get qkvWidth(): number {
    return (this.heads + 2 * this.shape.kvHeads) * this.shape.headDim;
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

  /** KV with random values at positions [0, lengths[row]) and NaN everywhere else. */
  history(lengths: readonly number[]): Float32Array {
    const { kvHeads, headDim } = this.shape;
    const kv = new Float32Array(this.kvElements).fill(Number.NaN);
    lengths.forEach((length, row) => {
      for (let position = 0; position < length; position++) {
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

const describe = ({ heads, shape }: PagedRows): string =>
  `${heads}/${shape.kvHeads} heads of ${shape.headDim}, pages of ${shape.pageTokens}`;

async function checkRope(bench: Workbench, heads: HeadShape, norms: boolean): Promise<void> {
  const paged = new PagedRows(bench, heads);
  const { headDim, kvHeads, pageTokens } = heads;
  const batch: Batch = {
    rows: [0, 0, 0, -1, 1, 3, -1, 2],
    positions: [pageTokens - 1, pageTokens, pageTokens + 1, 5, 0, 3 * pageTokens - 1, -1, 1],
  };
  const maxPositions = 4 * pageTokens;
  const rope = Float32Array.from(referenceRope(maxPositions, headDim, 10_000));
  const qkv = bench.random(batch.rows.length * paged.qkvWidth);
  const queryNorm = norms ? bench.random(headDim) : null;
  const keyNorm = norms ? bench.random(headDim) : null;
  const kv = await bench.output(paged.kvElements);
  const onDevice = await bench.upload(qkv);
  bench.launch('rope-write-kv', {
    ...(await paged.geometry(batch, kv)),
    qkv: onDevice,
    queryNorm: queryNorm && (await bench.upload(queryNorm)),
    keyNorm: keyNorm && (await bench.upload(keyNorm)),
    epsilon: EPSILON,
    rope: await bench.upload(rope, 'f32'),
  });
  const what = `rope-write-kv, ${describe(paged)}${norms ? ', with norms' : ''}`;
  const rotated = await bench.download(onDevice);
  const pages = await bench.download(kv);
  const expected = { rotated: [] as number[], written: [] as number[] };
  const actual = { rotated: [] as number[], written: [] as number[] };
  batch.rows.forEach((row, i) => {
    if (row < 0) return;
    for (let head = 0; head < paged.heads + 2 * kvHeads; head++) {
      const at = i * paged.qkvWidth + head * headDim;
      const source = qkv.subarray(at, at + headDim);
      const kind = head < paged.heads ? 'q' : head < paged.heads + kvHeads ? 'k' : 'v';
      const norm = kind === 'q' ? queryNorm : keyNorm;
      const position = batch.positions[i]!;
      const result = kind === 'v' ? source : referenceRotate(source, norm, EPSILON, rope, position);
      expected.rotated.push(...result);
      actual.rotated.push(...rotated.subarray(at, at + headDim));
      if (kind === 'q') continue;
      const kvHead = (head - paged.heads) % kvHeads;
      const part = kind === 'k' ? 0 : 1;
      const to = kvIndex(paged.shape, paged.pageTable, row, position, part, kvHead);
      expected.written.push(...result);
      actual.written.push(...pages.subarray(to, to + headDim));
      pages.fill(Number.NaN, to, to + headDim);
    }
  });
  expectClose(`qkv of ${what}`, actual.rotated, expected.rotated, bench.tolerance);
  expectClose(`pages of ${what}`, actual.written, expected.written, bench.tolerance);
  const stray = pages.findIndex((value) => !Number.isNaN(value));
  expectThat(stray < 0, `${what} wrote element ${stray} of KV, where no token of the batch lives`);
}

interface AttentionSetting {
  readonly phase: 'decode' | 'prefill';
  readonly window: number;
  readonly batch: Batch;
}

async function checkAttention(
  bench: Workbench,
  heads: HeadShape,
  { phase, window, batch }: AttentionSetting,
): Promise<void> {
  const paged = new PagedRows(bench, heads);
  const { headDim, kvHeads } = heads;
  const lengths = Array.from({ length: ROWS }, (_, row) =>
    Math.max(0, ...batch.positions.map((p, i) => (batch.rows[i] === row ? p + 1 : 0))),
  );
  const kv = paged.history(lengths);
  const qkv = bench.random(batch.rows.length * paged.qkvWidth, 2);
  const out = await bench.output(batch.rows.length * paged.heads * headDim);
  const scale = 1 / Math.sqrt(headDim);
  bench.launch('attention', {
    ...(await paged.geometry(batch, await bench.upload(kv))),
    qkv: await bench.upload(qkv),
    out,
    scale,
    window,
    phase,
  });
  const lines = await bench.download(out);
  const expected: number[] = [];
  const actual: number[] = [];
  batch.rows.forEach((row, i) => {
    if (row < 0) return;
    for (let head = 0; head < paged.heads; head++) {
      const query: Numbers = qkv.subarray(
        i * paged.qkvWidth + head * headDim,
        i * paged.qkvWidth + (head + 1) * headDim,
      );
      const kvHead = Math.floor(head / (paged.heads / kvHeads));
      const place = [row, batch.positions[i]!, kvHead] as const;
      expected.push(
        ...referenceAttend(query, kv, paged.shape, paged.pageTable, place, scale, window),
      );
      const at = (i * paged.heads + head) * headDim;
      actual.push(...lines.subarray(at, at + headDim));
    }
  });
  const what = `attention, ${phase}, window ${window}, ${describe(paged)}`;
  expectClose(what, actual, expected, bench.tolerance);
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

export const attentionCases: readonly ContractCase[] = [
  benchCase('rope-write-kv', 'arithmetic', async (bench) => {
    for (const heads of HEADS) {
      await checkRope(bench, heads, false);
      await checkRope(bench, heads, true);
    }
  }),
  benchCase('attention of decode steps', 'arithmetic', async (bench) => {
    for (const heads of HEADS) {
      for (const window of [0, 1, heads.pageTokens + 3]) {
        await checkAttention(bench, heads, { phase: 'decode', window, batch: decodeBatch(heads) });
      }
    }
  }),
  benchCase('attention of prefill chunks', 'arithmetic', async (bench) => {
    for (const heads of HEADS) {
      for (const window of [0, 11]) {
        const batch = prefillBatch(heads);
        await checkAttention(bench, heads, { phase: 'prefill', window, batch });
      }
    }
  }),
  benchCase('the phase of attention is only a hint', 'arithmetic', async (bench) => {
    const heads = HEADS[0]!;
    const [decode, prefill] = [decodeBatch(heads), prefillBatch(heads)];
    await checkAttention(bench, heads, { phase: 'prefill', window: 0, batch: decode });
    await checkAttention(bench, heads, { phase: 'decode', window: 0, batch: prefill });
  }),
];
