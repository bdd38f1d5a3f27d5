import { bf16FromF32, f32FromBf16 } from '../bf16.ts';
import type { StorageFormat } from '../ops.ts';
import { type ContractCase, expectClose, expectThat } from './case.ts';
import { filled } from './filled.ts';
import { type Numbers, referenceFp8, referenceRmsNorm, referenceRope } from './reference.ts';
import { benchCase, bytesOf, type Workbench } from './workbench.ts';

/** Heads that share a token's one vector, and its parts. */
interface LatentShape {
  readonly heads: number;
  readonly rank: number;
  readonly rotaryDim: number;
  readonly keyDim: number;
  readonly pageTokens: number;
}

/** Of the first contexts are long, and of the others vectors or heads are many. */
const SHAPES: readonly LatentShape[] = [
  { heads: 3, rank: 32, rotaryDim: 16, keyDim: 16, pageTokens: 64 },
  { heads: 17, rank: 80, rotaryDim: 32, keyDim: 24, pageTokens: 24 },
  { heads: 66, rank: 48, rotaryDim: 16, keyDim: 8, pageTokens: 16 },
  { heads: 16, rank: 512, rotaryDim: 64, keyDim: 128, pageTokens: 32 },
];

const ROWS = 4;
const PAGES_PER_ROW = 6;
const EPSILON = 1e-6;
/** Of a layer before. */
const BEFORE = 2 * 16 * 40;

interface Batch {
  readonly rows: readonly number[];
  readonly positions: readonly number[];
}

/** Rows with their pages in random order. */
class Pages {
  readonly shape: LatentShape;
  readonly width: number;
  readonly table: Int32Array;
  readonly elements: number;
  readonly pageElements: number;

  constructor(bench: Workbench, shape: LatentShape) {
    this.shape = shape;
    this.width = shape.rank + shape.rotaryDim;
    this.pageElements = BEFORE + shape.pageTokens * this.width;
    const pages = ROWS * PAGES_PER_ROW + 3;
    this.elements = pages * this.pageElements;
    const order = bench.dice.permutation(pages);
    this.table = Int32Array.from(order.slice(0, ROWS * PAGES_PER_ROW));
  }

  /** Where the line of a position begins. */
  at(row: number, position: number): number {
    const { pageTokens } = this.shape;
    const page = this.table[row * PAGES_PER_ROW + Math.floor(position / pageTokens)]!;
    return page * this.pageElements + BEFORE + (position % pageTokens) * this.width;
  }
}

/** Neighbours turned together. */
function turned(pair: Numbers, rope: Numbers, position: number): Float64Array {
  const dims = pair.length;
  return filled(new Float64Array(dims), (i) => {
    const at = position * dims + (i & ~1);
    const [cos, sin] = [rope[at]!, rope[at + 1]!];
    return i % 2 === 0 ? pair[i]! * cos - pair[i + 1]! * sin : pair[i]! * cos + pair[i - 1]! * sin;
  });
}

function softmaxOver(lines: readonly Numbers[], query: Numbers, scale: number, rank: number) {
  const scores = lines.map((line) => {
    let dot = 0;
    for (let k = 0; k < query.length; k++) dot += query[k]! * line[k]!;
    return dot * scale;
  });
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const out = new Float64Array(rank);
  lines.forEach((line, j) => {
    for (let k = 0; k < rank; k++) out[k]! += (weights[j]! / total) * line[k]!;
  });
  return out;
}

