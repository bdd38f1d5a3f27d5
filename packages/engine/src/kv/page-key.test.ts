import { expect, test } from 'vitest';
import { pageKey, rootKey } from './page-key.ts';

test('keys of pages differ by tenant, prefix and tokens, and only by them', () => {
  const tokens = Uint32Array.of(1, 2, 3);
  const key = pageKey(rootKey('a'), tokens);
  expect(pageKey(rootKey('a'), Uint32Array.of(9, 1, 2, 3).subarray(1))).toBe(key);
  expect(pageKey(rootKey('b'), tokens)).not.toBe(key);
  expect(pageKey(key, tokens)).not.toBe(key);
  expect(pageKey(rootKey('a'), Uint32Array.of(1, 2, 4))).not.toBe(key);
});
