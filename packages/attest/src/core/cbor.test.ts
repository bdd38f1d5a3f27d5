import { describe, expect, test } from 'vitest';
import { writeCbor } from '../testing/cbor.ts';
import { fromHex, toHex } from './bytes.ts';
import { type Cbor, CborTag, readCbor } from './cbor.ts';

const read = (hex: string) => readCbor(fromHex(hex, 'test'), 'test');

// Of RFC 8949, appendix A, but for what is refused here.
const EXAMPLES: [string, Cbor][] = [
  ['00', 0],
  ['17', 23],
  ['1818', 24],
  ['1903e8', 1000],
  ['1a000f4240', 1_000_000],
  ['20', -1],
  ['3903e7', -1000],
  ['f4', false],
  ['f5', true],
  ['f6', null],
  ['4401020304', Uint8Array.of(1, 2, 3, 4)],
  ['6449455446', 'IETF'],
  ['62c3bc', 'ü'],
  ['80', []],
  ['8301820203820405', [1, [2, 3], [4, 5]]],
  [
    'a201020304',
    new Map([
      [1, 2],
      [3, 4],
    ]),
  ],
  ['826161a161626163', ['a', new Map([['b', 'c']])]],
  ['d74401020304', new CborTag(23, Uint8Array.of(1, 2, 3, 4))],
];

describe('CBOR', () => {
  test.each(EXAMPLES)('%s is read, and written the same', (hex, value) => {
    expect(read(hex)).toEqual(value);
    expect(toHex(writeCbor(value))).toBe(hex);
  });

  test('numbers up to 2^53 are read', () => {
    expect(read('1b001fffffffffffff')).toBe(Number.MAX_SAFE_INTEGER);
  });

  test.each([
    ['', 'malformed'],
    ['0000', 'trailing-bytes'],
    ['1817', 'malformed'],
    ['190017', 'malformed'],
    ['1a0000ffff', 'malformed'],
    ['1b00000000ffffffff', 'malformed'],
    ['1bffffffffffffffff', 'malformed'],
    ['18', 'malformed'],
    ['4401', 'malformed'],
    ['5f42010243030405ff', 'malformed'],
    ['9fff', 'malformed'],
    ['1c', 'malformed'],
    ['f90000', 'malformed'],
    ['f7', 'malformed'],
    ['ff', 'malformed'],
    ['61ff', 'malformed'],
    ['a201020102', 'malformed'],
    ['a1410102', 'malformed'],
    ['d7', 'malformed'],
    [`${'81'.repeat(40)}00`, 'too-large'],
    ['9affffffff', 'malformed'],
  ])('%s is refused', (hex, code) => {
    expect(() => read(hex)).toThrow(expect.objectContaining({ code }));
  });
});