async function checkAttention(bench: Workbench, shape: LatentShape, batch: Batch): Promise<void> {
  const { heads, rank, rotaryDim, keyDim, pageTokens } = shape;
  const pages = new Pages(bench, shape);
  const { width } = pages;
  const count = batch.rows.length;
  const before = new Float32Array(pages.elements).fill(Number.NaN);
  for (let row = 0; row < ROWS; row++) {
    const own = batch.positions.filter((_, i) => batch.rows[i] === row);
    const known = own.length === 0 ? 0 : Math.min(...own);
    for (let j = 0; j < known; j++) before.set(bench.random(width), pages.at(row, j));
  }
  const [queries, latents] = [
    bench.random(count * heads * width),
    bench.random(count * width, 2),
  ] as const;
  // What is to be turned comes from elsewhere.
  for (let i = 0; i < queries.length; i++) if (i % width >= rank) queries[i] = Number.NaN;
  const stride = keyDim + rotaryDim;
  const projected = bench.random(count * heads * stride, 2);
  const norm = bench.random(rank);
  const rope = Float32Array.from(referenceRope(PAGES_PER_ROW * pageTokens, rotaryDim, 10_000));
  const scale = 1 / Math.sqrt(stride);
  const element = bench.element;
  const kv = await bench.uploadBytes(bytesOf(element === 'f32' ? before : bf16FromF32(before)));
  const out = await bench.output(count * heads * rank);
  bench.launch('latent-attention', {
    kv,
    pageTable: await bench.uploadWords(pages.table),
    tokenRows: await bench.uploadWords(batch.rows),
    positions: await bench.uploadWords(batch.positions),
    pageElements: pages.pageElements,
    layerElement: BEFORE,
    pageTokens,
    pagesPerRow: PAGES_PER_ROW,
    projected: await bench.upload(projected),
    projectedStride: stride,
    turnedFrom: keyDim,
    queries: await bench.upload(queries),
    latents: await bench.upload(latents),
    norm: await bench.upload(norm),
    epsilon: EPSILON,
    rope: await bench.upload(rope, 'f32'),
    out,
    count,
    heads,
    rank,
    rotaryDim,
    scale,
  });
  const what =
    `latent-attention of ${count} lines, ${heads} heads to ${rank} and ${rotaryDim}, ` +
    `pages of ${pageTokens}`;
  const wanted = bench.once(what, () => {
    const lines = new Map<number, Float64Array>();
    const tokens = batch.rows.flatMap((row, i) => (row < 0 ? [] : [{ row, i }]));
    for (const { row, i } of tokens) {
      const own = latents.subarray(i * width, (i + 1) * width);
      const normed = referenceRmsNorm(own.subarray(0, rank), norm, rank, EPSILON);
      const rest = turned(own.subarray(rank), rope, batch.positions[i]!);
      const at = pages.at(row, batch.positions[i]!);
      lines.set(at, Float64Array.from([...normed, ...rest]));
    }
    const lineAt = (row: number, j: number) => {
      const at = pages.at(row, j);
      return lines.get(at) ?? before.subarray(at, at + width);
    };
    const outputs = tokens.flatMap(({ row, i }) => {
      const seen = Array.from({ length: batch.positions[i]! + 1 }, (_, j) => lineAt(row, j));
      return Array.from({ length: heads }, (_, head) => {
        const at = (i * heads + head) * width;
        const from = (i * heads + head) * stride + keyDim;
        const rest = projected.subarray(from, from + rotaryDim);
        const query = [
          ...queries.subarray(at, at + rank),
          ...turned(rest, rope, batch.positions[i]!),
        ];
        return [...softmaxOver(seen, query, scale, rank)];
      });
    });
    return { outputs: outputs.flat(), lines };
  });
  const given = await bench.download(out);
  const ofLine = heads * rank;
  const actual = batch.rows.flatMap((row, i) =>
    row < 0 ? [] : [...given.subarray(i * ofLine, (i + 1) * ofLine)],
  );
  expectClose(what, actual, wanted.outputs, bench.tolerance);
  const bytes = await bench.downloadBytes(kv);
  const after =
    element === 'f32'
      ? new Float32Array(bytes.buffer)
      : f32FromBf16(new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2));
  const written = [...wanted.lines.keys()];
  const found = written.flatMap((at) => [...after.subarray(at, at + width)]);
  const expected = written.flatMap((at) => [...wanted.lines.get(at)!]);
  expectClose(`pages after ${what}`, found, expected, bench.tolerance);
  for (const at of written) after.set(before.subarray(at, at + width), at);
  const stray = after.findIndex((value, i) => !Object.is(value, before[i]));
  expectThat(stray < 0, `${what} wrote element ${stray} of KV, where no token of the batch lives`);
}

/** One token of each row, at the edges of pages, with padding between. */
function singles({ pageTokens }: LatentShape): Batch {
  return {
    rows: [2, -1, 0, 3, 1, -1],
    positions: [pageTokens, 0, 0, 3 * pageTokens - 1, PAGES_PER_ROW * pageTokens - 1, -1],
  };
}

/** Runs from the start and from the middle of rows, and padding. */
function runs({ pageTokens }: LatentShape): Batch {
  const tokens = [
    { row: 1, start: 0, length: pageTokens + 3 },
    { row: 3, start: 2 * pageTokens - 5, length: 9 },
    { row: 0, start: 7, length: 1 },
  ].flatMap(({ row, start, length }) =>
    Array.from({ length }, (_, i) => [row, start + i] as const),
  );
  return {
    rows: [...tokens.map(([row]) => row), -1],
    positions: [...tokens.map(([, position]) => position), 0],
  };
}

