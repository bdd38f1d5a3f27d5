import { describe, expect, it } from 'vitest';
import type { CompiledGrammar } from '../grammar/compiled.ts';
import { GrammarPool } from '../grammar/grammar-pool.ts';
import type { RowResult, StepPlan } from './plan.ts';
import { range, results, scheduler, sequence, step } from './testing/play.ts';

const grammar = (digest: string, words = 64): CompiledGrammar => ({
  digest,
  words: new Uint32Array(words),
});

const [ONE, TWO] = [grammar('one'), grammar('two')];

const held = (to: CompiledGrammar, from = 0, stopTokenIds: number[] = []) =>
  sequence(range(4, from), { maxTokens: 9, stopTokenIds }, { grammar: to });

const opened = (words: number, maxRows = 4) =>
  scheduler(64, { maxRows, grammars: new GrammarPool(words) }).scheduler;

/** All rows end with this plan, for that reason. */
function endAll(plan: StepPlan, finish: RowResult['finish'], token = 5): RowResult[] {
  return results(plan).map((row) => ({ ...row, token, finish }));
}

describe('a grammar', () => {
  it('is brought with the plan that gives its first request a row, and once', () => {
    const s = opened(128);
    const [first, second, other] = [held(ONE), held(ONE, 50), held(TWO, 90)];
    const plain = sequence(range(4, 130));
    for (const each of [first, second, other, plain]) s.add(each);
    const { plan } = step(s);
    expect(plan.prefill).toHaveLength(4);
    expect(plan.grammarWrites).toEqual([
      { tenant: 't', grammar: ONE, offset: 0 },
      { tenant: 't', grammar: TWO, offset: 64 },
    ]);
    expect([first, second, other].map((each) => each.grammarOffset)).toEqual([0, 0, 64]);
    const uploads = [first, second, other, plain].map((each) => each.grammarUploads);
    const [brought, found] = [
      { crossings: 1, bytes: 256 },
      { crossings: 0, bytes: 0 },
    ];
    expect(uploads).toEqual([brought, found, brought, found]);
    expect(s.plan(0).grammarWrites).toEqual([]);
  });

  it('has to have room, and nobody waits for one that has none', () => {
    const s = opened(64);
    s.add(held(ONE));
    step(s);
    const waiting = held(TWO, 50);
    s.add(waiting);
    // Rows and pages are free, but nothing can be admitted: bursts are as long as ever.
    expect(s.plan(0, 4)).toMatchObject({ steps: 4, prefill: [] });
    expect([s.waiting, s.hasPrompts]).toEqual([1, true]);
  });

  it('gives way once the launches that may read it are taken in', () => {
    const s = opened(64);
    s.add(held(ONE));
    step(s);
    const waiting = held(TWO, 50);
    s.add(waiting);
    const [ending, behind] = [s.plan(0), s.plan(0)];
    s.commit(ending, { rows: endAll(ending, 'stop'), promptLogprobs: [] }, 0);
    expect([s.running, s.plan(0).prefill]).toEqual([0, []]);
    s.commit(behind, { rows: [], promptLogprobs: [] }, 0);
    expect(s.plan(0)).toMatchObject({
      prefill: [{ sequence: waiting }],
      grammarWrites: [{ grammar: TWO, offset: 0 }],
    });
  });

  it('of an owner with several rows gives way to an owner that has none', () => {
    const s = opened(64, 4);
    const share = (owner: string) => ({ share: { owner, weight: 1 } });
    const many = [0, 50].map((from) =>
      sequence(range(4, from), { maxTokens: 99 }, { ...share('a'), grammar: ONE }),
    );
    for (const each of many) s.add(each);
    step(s);
    s.add(sequence(range(4, 100), {}, { ...share('b'), grammar: TWO }));
    // The first loses its row for it, and the second is all that its owner has.
    s.plan(0);
    expect(many.filter(({ row }) => row < 0)).toHaveLength(1);
  });
});

describe('an answer that is held to a grammar', () => {
  const ended = (row: Partial<RowResult>, to?: CompiledGrammar, stopTokenIds: number[] = []) => {
    const s = opened(64);
    const { promptTokens } = held(ONE).request;
    const more = to === undefined ? {} : { grammar: to };
    s.add(sequence([...promptTokens], { maxTokens: 9, stopTokenIds }, more));
    const plan = s.plan(0);
    const rows = results(plan).map((each) => ({ ...each, ...row }));
    const [event] = s.commit(plan, { rows, promptLogprobs: [] }, 0);
    const { reason, stopToken, message } = event!.finish!;
    expect([s.busy, s.counters.generatedTokens]).toEqual([false, event!.tokens.length]);
    return { tokens: event!.tokens, reason, stopToken, message };
  };

  it('keeps the token that completes it, unless that is a stop token', () => {
    const stop = { token: 5, finish: 'stop' } as const;
    const complete = { tokens: [5], reason: 'stop' };
    expect(ended(stop, ONE)).toEqual(complete);
    expect(ended(stop, ONE, [4])).toEqual(complete);
    expect(ended(stop, ONE, [4, 5])).toEqual({ ...complete, stopToken: 5 });
    expect(ended(stop)).toEqual({ ...complete, stopToken: 5 });
    expect(ended({ token: 5, finish: 'length' }, ONE, [5])).toEqual({
      tokens: [5],
      reason: 'length',
    });
  });

  it('ends with an error where no token could be sampled, which says why', () => {
    const none = { token: 0, finish: 'error' } as const;
    expect(ended(none, ONE)).toMatchObject({
      tokens: [],
      reason: 'error',
      message: expect.stringContaining('the grammar admits none here'),
    });
    expect(ended(none)).toMatchObject({
      tokens: [],
      reason: 'error',
      message: expect.stringContaining('NaN or minus infinity for every token'),
    });
  });
});
