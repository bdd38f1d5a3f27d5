import { GRAMMAR } from '@bridgekeeper/device/threads';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compileGrammar } from './compile.ts';
import { GrammarError, type GrammarErrorCode } from './errors.ts';
import type { Expression, Grammar } from './expression.ts';
import { type Place, startOf } from './testing/matcher.ts';
import { TableWalk } from './testing/table-walk.ts';

function compiled(grammar: Grammar): TableWalk | GrammarErrorCode {
  try {
    return walkOf(grammar);
  } catch (error) {
    if (error instanceof GrammarError) return error.code;
    throw error;
  }
}

const walkOf = (grammar: Grammar) => TableWalk.start(compileGrammar(grammar));

/**
 * Where the tables and the reference say different things about what follows the same bytes, on the
 * way that `turns` take: each picks one of the bytes that may come next.
 */
function difference(grammar: Grammar, walk: TableWalk, turns: readonly number[]): string | null {
  let at = walk;
  let place = startOf(grammar);
  const path: number[] = [];
  for (const turn of turns) {
    if (at.canEnd !== place.canEnd) return `end after ${path}`;
    if (at.isComplete && place.canContinue) return `completeness after ${path}`;
    const possible: [number, TableWalk, Place][] = [];
    for (const byte of BYTES) {
      const nextAt = at.after(byte);
      const nextPlace = place.after(byte);
      if ((nextAt === undefined) !== (nextPlace === undefined)) return `${byte} after ${path}`;
      if (nextAt !== undefined && nextPlace !== undefined) {
        possible.push([byte, nextAt, nextPlace]);
      }
    }
    const taken = possible[turn % possible.length];
    if (taken === undefined) return null;
    path.push(taken[0]);
    [, at, place] = taken;
  }
  return null;
}
const turns = fc.array(fc.nat(1000), { minLength: 14, maxLength: 14 });

/** Of a, b, parentheses, é, and control token 1. */
const BYTES = [0x61, 0x62, 0x28, 0x29, 0xc3, 0xa9, 0xff, 0x00, 0x01];

const text = (of: string): Expression => ({ kind: 'text', text: of });
const sequence = (...parts: Expression[]): Expression => ({ kind: 'sequence', parts });
const choice = (...options: Expression[]): Expression => ({ kind: 'choice', options });
const repeat = (body: Expression, min = 0, max?: number): Expression => ({
  kind: 'repeat',
  body,
  min,
  max,
});
const rule = (name: string): Expression => ({ kind: 'rule', name });
const range = (first: string, last: string): Expression => ({
  kind: 'character',
  ranges: [[first.codePointAt(0) ?? 0, last.codePointAt(0) ?? 0]],
});
const only = (root: Expression): Grammar => ({ root, rules: new Map() });

const leaf: fc.Arbitrary<Expression> = fc.oneof(
  fc.constantFrom('a', 'b', 'ab', '(', ')', 'é', '').map(text),
  fc.constantFrom(range('a', 'b'), range('a', 'é'), range('\u{e0}', '\u{2ff}')),
  fc.constant<Expression>({ kind: 'token', id: 1 }),
);

const regular: fc.Arbitrary<Expression> = fc.letrec<{ any: Expression }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    { weight: 3, arbitrary: leaf },
    fc.array(tie('any'), { minLength: 1, maxLength: 3 }).map((parts) => sequence(...parts)),
    fc.array(tie('any'), { minLength: 1, maxLength: 3 }).map((options) => choice(...options)),
    fc
      .tuple(tie('any'), fc.nat(3), fc.option(fc.nat(3), { nil: undefined }))
      .map(([body, min, more]) => repeat(body, min, more === undefined ? undefined : min + more)),
    fc
      .array(tie('any'), { minLength: 1, maxLength: 2 })
      .map((parts): Expression => ({ kind: 'intersection', parts })),
    fc
      .tuple(tie('any'), tie('any'))
      .map(([body, without]): Expression => ({ kind: 'difference', body, without })),
    fc
      .array(
        fc.constantFrom(text('ab'), text('aab'), text('é'), { kind: 'token', id: 1 } as const),
        {
          maxLength: 2,
        },
      )
      .map((tags): Expression => ({ kind: 'free', tags: tags as never })),
  ),
})).any;