interface HeadLinearCase {
  readonly format: StorageFormat;
  readonly count: number;
  readonly heads: number;
  readonly headRows: number;
  readonly firstRow: number;
  readonly rows: number;
  readonly columns: number;
  readonly isTransposed: boolean;
}

/** Codes of all sizes but NaN. */
function fp8Codes(bench: Workbench, length: number): Uint8Array {
  return filled(new Uint8Array(length), () => {
    const code = bench.dice.integer(0, 253);
    return code < 127 ? code : code + 1;
  });
}

async function checkHeadLinear(bench: Workbench, test: HeadLinearCase): Promise<void> {
  const { format, count, heads, headRows, firstRow, rows, columns, isTransposed } = test;
  const all = heads * headRows;
  const [inputs, outputs] = isTransposed ? [rows, columns] : [columns, rows];
  const [inputStride, outStride] = [inputs + 16, outputs + 24];
  const block = [32, 64] as const;
  const codes = format === 'element' ? null : fp8Codes(bench, all * columns);
  const blocks = Math.ceil(all / block[0]) * Math.ceil(columns / block[1]);
  const scales = codes && filled(new Float32Array(blocks), () => (1 + bench.dice.uniform()) / 256);
  const plain = codes === null ? bench.random(all * columns) : null;
  const input = bench.random(count * heads * inputStride);
  const out = await bench.output(count * heads * outStride);
  bench.launch('head-linear', {
    weight: plain ? await bench.upload(plain) : await bench.uploadBytes(codes!),
    format,
    scales: scales && (await bench.upload(scales, 'f32')),
    blockOutputs: plain ? 1 : block[0],
    blockInputs: plain ? 1 : block[1],
    input: await bench.upload(input),
    out,
    count,
    heads,
    headRows,
    firstRow,
    rows,
    columns,
    isTransposed,
    inputStride,
    outStride,
  });
  const what =
    `head-linear ${format}, ${count} lines, ${heads} heads, rows ${firstRow} + ${rows} of ` +
    `${headRows} x ${columns}${isTransposed ? ', transposed' : ''}`;
  const wanted = bench.once(what, () => {
    const weight = plain ?? referenceFp8(codes!, scales!, columns, block);
    return filled(new Float64Array(count * heads * outputs), (i) => {
      const [at, output] = [Math.floor(i / outputs), i % outputs];
      const first = ((at % heads) * headRows + firstRow) * columns;
      let sum = 0;
      for (let k = 0; k < inputs; k++) {
        const place = isTransposed ? k * columns + output : output * columns + k;
        sum += input[at * inputStride + k]! * weight[first + place]!;
      }
      return sum;
    });
  });
  const given = await bench.download(out);
  const actual = filled(
    new Float32Array(wanted.length),
    (i) => given[Math.floor(i / outputs) * outStride + (i % outputs)]!,
  );
  expectClose(what, actual, wanted, bench.tolerance);
  const isPoison = (i: number) => Number.isNaN(given[i]!);
  const stray = given.findIndex((_, i) => i % outStride >= outputs && !isPoison(i));
  expectThat(stray < 0, `${what} wrote element ${stray} beside its outputs`);
}

export const latentCases: readonly ContractCase[] = [
  benchCase('latent attention of decode steps', 'arithmetic', async (bench) => {
    for (const shape of SHAPES) await checkAttention(bench, shape, singles(shape));
  }),
  benchCase('latent attention of prompts', 'arithmetic', async (bench) => {
    for (const shape of SHAPES.slice(0, 3)) await checkAttention(bench, shape, runs(shape));
  }),
  benchCase('products of heads', 'arithmetic', async (bench) => {
    const small = { heads: 3, headRows: 40, columns: 48 };
    const large = { heads: 2, headRows: 256, columns: 512 };
    const parts = [
      { ...small, firstRow: 0, rows: 16, isTransposed: true },
      { ...small, firstRow: 16, rows: 24, isTransposed: false },
      { ...large, firstRow: 0, rows: 128, isTransposed: true },
      { ...large, firstRow: 128, rows: 128, isTransposed: false },
    ];
    for (const format of ['element', 'fp8-e4m3'] as const) {
      for (const part of parts) await checkHeadLinear(bench, { ...part, format, count: 3 });
      for (const part of parts.slice(0, 2))
        await checkHeadLinear(bench, { ...part, format, count: 70 });
    }
  }),
];
