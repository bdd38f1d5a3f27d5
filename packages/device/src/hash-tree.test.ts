import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { referenceHashTree } from './contract/reference-load.ts';
import { hashTreeOf, hashTreeScratchBytes } from './hash-tree.ts';

const rootOf = (text: string, leafBytes: number) =>
  Buffer.from(hashTreeOf(Buffer.from(text), leafBytes)).toString('hex');

describe('hashTreeOf', () => {
  // FIPS 180's examples, and nothing at all.
  it.each([
    ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
    [
      'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
      '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
    ],
  ])('of one leaf, "%s", is its SHA-256', (text, digest) => {
    expect(rootOf(text, 64)).toBe(digest);
  });

  it('hashes digests until one is left', () => {
    fc.assert(
      fc.property(fc.nat(20_000), fc.integer({ min: 1, max: 3 }), (bytes, blocks) => {
        const content = Uint8Array.from({ length: bytes }, (_, i) => (i * 7919) >>> 4);
        const leafBytes = 64 * blocks;
        const root = Buffer.from(hashTreeOf(content, leafBytes));
        expect(root.equals(referenceHashTree(content, leafBytes))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('of two leaves is the hash of both digests', () => {
    const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest();
    const content = Buffer.alloc(100, 3);
    const both = Buffer.concat([sha256(content.subarray(0, 64)), sha256(content.subarray(64))]);
    expect(Buffer.from(hashTreeOf(content, 64))).toEqual(sha256(both));
  });

  it.each([0, -64, 32, 65, 1.5, Number.NaN])('refuses leaves of %d bytes', (leafBytes) => {
    const refusal = expect.objectContaining({ code: 'bad-argument' });
    expect(() => hashTreeOf(new Uint8Array(8), leafBytes)).toThrow(refusal);
  });
});

it('the scratch holds every level but the root', () => {
  expect(hashTreeScratchBytes(0, 64)).toBe(0);
  expect(hashTreeScratchBytes(64, 64)).toBe(0);
  expect(hashTreeScratchBytes(65, 64)).toBe(2 * 32);
  expect(hashTreeScratchBytes(64 * 64 + 1, 64)).toBe((65 + 2) * 32);
  expect(hashTreeScratchBytes(16 * 2 ** 20, 8192)).toBe((2048 + 32) * 32);
});
