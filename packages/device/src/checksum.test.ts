import fc from 'fast-check';
import { expect, it } from 'vitest';
import { checksumOf } from './checksum.ts';
import { referenceChecksum } from './contract/reference-load.ts';

const bytes = (maxLength: number) => fc.uint8Array({ maxLength });

it('is what whole numbers say, wherever the bytes lie', () => {
  fc.assert(
    fc.property(bytes(300), fc.nat(7), (content, offset) => {
      const memory = new Uint8Array(offset + content.length);
      memory.set(content, offset);
      expect(checksumOf(memory.subarray(offset))).toEqual(referenceChecksum(content));
    }),
  );
});

it('of parts adds up to that of the whole', () => {
  fc.assert(
    fc.property(bytes(400), fc.nat(100), (content, words) => {
      const cut = Math.min(4 * words, Math.floor(content.length / 4) * 4);
      const [low, high] = checksumOf(content.subarray(0, cut));
      const [restLow, restHigh] = checksumOf(content.subarray(cut), cut / 4);
      expect([(low + restLow) >>> 0, (high + restHigh) >>> 0]).toEqual(checksumOf(content));
    }),
  );
});

it('counts words on across chunks, and modulo 2^32', () => {
  const content = Uint8Array.from({ length: 200_003 }, (_, i) => (i * i) >>> 3);
  expect(checksumOf(content)).toEqual(referenceChecksum(content));
  const some = content.subarray(0, 64);
  expect(checksumOf(some, 2 ** 32 + 5)).toEqual(checksumOf(some, 5));
});

it('tells words that changed places, and zeros that are missing', () => {
  const word = Uint8Array.of(1, 0, 0, 0);
  const sums = [
    [...word, 0, 0, 0, 0],
    [0, 0, 0, 0, ...word],
    [...word, 0, 0, 0, 0, 0],
  ].map((content) => checksumOf(Uint8Array.from(content)).join());
  expect(new Set(sums).size).toBe(3);
});
