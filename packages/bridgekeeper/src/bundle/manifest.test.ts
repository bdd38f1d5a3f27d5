import { describe, expect, test } from 'vitest';
import { manifestDigest, sealManifest } from './manifest.ts';

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
