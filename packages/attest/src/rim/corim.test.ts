import { describe, expect, test } from 'vitest';
import { type Bytes, concatBytes } from '../core/bytes.ts';
import { type Cbor, CborTag } from '../core/cbor.ts';
import { writeCbor } from '../testing/cbor.ts';
import { makeCorim } from '../testing/corim.ts';
import { isCorim, readCorim } from './corim.ts';

const NONE = new Uint8Array(0);
const signed = (payload: Cbor) =>
  writeCbor(new CborTag(18, [NONE, new Map(), payload, new Uint8Array(96)]));

describe('a CoRIM', () => {
  test.each([false, true])('is named by what it holds; signed: %s', (isSigned) => {
    const bytes = makeCorim(isSigned);
    expect(isCorim(bytes)).toBe(true);
    expect(readCorim(bytes)).toEqual({
      id: 'test-corim',
      isSigned,
      profile: 'tag:bridgekeeper.test,2026:profile',
      comids: 2,
      referenceValues: 3,
    });
  });

  test('may have a UUID for a name, no profile and other tags', () => {
    const map = new Map<number, Cbor>([
      [0, new CborTag(37, Uint8Array.of(0xab, 0xcd))],
      [1, [new CborTag(505, NONE)]],
    ]);
    const outer = new CborTag(500, new CborTag(501, map));
    const none = { profile: null, comids: 0, referenceValues: 0 };
    expect(readCorim(writeCbor(outer))).toEqual({ id: 'abcd', isSigned: false, ...none });
  });

  const unsigned = (map: Cbor) => writeCbor(new CborTag(501, map));
  test.each<[string, () => Bytes, string]>([
    ['another tag', () => writeCbor(new CborTag(503, 0)), 'unsupported-version'],
    ['a signature in a signature', () => signed(signed(NONE)), 'unsupported-version'],
    ['a detached payload', () => signed(null), 'malformed'],
    ['a payload that is no map', () => signed(writeCbor(1)), 'malformed'],
    ['no tags', () => unsigned(new Map([[0, 'x']])), 'malformed'],
    ['no name', () => unsigned(new Map([[1, []]])), 'malformed'],
    [
      'a CoMID that is no bytes',
      () =>
        unsigned(
          new Map<number, Cbor>([
            [0, 'x'],
            [1, [new CborTag(506, 1)]],
          ]),
        ),
      'malformed',
    ],
    ['a byte more', () => concatBytes(makeCorim(false), NONE, Uint8Array.of(0)), 'trailing-bytes'],
    ['too much', () => new Uint8Array(4 * 1024 * 1024 + 1), 'too-large'],
  ])('with %s is refused', (_, bytes, code) => {
    expect(() => readCorim(bytes())).toThrow(expect.objectContaining({ code }));
  });

  test('is told from other bytes by its tag', () => {
    expect(isCorim(writeCbor(new CborTag(503, 0)))).toBe(false);
    expect(isCorim(writeCbor(new CborTag(17, [])))).toBe(false);
  });
});
