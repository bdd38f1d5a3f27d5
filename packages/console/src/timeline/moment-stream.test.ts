import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MomentStream } from './moment-stream.ts';

/** What comes out of a text that comes in pieces of such lengths. */
function read(text: string, lengths: readonly number[]) {
  const stream = new MomentStream();
  const items: string[] = [];
  let from = 0;
  for (const length of lengths) {
    stream.push(text.slice(from, from + length), (item) => items.push(item));
    from += length;
  }
  stream.push(text.slice(from), (item) => items.push(item));
  return { stream, items };
}

/** Whole, as it would be read at once. Throws SyntaxError. */
function document(text: string, lengths: readonly number[] = []): unknown {
  const { stream, items } = read(text, lengths);
  const rest = JSON.parse(stream.rest) as Record<string, unknown>;
  const moments = items.map((item) => JSON.parse(item) as unknown);
  return stream.items > 0 ? { ...rest, moments } : rest;
}

describe('a stream of moments', () => {
  it('gives out what reading the document at once does, wherever it is cut', () => {
    const name = fc.oneof(fc.constantFrom('moments', 'accounts', '{"moments":['), fc.string());
    const text = fc
      .tuple(fc.dictionary(name, fc.jsonValue()), fc.array(fc.jsonValue()), fc.boolean(), fc.nat(3))
      .map(([others, moments, isFirst, space]) => {
        const { moments: _, ...rest } = others;
        const whole = isFirst ? { moments, ...rest } : { ...rest, moments };
        return JSON.stringify(whole, null, space);
      });
    fc.assert(
      fc.property(text, fc.array(fc.nat(40), { maxLength: 20 }), (json, lengths) => {
        expect(document(json, lengths)).toEqual(JSON.parse(json));
      }),
      { numRuns: 300 },
    );
  });

  it('takes for moments what is so called in the document itself, and is a list', () => {
    for (const json of [
      '{"a":{"moments":[1]}}',
      '[{"moments":[1]}]',
      '{"a\\"moments":[1]}',
      '{"a":",\\"moments\\":[1"}',
      '{"moments":{"0":[1]}}',
    ]) {
      const { stream, items } = read(json, [3, 4, 5]);
      expect([stream.rest, items]).toEqual([json, []]);
    }
  });

  it('lets nothing pass that is no JSON', () => {
    for (const json of ['{"moments":[1,,2]}', '{"moments":[1,]}', '{"moments":[,]}']) {
      expect(() => document(json)).toThrow(SyntaxError);
    }
    expect(read('{"moments":[1,2', []).stream).toMatchObject({ items: 1, isInList: true });
  });
});