const ruleBody: fc.Arbitrary<Expression> = fc.letrec<{ any: Expression }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    { weight: 2, arbitrary: leaf },
    {
      weight: 3,
      arbitrary: fc
        .tuple(
          fc.constantFrom('(', 'a', 'b'),
          fc.constantFrom('x', 'y', 'z'),
          fc.constantFrom(')', ''),
        )
        .map(([open, name, close]) => sequence(text(open), rule(name), text(close))),
    },
    { weight: 1, arbitrary: fc.constantFrom('x', 'y', 'z').map(rule) },
    fc.array(tie('any'), { minLength: 1, maxLength: 3 }).map((parts) => sequence(...parts)),
    fc.array(tie('any'), { minLength: 1, maxLength: 3 }).map((options) => choice(...options)),
    fc
      .tuple(tie('any'), fc.nat(2), fc.option(fc.nat(60), { nil: undefined }))
      .map(([body, min, more]) => repeat(body, min, more === undefined ? undefined : min + more)),
  ),
})).any;

const withRules: fc.Arbitrary<Grammar> = fc
  .record({ x: ruleBody, y: ruleBody, z: ruleBody })
  .map(({ x, y, z }) => ({ root: x, rules: new Map(Object.entries({ x, y, z })) }));

const RUNS = 80;
describe('compiled grammars', () => {
  test('admit byte by byte what the reference does: regular expressions', () => {
    fc.assert(
      fc.property(regular, turns, (root, path) => {
        const grammar = only(root);
        const walk = compiled(grammar);
        const { canEnd, canContinue } = startOf(grammar);
        expect(walk === 'empty').toBe(!canEnd && !canContinue);
        if (walk instanceof TableWalk) expect(difference(grammar, walk, path)).toBe(null);
        else expect(walk).toBe('empty');
      }),
      { numRuns: RUNS },
    );
  });

  test('admit byte by byte what the reference does: rules that recur', () => {
    const outcomes = new Set<string>();
    fc.assert(
      fc.property(withRules, turns, (grammar, path) => {
        const walk = compiled(grammar);
        outcomes.add(walk instanceof TableWalk ? 'compiled' : walk);
        if (walk !== 'empty' && !(walk instanceof TableWalk)) {
          expect(['left-recursion', 'ambiguous', 'too-large']).toContain(walk);
          return;
        }
        const { canEnd, canContinue } = startOf(grammar);
        expect(walk === 'empty').toBe(!canEnd && !canContinue);
        if (walk instanceof TableWalk) expect(difference(grammar, walk, path)).toBe(null);
      }),
      { numRuns: RUNS },
    );
    expect(outcomes).toContain('compiled');
  });

  test('count large repeats in a frame, and write them out where what follows begins alike', () => {
    const counted = only(sequence(text('('), repeat(range('a', 'b'), 3, 1000), text(')')));
    const written = only(sequence(text('('), repeat(range('a', 'b'), 3, 1000), text('b')));
    const statesOf = (grammar: Grammar) => compileGrammar(grammar)[GRAMMAR.STATES]!;
    expect(statesOf(counted)).toBeLessThan(10);
    expect(statesOf(written)).toBeGreaterThan(1000);
    for (const grammar of [counted, written]) {
      for (const count of [0, 2, 3, 4, 999, 1000, 1001]) {
        const bytes = new TextEncoder().encode(`(${'a'.repeat(count)}`);
        let walk: TableWalk | undefined = walkOf(grammar);
        for (const byte of bytes) walk = walk?.after(byte);
        expect(walk !== undefined).toBe(count <= 1000);
        const end = walk?.after(grammar === counted ? 0x29 : 0x62);
        expect(end?.canEnd ?? false).toBe(count >= 3 && count <= 1000);
      }
    }
  });

  test('say what is thinking, and where a row goes that may think no more', () => {
    const end: Expression = { kind: 'token', id: 1 };
    const grammar: Grammar = {
      root: text('ab'),
      rules: new Map(),
      thinking: { body: { kind: 'free', tags: [end as never] }, end },
    };
    const start = walkOf(grammar);
    const thinking = start.after(0x61);
    const forced = TableWalk.forced(compileGrammar(grammar));
    const places = [start, thinking, forced];
    expect(places.map((place) => place?.isThinking)).toEqual([true, true, false]);
    expect(forced.after(0x61)).toBe(undefined);
    // A budget that is used up within what opens it would leave half of that.
    const opened = walkOf({ ...grammar, thinking: { ...grammar.thinking!, begin: text('<t>') } });
    const opening = [opened, opened.after(0x3c), opened.after(0x3c)?.after(0x74)];
    expect(opening.map((place) => place?.isThinking)).toEqual([false, false, false]);
    expect(opening[2]?.after(0x3e)?.isThinking).toBe(true);
    for (const from of [thinking, forced]) {
      let walk = from;
      for (const byte of [0xff, 0, 0, 1]) walk = walk?.after(byte);
      expect(walk?.isThinking).toBe(false);
      expect(walk?.after(0x61)?.after(0x62)?.isComplete).toBe(true);
    }
  });
});
