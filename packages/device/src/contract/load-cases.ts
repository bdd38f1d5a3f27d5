import type { Slice } from '../device.ts';
import { hashTreeScratchBytes } from '../hash-tree.ts';
import type { OpArgs } from '../ops.ts';
import { type PlaceShape, storedElementBytes } from '../placement.ts';
import { type ContractCase, expectDeviceError, expectSame } from './case.ts';
import { filled } from './filled.ts';
import { referenceChecksum, referenceHashTree, referencePlace } from './reference-load.ts';
import { benchCase, bytesOf, type Dice, type Workbench } from './workbench.ts';

type Place = OpArgs['place'];
type Cast = readonly [from: Place['from'], to: Place['to']];

const CASTS: readonly Cast[] = [
  ['bytes', 'bytes'],
  ['bf16', 'bf16'],
  ['f32', 'f32'],
  ['f16', 'bf16'],
  ['f32', 'bf16'],
  ['bf16', 'f32'],
  ['f16', 'f32'],
];

/** A tensor as it is stored, and what of it is placed how. */
type Layout = Omit<PlaceShape, 'inputOffsetBytes' | 'from' | 'to' | 'first' | 'count'>;

const ALL = { columnsFrom: 0, rowGroups: 1, isTransposed: false };
/** Vectors that fit, that straddle lines, lines shorter than a vector and longer than a block. */
const LAYOUTS: readonly Layout[] = [
  { ...ALL, rows: 40, columns: 129, columnsTo: 129 },
  { ...ALL, rows: 12, columns: 96, columnsTo: 96, rowGroups: 2 },
  { ...ALL, rows: 21, columns: 37, columnsTo: 37, rowGroups: 3 },
  { ...ALL, rows: 30, columns: 128, columnsFrom: 64, columnsTo: 112 },
  { ...ALL, rows: 33, columns: 50, columnsFrom: 7, columnsTo: 10 },
  { ...ALL, rows: 500, columns: 1, columnsTo: 1, rowGroups: 4 },
  { ...ALL, rows: 3, columns: 9001, columnsFrom: 1, columnsTo: 9000 },
  { ...ALL, rows: 6, columns: 700, columnsFrom: 100, columnsTo: 100 },
  { ...ALL, rows: 24, columns: 45, columnsTo: 45, isTransposed: true },
  {
    rows: 18,
    columns: 600,
    columnsFrom: 5,
    columnsTo: 555,
    rowGroups: 2,
    isTransposed: true,
  },
];

/** Bits of all kinds: NaN, infinite, subnormal, and just at, below and above what rounds up. */
function randomElements(dice: Dice, count: number, bytes: number): Uint32Array {
  const edges = [0, 0x7fff, 0x8000, 0x8001, 0xffff];
  return filled(new Uint32Array(count), () => {
    const [high, low] = [dice.integer(0, 0xffff), dice.integer(0, 0xffff)];
    if (bytes < 4) return bytes === 1 ? low & 0xff : low;
    const edge = edges[dice.integer(0, 2 * edges.length)] ?? low;
    return ((high << 16) | edge) >>> 0;
  });
}

/** Elements in their own width. */
function packed(elements: ArrayLike<number>, bytes: number): Uint8Array {
  const Type = bytes === 1 ? Uint8Array : bytes === 2 ? Uint16Array : Uint32Array;
  return bytesOf(Type.from(elements));
}

/** Cuts [0, total) at random places; one of the pieces may be empty. */
function cuts(dice: Dice, total: number, pieces: number): number[] {
  const inner = Array.from({ length: pieces - 1 }, () => dice.integer(0, total));
  return [0, ...inner.sort((a, b) => a - b), total];
}

/**
 * Places a tensor piece by piece, each from anywhere in a buffer, but for one piece, whose elements
 * must stay as they were.
 */
async function checkPlace(bench: Workbench, [from, to]: Cast, layout: Layout): Promise<void> {
  const { dice } = bench;
  const [fromBytes, toBytes] = [storedElementBytes(from), storedElementBytes(to)];
  const stored = randomElements(dice, layout.rows * layout.columns, fromBytes);
  const size = layout.rows * (layout.columnsTo - layout.columnsFrom);
  const expected = new Uint32Array(size).fill(0xffffffff);
  const out = await bench.poisoned(Math.max(size * toBytes, 16));
  const ends = cuts(dice, stored.length, 5);
  const omitted = dice.integer(1, 4);
  for (let n = 1; n < ends.length; n++) {
    const [first, end] = [ends[n - 1]!, ends[n]!];
    const piece = stored.subarray(first, end);
    const inputOffsetBytes = dice.integer(0, 17) * fromBytes;
    const bytes = new Uint8Array(inputOffsetBytes + piece.length * fromBytes + 1);
    bytes.set(packed(piece, fromBytes), inputOffsetBytes);
    const shape = { ...layout, inputOffsetBytes, from, to, first, count: piece.length };
    if (n === omitted) continue;
    bench.launch('place', { ...shape, input: await bench.uploadBytes(bytes), out });
    referencePlace(piece, shape, expected);
  }
  const what = `${from} to ${to} of [${layout.rows}, ${layout.columns}]`;
  const placed = (await bench.downloadBytes(out)).subarray(0, size * toBytes);
  expectSame(what, placed, packed(expected, toBytes));
}

