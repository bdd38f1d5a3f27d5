import { describe, expect, it } from 'vitest';
import type { StepResults } from './plan.ts';
import type { Sequence } from './sequence.ts';
import { LIMITS, range, scheduler, sequence, step } from './testing/play.ts';

describe('Scheduler, with drafts', () => {
  const draft = () => 3;

  /** A sequence that decodes: its prompt's token is there. */
  function decoding(pages: number, maxTokens: number, promptTokens = 5) {
    const { scheduler: s, pool } = scheduler(pages);
    const a = sequence(range(promptTokens), { maxTokens });
    s.add(a);
    step(s);
    return { s, a, pool };
  }

  /** What a row's step brings: so many tokens, of which all but the first were drafted. */
  function brought(a: Sequence, tokens: number, drafts = 3): StepResults {
    const rows = Array.from({ length: tokens }, (_, i) => ({
      row: a.row,
      epoch: a.epoch,
      token: a.length + i,
      finish: undefined,
      logprobs: undefined,
    }));
    const drafted = [{ row: a.row, epoch: a.epoch, drafts, accepted: tokens - 1 }];
    return { rows, drafted, promptLogprobs: [] };
  }

  it.each([64, 12])('has pages of %i for all that launches may compute', (pages) => {
    const { s, a } = decoding(pages, 60);
    for (let launch = 1; launch <= 4; launch++) {
      const plan = s.plan(0, 2, 32, draft);
      expect([plan.steps, plan.drafts]).toEqual([2, 3]);
      // 5 tokens of the prompt, and each launch may bring 2 times 4 more.
      expect(a.pages.length * LIMITS.pageTokens).toBeGreaterThanOrEqual(5 + 8 * launch);
      expect([a.computed, a.ahead]).toEqual([5 + 2 * launch, 6 * launch]);
    }
  });

  it('knows what was computed once it is told, whatever is on its way behind it', () => {
    const { s, a } = decoding(64, 60);
    const [first, second] = [s.plan(0, 1, 32, draft), s.plan(0, 1, 32, draft)];
    const [event] = s.commit(first, brought(a, 3), 0);
    expect(event!.tokens).toEqual([6, 7, 8]);
    expect([a.computed, a.ahead, a.length]).toEqual([5 + 3 + 1, 3, 9]);
    s.commit(second, brought(a, 1), 0);
    expect([a.computed, a.ahead, a.length]).toEqual([5 + 3 + 1, 0, 10]);
    expect(s.counters).toMatchObject({ drafts: 2, draftTokens: 6, acceptedTokens: 2 });
  });

  it('counts steps that had drafts, however few, and no others', () => {
    const { s, a } = decoding(64, 60);
    for (const drafts of [0, 1, 3]) s.commit(s.plan(0, 1, 32, draft), brought(a, 1, drafts), 0);
    expect(s.counters).toMatchObject({ drafts: 2, draftTokens: 4, acceptedTokens: 0 });
  });

  it('forgets what drafts brought to a row that is free, or another’s by now', () => {
    const { s, a } = decoding(64, 60);
    const [first, second] = [s.plan(0, 1, 32, draft), s.plan(0, 1, 32, draft)];
    const late = brought(a, 3);
    a.cancelled = true;
    s.retireCancelled(0);
    expect(s.commit(first, late, 0)).toEqual([]);
    const b = sequence(range(6, 50), { maxTokens: 20 });
    s.add(b);
    step(s);
    expect(s.commit(second, late, 0)).toEqual([]);
    expect([b.row, b.computed, b.ahead]).toEqual([0, 6, 0]);
  });

  it('asks for none where no row decodes', () => {
    const { s } = decoding(64, 2);
    const asked: number[] = [];
    const ask = (rows: readonly Sequence[]) => asked.push(rows.length);
    s.plan(0, 1, 32, ask);
    const { decode, drafts } = s.plan(0, 1, 32, ask);
    expect([decode, drafts, asked]).toEqual([[], 0, [1]]);
  });

  it('takes pages for all tokens of a launch, where there are just these', () => {
    const { s, a } = decoding(4, 60);
    expect(s.plan(0, 2, 32, draft)).toMatchObject({ steps: 2, drafts: 3 });
    // 5 tokens, and 2 times 4 more.
    expect(a.pages).toHaveLength(4);
  });

  it('starts over with nothing on its way', () => {
    const { s, a } = decoding(6, 30);
    const b = sequence(range(5, 50), { maxTokens: 30 });
    s.add(b);
    step(s);
    s.plan(0, 1, 32, draft);
    expect([a.ahead, b.ahead]).toEqual([3, 3]);
    for (let plans = 0; b.phase === 'decode'; plans++) {
      expect(plans).toBeLessThan(10);
      s.plan(0, 1, 32, draft);
    }
    expect([b.phase, b.computed, b.ahead, a.phase, a.ahead]).toEqual([
      'waiting',
      0,
      0,
      'decode',
      3,
    ]);
  });

  it('makes pages findable as far as tokens are known, and no further', () => {
    const { s, a, pool } = decoding(64, 60);
    const plan = s.plan(0, 1, 32, draft);
    s.plan(0, 1, 32, draft);
    s.plan(0, 1, 32, draft);
    // Four more tokens that may be there by then are on the second page and the third.
    expect(a.published).toBe(1);
    s.commit(plan, brought(a, 2), 0);
    expect(a.length).toBe(8);
    expect(a.published).toBe(2);
    expect(pool.match(sequence([...a.tokens(), 99])).pages).toBe(2);
  });

  it('gives up drafts before it takes the pages of others', () => {
    const { s, a } = decoding(4, 6);
    const b = sequence(range(2, 50), { maxTokens: 9 });
    s.add(b);
    step(s);
    const plan = s.plan(0, 2, 32, draft);
    expect([plan.steps, plan.drafts, plan.decode]).toEqual([1, 0, [a, b]]);
    expect(s.counters.preemptions).toBe(0);
  });

  it('has none beside prompts', () => {
    const { s } = decoding(64, 60);
    s.add(sequence(range(6, 50)));
    const plan = s.plan(0, 4, 32, draft);
    expect(plan.prefill).toHaveLength(1);
    expect([plan.steps, plan.drafts]).toEqual([1, 0]);
  });

  it('uploads the texts of few rows at once, and of one of any length', () => {
    const { scheduler: s } = scheduler(64, { maxHistoryTokens: 12 });
    for (const from of [0, 50, 100]) s.add(sequence(range(7, from)));
    const chunks = (of = s) => step(of).plan.prefill.map(({ length, last }) => [length, last]);
    expect([chunks(), chunks(), chunks()]).toEqual(Array(3).fill([[7, true]]));
    const { scheduler: other } = scheduler(64, { maxHistoryTokens: 12 });
    other.add(sequence(range(30)));
    expect(chunks(other)).toEqual([[30, true]]);
    const { scheduler: both } = scheduler(64, { maxHistoryTokens: 12 });
    for (const [length, from] of [
      [5, 0],
      [7, 50],
    ] as const)
      both.add(sequence(range(length, from)));
    expect(chunks(both)).toEqual([
      [5, true],
      [7, true],
    ]);
  });
});
