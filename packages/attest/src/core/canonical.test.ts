import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalBytes } from './canonical.ts';

const canonicalText = (value: unknown) => new TextDecoder().decode(canonicalBytes(value));

test('sorts keys at every depth and keeps the order of arrays', () => {
  const value = { b: [{ d: 1, c: 'ü' }, 2], a: null };
  expect(canonicalText(value)).toBe('{"a":null,"b":[{"c":"ü","d":1},2]}');
});

test('does not depend on the order in which keys were set, and loses nothing', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
      const reversed = Object.fromEntries(Object.entries(value).reverse());
      expect(canonicalText(reversed)).toBe(canonicalText(value));
      expect(JSON.parse(canonicalText(value))).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
});
