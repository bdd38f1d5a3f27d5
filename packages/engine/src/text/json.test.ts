import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Dict, type Value } from './jinja/values.ts';
import { readJsonValue } from './json.ts';

/** As JSON.parse gives it: what is lost is the order of keys and the spelling of numbers. */
function plain(value: Value): unknown {
  if (value instanceof Dict) {
    const entries = [...value.entries()].map(([key, each]) => [key, plain(each)]);
    return Object.fromEntries(entries);
  }
  if (Array.isArray(value)) return value.map(plain);
  return typeof value === 'bigint' ? Number(value) : withoutSign(value);
}

/** `-0` is a whole number here as in Python and has no sign; JSON.parse keeps it. */
const withoutSign = (value: unknown) => (value === 0 ? 0 : value);

describe('reading JSON for templates', () => {
  test('gives what JSON.parse gives', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(undefined, 2, '\t'), (value, indent) => {
        const text = JSON.stringify(value, undefined, indent);
        expect(plain(readJsonValue(text))).toEqual(JSON.parse(text));
      }),
    );
  });

  test('reads and refuses what JSON.parse reads and refuses', () => {
    const characters = [...'{}[]",:\\ \n\t0123456789.eE+-truefalsnu\u0001é'];
    const text = fc
      .array(fc.constantFrom(...characters), { maxLength: 12 })
      .map((all) => all.join(''));
    const mutated = fc.tuple(fc.json(), fc.nat(40), text).map(([json, at, more]) => {
      return json.slice(0, at) + more + json.slice(at + 1);
    });
    const outcome = (read: () => unknown): unknown => {
      try {
        return { value: read() };
      } catch {
        return 'refused';
      }
    };
    fc.assert(
      fc.property(fc.oneof(text, mutated), (json) => {
        const expected = outcome(() => JSON.parse(json, (_, value) => withoutSign(value)));
        expect(outcome(() => plain(readJsonValue(json)))).toEqual(expected);
      }),
      { numRuns: 2000, examples: [['-0'], ['[-0.0]']] },
    );
  });

  test('keeps the order of keys, ints apart from floats, and the last of two equal keys', () => {
    const read = readJsonValue('{"b": 1, "10": 1.0, "9": 123456789012345678901, "b": -0}') as Dict;
    expect([...read.entries()]).toEqual([
      ['b', 0n],
      ['10', 1],
      ['9', 123456789012345678901n],
    ]);
    expect([readJsonValue('-0'), readJsonValue('-0.0')]).toEqual([0n, -0]);
  });

  test.each([
    ['depth', '['.repeat(100_000), 'too-deep', 'deeper than 200'],
    ['depth of objects', '{"a":'.repeat(100_000), 'too-deep', 'deeper than 200'],
    ['digits', '1'.repeat(100_000), 'too-many-digits', '4300 digits'],
    ['what is no JSON', '{"secret": nope}', 'not-json', 'is not valid JSON'],
  ])('bounds %s', (_, text, code, words) => {
    expect(() => readJsonValue(text)).toThrow(expect.objectContaining({ name: 'JsonError', code }));
    expect(() => readJsonValue(text)).toThrow(words);
  });

  test('many escaped quotes and backslashes take one pass', () => {
    const text = JSON.stringify('\\"'.repeat(200_000));
    expect(readJsonValue(text)).toBe('\\"'.repeat(200_000));
  });
});
