import fc from 'fast-check';
import { expect, test } from 'vitest';
import { partLaneNs, pieceBytesOf, piecesOf } from './part-places.ts';

test('pieces cover a part, are as equal as vectors allow, and none is too large', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 24 }),
      fc.integer({ min: 1, max: 2 ** 20 }),
      (vectors, mostVectors) => {
        const [bytes, mostBytes] = [16 * vectors, 16 * mostVectors];
        const pieceBytes = pieceBytesOf(bytes, mostBytes);
        // What an operation may be asked for.
        expect(pieceBytes % 16).toBe(0);
        expect(pieceBytes).toBeLessThanOrEqual(mostBytes);
        const least = Math.ceil(bytes / mostBytes);
        expect(Math.ceil(bytes / pieceBytes)).toBeLessThanOrEqual(least);
        if (least > 1000) return;
        const pieces = piecesOf({ part: 'state', bytes, pieceBytes });
        let end = 0;
        for (const [index, piece] of pieces.entries()) {
          expect(piece).toMatchObject({ index, fromBytes: end });
          expect(piece.bytes % 16).toBe(0);
          expect(piece.bytes).toBeGreaterThan(0);
          end += piece.bytes;
        }
        expect(end).toBe(bytes);
      },
    ),
  );
});

test('what crosses in pieces pays a toll for each, and what is whole a share of one', () => {
  const price = (_: string, bytes: number) => 1000 + bytes;
  const state = { part: 'state', bytes: 3000, pieceBytes: 1000 } as const;
  expect(partLaneNs(price, 'h2d', state, 1500)).toBe(3 * 2000);
  const page = { part: 'window', bytes: 100, pieceBytes: 100 } as const;
  expect(partLaneNs(price, 'd2h', page, 1000)).toBe(200);
  expect(partLaneNs(price, 'd2h', page, 50)).toBe(1100);
});
