import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GrammarError } from './errors.ts';
import { regularExpression } from './regular-expression.ts';
import { placeAfter, startOf } from './testing/matcher.ts';

function admits(pattern: string, text: string, match: 'search' | 'whole'): boolean {
  const grammar = { root: regularExpression(pattern, match), rules: new Map() };
  return placeAfter(startOf(grammar), new TextEncoder().encode(text))?.canEnd ?? false;
}

function refusal(pattern: string): string {
  try {
    regularExpression(pattern, 'search');
    return 'none';
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    return `${error.code}: ${error.message}`;
  }
}

describe('regular expressions', () => {
  const atom = fc.constantFrom(
    ...['a', 'b', '-', '.', '[ab]', '[^a]', '[a-c-]', '\\d', '\\W', '\\s', '\\u00e9', '\\x61'],
    ...['\\u{1f600}', '\\ud83d\\ude00', '\\p{Lu}', '[\\P{L}]', '[\\-]', '[\\]]', '^', '$', '[^]'],
  );
  const pattern = fc.letrec<{ any: string }>((tie) => ({
    any: fc.oneof(
      { maxDepth: 3, depthSize: 'small' },
      { weight: 3, arbitrary: atom },
      fc.array(tie('any'), { maxLength: 3 }).map((parts) => parts.join('')),
      fc.array(tie('any'), { minLength: 1, maxLength: 3 }).map((parts) => `(${parts.join('|')})`),
      fc
        .tuple(tie('any'), fc.constantFrom('*', '+', '?', '{2}', '{1,}', '{0,2}', '+?', '??'))
        .map(([body, times]) => `(?:${body})${times}`),
    ),
  })).any;
  const texts = fc.array(
    fc.constantFrom('a', 'b', '-', '1', 'A', 'é', '😀', ' ', '\n', ']', '\u2028'),
    { maxLength: 4 },
  );

  test('mean what the platform says they do', () => {
    fc.assert(
      fc.property(pattern, fc.array(texts, { maxLength: 8 }), (source, tried) => {
        if (refusal(source).startsWith('unsupported: an anchor')) return;
        const found = new RegExp(source, 'u');
        const matched = new RegExp(`^(?:${source})$`, 'u');
        for (const characters of tried) {
          const text = characters.join('');
          expect(admits(source, text, 'search')).toBe(found.test(text));
          expect(admits(source, text, 'whole')).toBe(matched.test(text));
        }
      }),
      { numRuns: 60 },
    );
  });

  test('refuse what is not supported, by name', () => {
    expect(refusal('a(?=b)')).toMatch(/^unsupported: .*lookahead at character 4/);
    expect(refusal('a(?!b)')).toMatch(/^unsupported: .*lookahead/);
    expect(refusal('(?<=a)b')).toMatch(/^unsupported: .*lookbehind/);
    expect(refusal('(a)\\1')).toMatch(/^unsupported: .*backreference/);
    expect(refusal('(?<x>a)\\k<x>')).toMatch(/^unsupported: .*backreference/);
    expect(refusal('\\bword')).toMatch(/^unsupported: .*word boundary/);
    expect(refusal('(?i)a')).toMatch(/^unsupported: .*group with flags/);
    expect(refusal('\\Aa')).toMatch(/^unsupported: .*\^ or \$/);
    expect(refusal('(^a)*')).toMatch(/^unsupported: an anchor/);
    expect(refusal('a++')).toMatch(/^unsupported: .*possessive/);
  });

  test('refuse what is none', () => {
    const none = ['(a', 'a)', '[a', 'a{2,1}', '*a', '{1}', 'a{,2}', 'a**', '\\q', '\\p{Nonsense}'];
    for (const source of [...none, '[b-a]', '[\\d-a]', '\\', '(?<a', '\\u{110000}', '\\x1']) {
      expect([source, refusal(source).split(':')[0]]).toEqual([source, 'syntax']);
    }
  });

  test('are bounded', () => {
    expect(refusal('('.repeat(5000))).toMatch(/^too-large/);
    expect(refusal('a'.repeat(100_000))).toMatch(/^too-large/);
    expect(refusal('a{99999999999999999999}')).toMatch(/^too-large/);
  });
});
