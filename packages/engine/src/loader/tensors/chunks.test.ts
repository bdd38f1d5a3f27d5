import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Chunk, ChunkCursor } from './chunks.ts';
import type { StoredPart } from './parts.ts';

const WIDTH = { bytes: 1, bf16: 2, f16: 2, f32: 4 } as const;

function part(name: string, file: number, from: number, count: number, type: keyof typeof WIDTH) {
  const bytes = count * WIDTH[type];
  const sizes = { rows: 1, columns: count, columnsFrom: 0, columnsTo: count, rowGroups: 1 };
  const shape = { ...sizes, isTransposed: false, from: type, to: type === 'bytes' ? type : 'f32' };
  const where = { arena: 0, offsetBytes: 0, outBytes: bytes };
  return { name, file, filePosition: from, bytes, ...where, shape } as StoredPart;
}

function all(cursor: ChunkCursor, chunkBytes: () => number): Chunk[] {
  const chunks: Chunk[] = [];
  for (let chunk = cursor.next(chunkBytes()); chunk !== null; chunk = cursor.next(chunkBytes())) {
    chunks.push(chunk);
  }
  return chunks;
}

const GRID = 64;
const parts = fc
  .array(
    fc.record({
      file: fc.integer({ min: 0, max: 2 }),
      gap: fc.oneof(fc.nat(20), fc.integer({ min: 1e6, max: 3e6 })),
      count: fc.nat(400),
      type: fc.constantFrom('bytes', 'bf16', 'f16', 'f32'),
    }),
    { maxLength: 12 },
  )
  .map((wanted) => {
    const ends = [0, 0, 0];
    return wanted.map(({ file, gap, count, type }, i) => {
      const width = WIDTH[type];
      const from = Math.ceil((ends[file]! + gap) / width) * width;
      ends[file] = from + count * width;
      return part(`tensor ${i}`, file, from, count, type);
    });
  });

test('every element of every part is in one chunk, whatever the sizes of chunks', () => {
  fc.assert(
    fc.property(parts, fc.infiniteStream(fc.integer({ min: 1, max: 9 })), (wanted, sizes) => {
      const ends = [0, 1, 2].map((file) => {
        const here = wanted.filter((each) => each.file === file);
        return Math.max(1, ...here.map(({ filePosition, bytes }) => filePosition + bytes));
      });
      const cursor = new ChunkCursor(wanted, { fileBytes: ends, gridBytes: GRID });
      const chunks = all(cursor, () => GRID * sizes.next().value!);
      const seen = new Map<string, number>();
      for (const { file, filePosition, bytes, pieces } of chunks) {
        expect(filePosition % GRID).toBe(0);
        expect(bytes).toBeGreaterThan(0);
        expect(bytes).toBeLessThanOrEqual(9 * GRID);
        expect(filePosition + bytes).toBeLessThanOrEqual(ends[file]!);
        for (const { part: whole, chunkOffsetBytes, first, count } of pieces) {
          const width = WIDTH[whole.shape.from];
          expect(whole.file).toBe(file);
          expect(filePosition + chunkOffsetBytes).toBe(whole.filePosition + first * width);
          expect(chunkOffsetBytes + count * width).toBeLessThanOrEqual(bytes);
          // Pieces of a part come in order, without a gap.
          expect(first).toBe(seen.get(whole.name) ?? 0);
          seen.set(whole.name, first + count);
        }
      }
      for (const { name, bytes, shape } of wanted) {
        expect(seen.get(name) ?? 0).toBe(bytes / WIDTH[shape.from]);
      }
      expect(chunks.reduce((total, { bytes }) => total + bytes, 0)).toBe(cursor.totalBytes);
    }),
  );
});

test('what nobody wants is not read, unless it costs less than another read', () => {
  const wanted = [
    part('a', 0, 100, 100, 'bytes'),
    part('b', 0, 500_000, 100, 'bytes'),
    part('c', 0, 9_000_000, 100, 'bytes'),
  ];
  const cursor = new ChunkCursor(wanted, { fileBytes: [9_000_100], gridBytes: 4096 });
  const chunks = all(cursor, () => 1024 * 1024);
  expect(chunks.map(({ filePosition }) => filePosition)).toEqual([0, 8_998_912]);
  expect(cursor.totalBytes).toBeLessThan(600_000);
});

test('parts of ranks over the same bytes are each whole, and no byte comes twice', () => {
  const [first, second, within] = [
    part('columns of rank 0', 0, 0, 300, 'bytes'),
    part('columns of rank 1', 0, 0, 300, 'bytes'),
    part('rows of rank 1', 0, 70, 20, 'bytes'),
  ];
  const later = part('of rank 1 alone', 0, 310, 40, 'bytes');
  const wanted = [first!, second!, within!, later];
  const chunks = all(new ChunkCursor(wanted, { fileBytes: [350], gridBytes: GRID }), () => GRID);
  expect(chunks.map(({ filePosition }) => filePosition)).toEqual([0, 64, 128, 192, 256, 320]);
  for (const whole of wanted) {
    const own = chunks.flatMap(({ pieces }) => pieces.filter((piece) => piece.part === whole));
    expect(own.reduce((sum, { count }) => sum + count, 0)).toBe(whole.bytes);
    expect(own.map(({ first: at }) => at)).toEqual(
      own.map((_, i) => own.slice(0, i).reduce((sum, { count }) => sum + count, 0)),
    );
  }
});

test('nothing is dealt out any more once a cursor has ended', () => {
  const cursor = new ChunkCursor([part('tensor', 0, 0, 300, 'bytes')], {
    fileBytes: [300],
    gridBytes: GRID,
  });
  expect(cursor.next(GRID)).not.toBeNull();
  cursor.end();
  expect(cursor.next(GRID)).toBeNull();
});
