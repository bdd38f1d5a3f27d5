import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Expression, Grammar } from '../expression.ts';
import { placeAfter, startOf } from './matcher.ts';
import { sampleBytes } from './sample.ts';

const text = (value: string): Expression => ({ kind: 'text', text: value });
const range = (first: string, last: string): Expression => ({
  kind: 'character',
  ranges: [[first.codePointAt(0) ?? 0, last.codePointAt(0) ?? 0]],
});
const sequence = (...parts: Expression[]): Expression => ({ kind: 'sequence', parts });
const choice = (...options: Expression[]): Expression => ({ kind: 'choice', options });
const rule = (name: string): Expression => ({ kind: 'rule', name });
const token = (id: number): Expression => ({ kind: 'token', id });
const repeat = (body: Expression, min: number, max?: number): Expression => ({
  kind: 'repeat',
  body,
  min,
  max,
});
const grammar = (root: Expression, rules: Record<string, Expression> = {}): Grammar => ({
  root,
  rules: new Map(Object.entries(rules)),
});

const utf8 = (value: string) => new TextEncoder().encode(value);

/** '-' refused, '+' more must come, '$' the end, '*' the end or more. */
function judge(subject: Grammar, bytes: string | Iterable<number>): string {
  const place = placeAfter(startOf(subject), typeof bytes === 'string' ? utf8(bytes) : bytes);
  if (place === undefined) return '-';
  if (place.canEnd) return place.canContinue ? '*' : '$';
  return place.canContinue ? '+' : '-';
}

describe('the matcher', () => {
  test('follows texts, choices and repeats', () => {
    const subject = grammar(sequence(text('ab'), repeat(choice(text('c'), text('cd')), 1, 2)));
    const judged = ['', 'a', 'ab', 'abc', 'abcd', 'abcc', 'abcdcd', 'abccc', 'b'];
    expect(judged.map((prefix) => judge(subject, prefix))).toEqual([
      ...['+', '+', '+', '*', '*', '*', '$', '-', '-'],
    ]);
  });

  test('knows rules that recur in the middle', () => {
    const subject = grammar(rule('a'), {
      a: choice(text('x'), sequence(text('('), rule('a'), text(')'))),
    });
    expect(['((x))', '((x)', '((x)))', '()'].map((prefix) => judge(subject, prefix))).toEqual([
      ...['$', '+', '-', '-'],
    ]);
  });

  test('refuses what no text of the grammar goes on with', () => {
    const endless = sequence(text('a'), rule('endless'));
    const subject = grammar(choice(text('b'), sequence(text('b'), rule('endless'))), { endless });
    expect(judge(subject, 'b')).toBe('$');
    expect(judge(grammar(rule('endless'), { endless }), '')).toBe('-');
  });

  test('intersects and subtracts', () => {
    const letters = repeat(range('a', 'z'), 0);
    const three = grammar({
      kind: 'intersection',
      parts: [letters, repeat(range('b', 'q'), 3, 3)],
    });
    expect(['bcd', 'bc', 'bca', 'bcdb'].map((prefix) => judge(three, prefix))).toEqual([
      ...['$', '+', '-', '-'],
    ]);
    const no = grammar({
      kind: 'difference',
      body: letters,
      without: choice(text('no'), text('not')),
    });
    expect(['no', 'not', 'note', 'n'].map((prefix) => judge(no, prefix))).toEqual([
      ...['+', '+', '*', '*'],
    ]);
    const nothing = grammar({ kind: 'difference', body: text('ab'), without: letters });
    expect(judge(nothing, '')).toBe('-');
  });

  test('sees bytes of a character as soon as they decide', () => {
    const subject = grammar(range('é', 'ï'));
    expect(judge(subject, [0xc3])).toBe('+');
    expect(judge(subject, [0xc3, 0xa9])).toBe('$');
    expect(judge(subject, [0xc3, 0xa8])).toBe('-');
    expect(judge(subject, [0xc2])).toBe('-');
    const any = grammar(range('\0', '\u{10ffff}'));
    for (const bytes of [
      [0x80],
      [0xc0],
      [0xc1],
      [0xed, 0xa0],
      [0xe0, 0x80],
      [0xf4, 0x90],
      [0xf8],
    ]) {
      expect(judge(any, bytes), bytes.join()).toBe('-');
    }
    for (const bytes of [
      [0xed, 0x9f],
      [0xe0, 0xa0],
      [0xf4, 0x8f],
      [0xf0, 0x90],
    ]) {
      expect(judge(any, bytes), bytes.join()).toBe('+');
    }
  });

  test('takes control tokens by their ids, never by text', () => {
    const subject = grammar(sequence(token(300), text('x')));
    expect(judge(subject, [0xff, 0])).toBe('+');
    expect(judge(subject, [0xff, 0, 300 >> 7, 300 & 127, 0x78])).toBe('$');
    expect(judge(subject, [0xff, 0, 300 >> 7, 301 & 127])).toBe('-');
    expect(judge(subject, [0xff, 1])).toBe('-');
  });

  test('free text goes on until a tag, and has other control tokens', () => {
    const free: Expression = {
      kind: 'free',
      tags: [
        { kind: 'text', text: '<t>' },
        { kind: 'token', id: 5 },
      ],
    };
    const subject = grammar(sequence(free, text('<t>'), text('x')));
    const judged = ['', 'a<t', '<<t>', '<t>x', '<t><', '<t>xx'];
    expect(judged.map((prefix) => judge(subject, prefix))).toEqual(['+', '+', '+', '$', '-', '-']);
    expect(judge(subject, [0xff, 0, 0, 6, 0x3c])).toBe('+');
    expect(judge(subject, [0xff, 0, 0, 5])).toBe('-');
  });

  test('thinking comes first, and may be forced to its end', () => {
    const subject: Grammar = {
      root: text('x'),
      rules: new Map(),
      thinking: { body: { kind: 'free', tags: [{ kind: 'token', id: 5 }] }, end: token(5) },
    };
    expect(judge(subject, [0x61, 0xff, 0, 0, 5, 0x78])).toBe('$');
    expect(startOf(subject, 'forced').after(0x61)).toBeUndefined();
    expect(placeAfter(startOf(subject, 'forced'), [0xff, 0, 0, 5, 0x78])?.canEnd).toBe(true);
  });

  test('refuses rules that recur on the left, and rules that are missing', () => {
    const left = grammar(rule('a'), { a: choice(text('x'), sequence(rule('a'), text('y'))) });
    expect(() => startOf(left).after(0x78)).toThrow('recurs on the left');
    expect(() => startOf(grammar(rule('b')))).toThrow('no rule is called b');
  });
});