/** All float16 codes, at once. */
async function checkEveryHalf(bench: Workbench, to: 'bf16' | 'f32'): Promise<void> {
  const codes = filled(new Uint32Array(0x10000), (code) => code);
  const out = await bench.output(codes.length, to);
  const expected = new Uint32Array(codes.length);
  const line = { ...ALL, rows: 1, columns: codes.length, columnsTo: codes.length };
  const shape = { ...line, from: 'f16', to, first: 0, count: codes.length } as const;
  const placing = { ...shape, inputOffsetBytes: 0 };
  bench.launch('place', { ...placing, input: await bench.uploadBytes(packed(codes, 2)), out });
  referencePlace(codes, placing, expected);
  const bytes = to === 'bf16' ? 2 : 4;
  expectSame(`f16 to ${to}`, await bench.downloadBytes(out), packed(expected, bytes));
}

/** So many elements that 32 bits, one of them for the sign, do not count them. */
const HUGE = 2 ** 31 + 2 ** 20;

/** Parts of a tensor at its far end: ordered, parted and transposed. */
async function placeHuge(bench: Workbench): Promise<void> {
  const buffer = bench.device.allocate(HUGE, 'contract huge');
  const out: Slice = { buffer, offsetBytes: 0, bytes: HUGE };
  const piece = filled(new Uint8Array(1000), () => bench.dice.integer(0, 255));
  const input = await bench.uploadBytes(piece);
  const host = bench.host(piece.length);
  const columns = 2 ** 10;
  const layouts: readonly Layout[] = [
    { ...ALL, rows: 1, columns: HUGE, columnsTo: HUGE },
    { ...ALL, rows: HUGE / columns, columns, columnsTo: columns, rowGroups: 2 },
    { ...ALL, rows: columns, columns: HUGE / columns, columnsTo: HUGE / columns, rowGroups: 2 },
    { ...ALL, rows: 2, columns: HUGE / 2, columnsTo: HUGE / 2, isTransposed: true },
  ];
  for (const [index, layout] of layouts.entries()) {
    const cast = { from: 'bytes', to: 'bytes', inputOffsetBytes: 0 } as const;
    const shape = { ...layout, ...cast, first: HUGE - piece.length, count: piece.length };
    bench.launch('place', { ...shape, input, out });
    const expected: Record<number, number> = {};
    referencePlace(piece, shape, expected);
    const places = Object.keys(expected).map(Number);
    const values = Object.values(expected);
    // Strided places are looked at one by one.
    const isRun = places.at(-1)! - places[0]! === places.length - 1;
    const step = isRun ? places.length : 1;
    for (let i = 0; i < (isRun ? places.length : 40); i += step) {
      const part = { buffer, offsetBytes: places[i]!, bytes: step };
      await bench.copy(bench.device.inlineLane, 'd2h', part, host);
      const found = host.bytes.subarray(0, step);
      expectSame(`huge layout ${index}`, found, values.slice(i, i + step));
    }
  }
  bench.device.free(buffer);
}

const placeCases: readonly ContractCase[] = [
  ...CASTS.map((cast) =>
    benchCase(`place: ${cast[0]} to ${cast[1]}`, 'arithmetic', async (bench) => {
      for (const layout of LAYOUTS) await checkPlace(bench, cast, layout);
    }),
  ),
  benchCase('place: every float16', 'arithmetic', async (bench) => {
    await checkEveryHalf(bench, 'bf16');
    await checkEveryHalf(bench, 'f32');
  }),
  benchCase('place: a tensor that many blocks place', 'arithmetic', async (bench) => {
    const large = { ...ALL, rows: 400, columns: 800, columnsTo: 800 };
    await checkPlace(bench, ['bf16', 'bf16'], large);
    await checkPlace(bench, ['f32', 'bf16'], { ...large, columnsFrom: 8, columnsTo: 408 });
    await checkPlace(bench, ['bf16', 'bf16'], { ...large, isTransposed: true });
  }),
  benchCase('place: more elements than 31 bits count', 'arithmetic', async (bench) => {
    const hasRoom = bench.device.info.memoryBytes > 2 * HUGE;
    if (hasRoom) await placeHuge(bench);
  }),
  benchCase('place refuses what does not fit', 'arithmetic', async (bench) => {
    const memory = await bench.poisoned(64);
    const good: Place = {
      ...ALL,
      input: memory,
      out: memory,
      inputOffsetBytes: 0,
      from: 'f32',
      to: 'bf16',
      first: 0,
      count: 16,
      rows: 4,
      columns: 4,
      columnsTo: 4,
    };
    const faults: readonly Partial<Place>[] = [
      { inputOffsetBytes: 4 },
      { inputOffsetBytes: 2, count: 1 },
      { to: 'bytes' },
      { first: 1 },
      { first: -1, count: 1 },
      { columnsTo: 5 },
      { columnsFrom: 5 },
      { rowGroups: 3 },
      { rowGroups: 0 },
      { rows: 16, columnsFrom: 1 },
      { count: 0.5 },
    ];
    for (const fault of faults) {
      await expectDeviceError(`place with ${JSON.stringify(fault)}`, 'bad-argument', () =>
        bench.launch('place', { ...good, ...fault }),
      );
    }
    bench.launch('place', { ...good, count: 0 });
    const still = await bench.downloadBytes(memory);
    expectSame('what nothing was placed in', still, new Uint8Array(64).fill(0xff));
  }),
];

