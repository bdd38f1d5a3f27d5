import {
  GOTO_ENTRY,
  GRAMMAR,
  MOVE,
  MOVE_ENTRY,
  STATE_COMPLETE,
  STATE_FINAL,
  STATE_MINIMUM,
  STATE_THINKING,
} from '@bridgekeeper/device';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compileGrammar } from './compile.ts';
import { GrammarError, type GrammarErrorCode } from './errors.ts';
import type { Expression, Grammar } from './expression.ts';
import { type Place, placeAfter, startOf } from './testing/matcher.ts';
import { sampleBytes } from './testing/sample.ts';

/** Steps one byte at a time. */
class Walk {
  readonly words: Uint32Array;
  readonly state: number;
  readonly stack: readonly (readonly [number, number])[];

  constructor(words: Uint32Array, state: number, stack: Walk['stack'] = []) {
    this.words = words;
    this.state = state;
    this.stack = stack;
  }

  get #info(): number {
    return this.words[this.words[GRAMMAR.INFO]! + this.state]!;
  }

  #has(flag: number): boolean {
    const top = this.stack.at(-1);
    return (
      (this.#info & flag) !== 0 && (top === undefined || top[1] >= (this.#info & STATE_MINIMUM))
    );
  }

  get #popped(): Walk {
    return new Walk(this.words, this.stack.at(-1)![0], this.stack.slice(0, -1));
  }

  ends(flag: number): boolean {
    return this.#has(flag) && (this.stack.length === 0 || this.#popped.ends(flag));
  }

  get isThinking(): boolean {
    return (this.#info & STATE_THINKING) !== 0;
  }

  after(byte: number): Walk | undefined {
    const { words } = this;
    const at = GRAMMAR.CLASS_OF_BYTE + (byte >> 2);
    const byteClass = (words[at]! >>> ((byte & 3) * 8)) & 255;
    const entry = words[words[GRAMMAR.TABLE]! + this.state * words[GRAMMAR.CLASSES]! + byteClass]!;
    if (entry === 0) {
      return this.stack.length > 0 && this.#has(STATE_FINAL) ? this.#popped.after(byte) : undefined;
    }
    if ((entry & MOVE_ENTRY) === 0) return new Walk(words, entry & ~GOTO_ENTRY, this.stack);
    const move = words[GRAMMAR.MOVES]! + (entry & 0x3fffffff);
    const stack = [...this.stack];
    const maximum = words[move + MOVE.MAXIMUM]!;
    if (maximum !== 0) {
      const [to, count] = stack.pop()!;
      if (count >= maximum) return undefined;
      stack.push([to, count + 1]);
    }
    for (let frame = 0; frame < words[move + MOVE.FRAMES]!; frame++) {
      stack.push([
        words[move + MOVE.FRAME + 2 * frame]!,
        words[move + MOVE.FRAME + 1 + 2 * frame]!,
      ]);
    }
    return new Walk(words, words[move + MOVE.TARGET]!, stack);
  }
}

function compiled(grammar: Grammar): Walk | GrammarErrorCode {
  try {
    return walkOf(grammar);
  } catch (error) {
    if (error instanceof GrammarError) return error.code;
    throw error;
  }
}

function walkOf(grammar: Grammar, from: 'start' | 'forced' = 'start'): Walk {
  const words = compileGrammar(grammar);
  return new Walk(words, words[from === 'start' ? GRAMMAR.START : GRAMMAR.FORCED]!);
}

/**
 * Where the tables and the reference say different things about what follows the same bytes, on the
 * way that `turns` take: each picks one of the bytes that may come next.
 */
function difference(grammar: Grammar, walk: Walk, turns: readonly number[]): string | null {
  let at = walk;
  let place = startOf(grammar);
  const path: number[] = [];
  for (const turn of turns) {
    if (at.ends(STATE_FINAL) !== place.canEnd) return `end after ${path}`;
    if (at.ends(STATE_COMPLETE) && place.canContinue) return `completeness after ${path}`;
    const possible: [number, Walk, Place][] = [];
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

const RUNS = Number(process.env.RUNS ?? 80);
describe('compiled grammars', () => {
  test('admit byte by byte what the reference does: regular expressions', () => {
    fc.assert(
      fc.property(regular, turns, (root, path) => {
        const grammar = only(root);
        const walk = compiled(grammar);
        const { canEnd, canContinue } = startOf(grammar);
        expect(walk === 'empty').toBe(!canEnd && !canContinue);
        if (walk instanceof Walk) expect(difference(grammar, walk, path)).toBe(null);
        else expect(walk).toBe('empty');
      }),
      { numRuns: RUNS },
    );
  });

  test('admit byte by byte what the reference does: rules that recur', () => {
    const outcomes = new Map<string, number>();
    fc.assert(
      fc.property(withRules, turns, (grammar, path) => {
        const walk = compiled(grammar);
        outcomes.set(
          `${walk instanceof Walk || walk}`,
          (outcomes.get(`${walk instanceof Walk || walk}`) ?? 0) + 1,
        );
        if (walk === 'left-recursion' || walk === 'ambiguous') return;
        const { canEnd, canContinue } = startOf(grammar);
        expect(walk === 'empty').toBe(!canEnd && !canContinue);
        if (walk instanceof Walk) expect(difference(grammar, walk, path)).toBe(null);
      }),
      { numRuns: RUNS },
    );
    console.log(outcomes);
  });
});

void placeAfter;
void sampleBytes;