const LETTERS = ['a', 'b', 'é'];

/** Expressions with an answer of another kind: JavaScript's regular expressions. */
const regular: fc.Arbitrary<{ readonly expression: Expression; readonly source: string }> =
  fc.letrec<{ tree: { readonly expression: Expression; readonly source: string } }>((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc
        .constantFrom(...LETTERS, 'ab')
        .map((value) => ({ expression: text(value), source: value })),
      fc.array(tie('tree'), { maxLength: 3 }).map((parts) => ({
        expression: sequence(...parts.map((part) => part.expression)),
        source: `(?:${parts.map((part) => part.source).join('')})`,
      })),
      fc.array(tie('tree'), { minLength: 1, maxLength: 3 }).map((parts) => ({
        expression: choice(...parts.map((part) => part.expression)),
        source: `(?:${parts.map((part) => part.source).join('|')})`,
      })),
      fc
        .tuple(tie('tree'), fc.nat(2), fc.option(fc.nat(2), { nil: undefined }))
        .map(([body, min, more]) => ({
          expression: repeat(body.expression, min, more === undefined ? undefined : min + more),
          source: `(?:${body.source}){${min},${more === undefined ? '' : min + more}}`,
        })),
      fc.tuple(tie('tree'), tie('tree')).map(([body, other]) => ({
        expression: { kind: 'intersection' as const, parts: [body.expression, other.expression] },
        source: `(?:(?=${other.source}(?![^]))${body.source}(?![^]))`,
      })),
    ),
  })).tree;

/** JavaScript's look-ahead sees the whole rest: only at the top does it mean an intersection. */
const withoutInner = regular.filter(({ source }) => !source.slice('(?:(?='.length).includes('(?='));

describe('against JavaScript’s regular expressions', () => {
  const short = fc.array(fc.constantFrom(...LETTERS), { maxLength: 6 }).map((all) => all.join(''));

  test('the same texts are whole', () => {
    fc.assert(
      fc.property(withoutInner, short, ({ expression, source }, value) => {
        const isWhole = new RegExp(`^(?:${source})$`, 'u').test(value);
        expect(['$', '*'].includes(judge(grammar(expression), value))).toBe(isWhole);
      }),
      { numRuns: 500 },
    );
  });

  test('samples are whole, and each of their prefixes can go on', () => {
    fc.assert(
      fc.property(withoutInner, fc.infiniteStream(fc.nat(999)), ({ expression }, numbers) => {
        const subject = grammar(expression);
        if (judge(subject, '') === '-') return;
        const random = () => numbers.next().value / 1000;
        const bytes = sampleBytes(subject, { random });
        expect(['$', '*']).toContain(judge(subject, bytes));
        for (let length = 0; length < bytes.length; length++) {
          expect(['+', '*']).toContain(judge(subject, bytes.subarray(0, length)));
        }
      }),
      { numRuns: 200 },
    );
  });
});

test('samples of recurring grammars end', () => {
  const subject = grammar(rule('list'), {
    list: sequence(text('['), repeat(choice(rule('list'), rule('list'), token(9)), 1), text(']')),
  });
  fc.assert(
    fc.property(fc.infiniteStream(fc.nat(999)), (numbers) => {
      const bytes = sampleBytes(subject, { random: () => numbers.next().value / 1000 });
      expect(judge(subject, bytes)).toBe('$');
    }),
    { numRuns: 50 },
  );
});