/** Random bytes with others behind them that do not count. */
function randomBytes(dice: Dice, bytes: number): Uint8Array {
  return filled(new Uint8Array(bytes + 20), () => dice.integer(0, 255));
}

async function checkHashTree(bench: Workbench, all: Uint8Array, bytes: number, leafBytes: number) {
  const scratchBytes = Math.max(hashTreeScratchBytes(bytes, leafBytes), 16);
  const out = await bench.poisoned(32);
  const input = await bench.uploadBytes(all);
  const scratch = await bench.poisoned(scratchBytes);
  bench.launch('hash-tree', { input, bytes, leafBytes, scratch, out });
  const root = await bench.downloadBytes(out);
  const expected = referenceHashTree(all.subarray(0, bytes), leafBytes);
  expectSame(`root over ${bytes} bytes in leaves of ${leafBytes}`, root, expected);
  await bench.downloadBytes(scratch);
}

/** Around the ends of blocks, where padding changes; several levels, full and nearly empty. */
const HASHED: readonly (readonly [leafBytes: number, sizes: readonly number[]])[] = [
  [64, [0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 128, 64 * 64, 64 * 64 + 1, 64 ** 3 + 70]],
  [128, [127, 128, 129, 5000]],
  [8192, [8191, 8192, 8193, 8192 * 64, 8192 * 65 + 17]],
];

const digestCases: readonly ContractCase[] = [
  benchCase('checksum', 'arithmetic', async (bench) => {
    for (const bytes of [0, 1, 3, 4, 5, 15, 16, 17, 31, 1000, 16_387, 1_000_003]) {
      const all = randomBytes(bench.dice, bytes);
      const out = await bench.poisoned(8);
      bench.launch('checksum', { input: await bench.uploadBytes(all), bytes, out });
      const sums = new Uint32Array((await bench.downloadBytes(out)).buffer);
      expectSame(`sums of ${bytes} bytes`, sums, referenceChecksum(all.subarray(0, bytes)));
    }
  }),
  benchCase('hash-tree', 'arithmetic', async (bench) => {
    for (const [leafBytes, sizes] of HASHED) {
      for (const bytes of sizes) {
        await checkHashTree(bench, randomBytes(bench.dice, bytes), bytes, leafBytes);
      }
    }
  }),
  benchCase('hash-tree of one leaf is SHA-256', 'arithmetic', async (bench) => {
    // A million times "a": the longest of FIPS 180's examples.
    const all = new Uint8Array(1_000_000).fill(0x61);
    const out = await bench.poisoned(32);
    const [input, scratch] = [await bench.uploadBytes(all), await bench.poisoned(16)];
    bench.launch('hash-tree', { input, bytes: all.length, leafBytes: all.length, scratch, out });
    const digest = Buffer.from(
      'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0',
      'hex',
    );
    expectSame('digest', await bench.downloadBytes(out), digest);
  }),
  benchCase('hash-tree refuses what does not fit', 'arithmetic', async (bench) => {
    const memory = await bench.poisoned(64);
    const out = await bench.poisoned(32);
    const good = { input: memory, bytes: 64, leafBytes: 64, scratch: memory, out };
    const [half, scarce] = [
      { ...out, bytes: 16 },
      { ...memory, bytes: 32 },
    ];
    const large = { input: await bench.poisoned(200), bytes: 200 };
    const faults = [
      { leafBytes: 0 },
      { leafBytes: 96 },
      { bytes: 65 },
      { bytes: -1 },
      { out: half },
      { ...large, scratch: scarce },
    ];
    for (const fault of faults) {
      await expectDeviceError('a hash-tree that does not fit', 'bad-argument', () =>
        bench.launch('hash-tree', { ...good, ...fault }),
      );
    }
  }),
];

/** The operations that bring weights in: bit for bit. */
export const loadCases: readonly ContractCase[] = [...placeCases, ...digestCases];
