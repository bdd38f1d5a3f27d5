import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson, manifestDigest, sealManifest } from './manifest.ts';

const unsealed = {
  name: 'bridgekeeper',
  version: '0.1.0',
  commit: null,
  node: '20.19.0',
  platform: 'linux-x64',
  files: [
    { path: 'a', bytes: 1, sha256: '00' },
    { path: 'b', link: 'a' },
  ],
};

describe('canonicalJson', () => {
  test('sorts keys at every depth and keeps the order of arrays', () => {
    const value = { b: [{ d: 1, c: 'ü' }, 2], a: null };
    expect(canonicalJson(value)).toBe('{"a":null,"b":[{"c":"ü","d":1},2]}');
  });

  test('does not depend on the order in which keys were set, and loses nothing', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
        const reversed = Object.fromEntries(Object.entries(value).reverse());
        expect(canonicalJson(reversed)).toBe(canonicalJson(value));
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});

describe('the digest of a manifest', () => {
  test('is over everything but itself', () => {
    const manifest = sealManifest(unsealed);
    expect(manifest.digest).toMatch(/^[0-9a-f]{64}$/);
    expect(manifestDigest(manifest)).toBe(manifest.digest);
    expect(manifestDigest({ ...manifest, digest: 'other' })).toBe(manifest.digest);
    expect(manifestDigest({ ...manifest, node: '20.19.1' })).not.toBe(manifest.digest);
    const files = [{ path: 'a', bytes: 1, sha256: '01' }];
    expect(manifestDigest({ ...manifest, files })).not.toBe(manifest.digest);
  });
});
