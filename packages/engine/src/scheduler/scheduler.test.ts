import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GenerationEvent } from '../request/request.ts';
import type { StepPlan } from './plan.ts';
import { Sequence } from './sequence.ts';
import { LIMITS, range, results, scheduler, sequence, step } from './testing/play.ts';

describe('Scheduler', () => {
  it('computes a prompt in chunks of what the step has left, then decodes', () => {
    const { scheduler: s } = scheduler(64);
    s.add(sequence(range(40), { maxTokens: 2 }));
    const first = step(s).plan;
    expect(first.prefill.map((c) => [c.start, c.length, c.last])).toEqual([[0, 32, false]]);
    const second = step(s);
    expect(second.plan.prefill.map((c) => [c.start, c.length, c.last])).toEqual([[32, 8, true]]);
    expect(second.events[0]!.tokens).toHaveLength(1);
    const third = step(s);
    expect(third.plan.decode).toHaveLength(1);
    expect(third.events[0]!.finish?.reason).toBe('length');
    expect(s.busy).toBe(false);
  });

  it('holds whole prompts back when chunking is off', () => {
    const { scheduler: s } = scheduler(64, { chunkedPrefill: false });
    s.add(sequence(range(20), { maxTokens: 1 }));
    s.add(sequence(range(20, 50), { maxTokens: 1 }));
    expect(step(s).plan.prefill.map((c) => c.length)).toEqual([20]);
    expect(step(s).plan.prefill.map((c) => c.length)).toEqual([20]);
  });

  it('reuses the pages of an equal prefix of the same tenant only', () => {
    const { scheduler: s } = scheduler(64);
    s.add(sequence(range(13), { maxTokens: 1 }));
    step(s);
    s.add(sequence(range(13), { maxTokens: 1 }));
    s.add(sequence(range(13), { maxTokens: 1 }, { tenant: 'other' }));
    const { plan, events } = step(s);
    expect(plan.prefill.map((c) => [c.start, c.length])).toEqual([
      [12, 1],
      [0, 13],
    ]);
    expect(events.map((e) => e.finish!.cachedTokens)).toEqual([12, 0]);
    expect(s.counters).toMatchObject({ prefixQueriedTokens: 39, prefixHitTokens: 12 });
  });

  it('shares pages between equal prompts admitted in one step', () => {
    const { scheduler: s } = scheduler(64);
    const [a, b] = [sequence(range(9)), sequence(range(9))];
    s.add(a);
    s.add(b);
    const { plan } = step(s);
    expect(plan.prefill.map((c) => c.length)).toEqual([9, 1]);
    expect(b.pages.slice(0, 2)).toEqual(a.pages.slice(0, 2));
    expect(b.pages[2]).not.toBe(a.pages[2]);
  });

  it('always computes the last prompt token, even when every page is cached', () => {
    const { scheduler: s } = scheduler(64);
    s.add(sequence(range(8), { maxTokens: 1 }));
    step(s);
    s.add(sequence(range(8), { maxTokens: 1 }));
    expect(step(s).plan.prefill.map((c) => [c.start, c.length])).toEqual([[4, 4]]);
  });

  it('computes every prompt token for prompt logprobs, a few lines a step', () => {
    const { scheduler: s } = scheduler(64);
    s.add(sequence(range(10), { maxTokens: 1 }));
    step(s);
    s.add(sequence(range(10), { maxTokens: 1, promptLogprobs: 0 }));
    const plan = s.plan(0);
    expect(plan.prefill.map((c) => [c.start, c.length])).toEqual([[0, 4]]);
  });

  it('preempts the latest arrival and finishes it later with the same tokens', () => {
    const { scheduler: s } = scheduler(8, { prefixCaching: false });
    const all = [sequence(range(8), { maxTokens: 12 }), sequence(range(8, 50), { maxTokens: 12 })];
    for (const each of all) s.add(each);
    const tokens = new Map<string, number[]>();
    for (let steps = 0; s.busy; steps++) {
      expect(steps).toBeLessThan(60);
      for (const event of step(s).events) {
        tokens.set(event.id, [...(tokens.get(event.id) ?? []), ...event.tokens]);
      }
    }
    expect(s.counters.preemptions).toBeGreaterThan(0);
    expect(all[0]!.preemptions).toBe(0);
    for (const each of all) expect(tokens.get(each.request.id)).toEqual(range(12, 8));
  });

  it('drops results that belong to an earlier occupant of a row', () => {
    const { scheduler: s } = scheduler(8);
    const a = sequence(range(4), { maxTokens: 4 });
    s.add(a);
    const plan = s.plan(0);
    const rows = results(plan).map((r) => ({ ...r, epoch: r.epoch + 1 }));
    expect(s.commit(plan, { rows, promptLogprobs: [] }, 0)).toEqual([]);
    expect(a.generated).toBe(0);
  });

  it('fails where the device has said all that a row may say, and the row goes on', () => {
    const { scheduler: s } = scheduler(8);
    s.add(sequence(range(4), { maxTokens: 2 }));
    const nothing = { rows: [], promptLogprobs: [] };
    for (let step = 0; step < 2; step++) s.commit(s.plan(0), nothing, 0);
    expect(() => s.plan(0)).toThrow('a row ends with the last token that it may have');
  });

  it('ends cancelled sequences, waiting or running, and frees their pages', () => {
    const { scheduler: s, pool } = scheduler(8, { maxRows: 1, prefixCaching: false });
    const [a, b] = [sequence(range(8)), sequence(range(8))];
    s.add(a);
    s.add(b);
    step(s);
    expect([s.running, s.waiting]).toEqual([1, 1]);
    a.cancelled = b.cancelled = true;
    expect(s.retireCancelled(0).map((e) => e.finish?.reason)).toEqual(['cancelled', 'cancelled']);
    expect(s.busy).toBe(false);
    expect(pool.available).toBe(8);
  });

  it('counts steps, prompt tokens and generated ones as they are committed', () => {
    const { scheduler: s } = scheduler(64);
    expect(s.counters).toEqual({
      steps: 0,
      prefixQueriedTokens: 0,
      prefixHitTokens: 0,
      preemptions: 0,
      promptTokens: 0,
      generatedTokens: 0,
      drafts: 0,
      draftTokens: 0,
      acceptedTokens: 0,
    });
    s.add(sequence(range(40), { maxTokens: 3 }));
    step(s);
    expect(s.counters).toMatchObject({ steps: 1, promptTokens: 32, generatedTokens: 0 });
    step(s);
    expect(s.counters).toMatchObject({ steps: 2, promptTokens: 40, generatedTokens: 1 });
    step(s);
    expect(s.counters).toMatchObject({ steps: 3, promptTokens: 40, generatedTokens: 2 });
    step(s);
    expect([s.counters.steps, s.counters.generatedTokens, s.busy]).toEqual([4, 3, false]);
  });

  it('counts every decode step of a launch, and one for prompts beside them', () => {
    const { scheduler: s } = scheduler(64);
    s.add(sequence(range(4), { maxTokens: 20 }));
    step(s);
    const burst = s.plan(0, 4);
    expect([burst.steps, burst.decode.length]).toEqual([4, 1]);
    s.commit(burst, { rows: [], promptLogprobs: [] }, 0);
    expect(s.counters.steps).toBe(5);
    s.add(sequence(range(4, 90), { maxTokens: 20 }));
    const both = s.plan(0, 4);
    expect([both.steps, both.decode.length, both.prefill.length]).toEqual([1, 1, 1]);
    s.commit(both, { rows: [], promptLogprobs: [] }, 0);
    expect(s.counters.steps).toBe(7);
  });

  it('bursts as long as the longest row, and not while prompts wait or are computed', () => {
    const { scheduler: s } = scheduler(64, { maxRows: 2 });
    s.add(sequence(range(4), { maxTokens: 6 }));
    s.add(sequence(range(4, 50), { maxTokens: 3 }));
    step(s);
    // Five and two tokens are left: eight would be longer than either row.
    expect(s.plan(0, 8)).toMatchObject({ steps: 5, prefill: [] });
    const { scheduler: t } = scheduler(64, { maxRows: 2, maxBatchTokens: 8 });
    t.add(sequence(range(4), { maxTokens: 30 }));
    step(t);
    t.add(sequence(range(20, 50), { maxTokens: 30 }));
    expect([0, 1, 2].map(() => t.plan(0, 4).steps)).toEqual([1, 1, 1]);
    expect(t.plan(0, 4).steps).toBe(4);
    // Nothing can be admitted while all rows are taken: whoever waits is not waited for.
    t.add(sequence(range(4, 90)));
    expect(t.plan(0, 4).steps).toBe(4);
  });

  it('tells the times of a request: in the queue, to its first token, and after it', () => {
    const { scheduler: s } = scheduler(64);
    const one = new Sequence({ ...sequence(range(4), { maxTokens: 2 }).request }, 0n, 999, 100);
    s.add(one);
    const at = (planNs: number, commitNs: number) => {
      const plan = s.plan(planNs);
      return s.commit(plan, { rows: results(plan), promptLogprobs: [] }, commitNs);
    };
    at(130, 180);
    expect(at(200, 300)[0]!.finish).toEqual({
      reason: 'length',
      cachedTokens: 0,
      timing: { queuedNs: 30, prefillNs: 50, decodeNs: 120, preemptions: 0 },
    });
    const never = new Sequence({ ...one.request, id: 'never' }, 0n, 1000, 400);
    s.add(never);
    never.cancelled = true;
    expect(s.retireCancelled(450)).toEqual([
      {
        id: 'never',
        tokens: [],
        finish: {
          reason: 'cancelled',
          cachedTokens: 0,
          timing: { queuedNs: 50, prefillNs: 0, decodeNs: 0, preemptions: 0 },
        },
      },
    ]);
  });

  it('ends those that were cancelled and no others, and says which token stopped one', () => {
    const { scheduler: s } = scheduler(64, { maxRows: 2 });
    const all = [0, 50, 100, 150].map((from) => sequence(range(4, from), { maxTokens: 9 }));
    for (const each of all) s.add(each);
    expect(s.retireCancelled(0)).toEqual([]);
    step(s);
    all[3]!.cancelled = true;
    expect(s.retireCancelled(0).map(({ id }) => id)).toEqual([all[3]!.request.id]);
    all[0]!.cancelled = true;
    expect(s.retireCancelled(0).map(({ id }) => id)).toEqual([all[0]!.request.id]);
    expect([s.running, s.waiting, s.open()]).toEqual([1, 1, [all[1], all[2]]]);
    const plan = s.plan(0);
    const rows = results(plan).map((row) => ({ ...row, token: 77, finish: 'stop' as const }));
    const events = s.commit(plan, { rows, promptLogprobs: [] }, 0);
    expect(events.map(({ tokens, finish }) => [tokens, finish!.reason, finish!.stopToken])).toEqual(
      [
        [[77], 'stop', 77],
        [[77], 'stop', 77],
      ],
    );
    expect(s.busy).toBe(false);
  });

  it('gathers several tokens of a launch in one event, with their logprobs', () => {
    const { scheduler: s } = scheduler(64);
    const one = sequence(range(4), { maxTokens: 9, logprobs: 0 });
    s.add(one);
    step(s);
    const plan = s.plan(0, 4);
    const logprobs = { logprob: -1, rank: 2, top: [] };
    const row = { row: one.row, epoch: one.epoch, finish: undefined };
    const rows = [5, 6].map((token) => ({ ...row, token, logprobs }));
    expect(s.commit(plan, { rows, promptLogprobs: [] }, 0)).toEqual([
      { id: one.request.id, tokens: [5, 6], logprobs: [logprobs, logprobs] },
    ]);
    expect([...one.tokens(5)]).toEqual([5, 6]);
  });

  it('ends a launch’s tokens before the one for which there were no numbers', () => {
    const { scheduler: s } = scheduler(64);
    const one = sequence(range(4), { maxTokens: 9 });
    s.add(one);
    step(s);
    const row = { row: one.row, epoch: one.epoch, logprobs: undefined };
    const rows = [
      { ...row, token: 5, finish: undefined },
      { ...row, token: 0, finish: 'error' as const },
    ];
    const [event] = s.commit(s.plan(0, 4), { rows, promptLogprobs: [] }, 0);
    expect(event).toMatchObject({ tokens: [5], finish: { reason: 'error' } });
    expect([...one.tokens(5)]).toEqual([5]);
  });

  it('makes the pages of an answer findable, but for its last token', () => {
    const { scheduler: s, pool } = scheduler(64);
    s.add(sequence(range(6), { maxTokens: 3 }));
    const tokens = [0, 1, 2].map(() => step(s).events[0]!.tokens[0]!);
    expect(s.busy).toBe(false);
    expect(pool.match(sequence([...range(6), ...tokens, 99])).pages).toBe(2);
  });

  it('gives the prompt logprobs of all chunks with the first token, once', () => {
    const { scheduler: s } = scheduler(64);
    const plain = sequence(range(3), { maxTokens: 9 });
    const one = sequence(range(6, 20), { maxTokens: 9, promptLogprobs: 0 });
    s.add(plain);
    s.add(one);
    const line = (logprob: number) => ({ logprob, rank: 1, top: [] });
    const at = (lines: readonly number[]) => {
      const plan = s.plan(0);
      const promptLogprobs = lines.length === 0 ? [] : [lines.map(line)];
      return s
        .commit(plan, { rows: results(plan), promptLogprobs }, 0)
        .find(({ id }) => id === one.request.id);
    };
    expect(at([-1, -2, -3, -4])).toBeUndefined();
    expect(at([-5])!.promptLogprobs).toEqual([-1, -2, -3, -4, -5].map(line));
    expect(at([])).not.toHaveProperty('promptLogprobs');
  });

  it('spends so many counts a step on penalties, and any number on one sequence', () => {
    const { scheduler: s } = scheduler(64, { maxCountTokens: 10 });
    const chunks = () => step(s).plan.prefill.map(({ length }) => length);
    const penalised = { maxTokens: 1, presencePenalty: 1 };
    for (const from of [0, 50, 100]) s.add(sequence(range(6, from), penalised));
    // Six counts and six more are above ten; the next step has none to begin with.
    expect([chunks(), chunks(), chunks()]).toEqual([[6], [6], [6]]);
    s.add(sequence(range(20, 200), penalised));
    s.add(sequence(range(4, 300), { maxTokens: 1 }));
    expect(chunks()).toEqual([4, 20]);
    for (const from of [400, 450]) s.add(sequence(range(5, from), penalised));
    expect(chunks()).toEqual([5, 5]);
  });

  describe('takes pages', () => {
    /** One row of a prompt of four tokens, computed. */
    const decoding = (pages: number, maxTokens: number) => {
      const { scheduler: s } = scheduler(pages);
      const one = sequence(range(4), { maxTokens });
      s.add(one);
      step(s);
      return { s, one };
    };

    it('for 64 tokens more than it needs, where that takes less than half of what is free', () => {
      // 69 tokens are in 18 pages, 17 more than the prompt's.
      for (const [pages, taken] of [
        [64, 18],
        [36, 18],
        [35, 2],
      ] as const) {
        const { s, one } = decoding(pages, 200);
        expect(s.plan(0).pageWrites).toEqual([{ sequence: one, first: 1, count: taken - 1 }]);
        expect(one.pages).toHaveLength(taken);
      }
      const { s, one } = decoding(64, 200);
      // 4 + 8 + 64 tokens.
      expect(s.plan(0, 8).steps).toBe(8);
      expect(one.pages).toHaveLength(19);
    });

    it('only when it needs some', () => {
      const { scheduler: s } = scheduler(64);
      const one = sequence(range(5), { maxTokens: 200 });
      s.add(one);
      step(s);
      expect([s.plan(0).pageWrites, one.pages.length]).toEqual([[], 2]);
    });

    it('for no token behind the last', () => {
      const { s, one } = decoding(64, 3);
      s.plan(0);
      expect(one.pages).toHaveLength(2);
    });

    it('for a burst if they are there, and else for one step', () => {
      const { s } = decoding(3, 100);
      expect(s.plan(0, 8).steps).toBe(8);
      const { scheduler: t } = scheduler(3);
      const [a, b] = [sequence(range(4), { maxTokens: 20 }), sequence(range(4, 50))];
      for (const each of [a, b]) t.add(each);
      step(t);
      expect(t.plan(0, 8)).toMatchObject({ steps: 1, decode: [a] });
      expect([a.pages.length, b.row]).toEqual([2, -1]);
    });

    it('from the latest arrival, and from no other', () => {
      const { scheduler: s } = scheduler(7, { prefixCaching: false });
      const all = [4, 5, 5].map((length) => sequence(range(length), { maxTokens: 9 }));
      for (const each of all) s.add(each);
      step(s);
      for (let steps = 0; all[2]!.row >= 0; steps++) {
        expect(steps).toBeLessThan(20);
        step(s);
      }
      expect(all.map(({ preemptions }) => preemptions)).toEqual([0, 0, 1]);
      expect(all.slice(0, 2).every(({ row }) => row >= 0)).toBe(true);
    });
  });

  describe('admits', () => {
    const prefilled = (pages: number, prompts: readonly number[]) => {
      const { scheduler: s } = scheduler(pages, { prefixCaching: false });
      prompts.forEach((length, at) => {
        s.add(sequence(range(length, 100 * at), { maxTokens: 9 }));
      });
      return s.plan(0).prefill.map(({ length }) => length);
    };

    it('what fits, with a page to spare for each row that runs', () => {
      expect(prefilled(2, [8])).toEqual([8]);
      expect(prefilled(1, [5])).toEqual([]);
      expect(prefilled(3, [4, 4])).toEqual([4, 4]);
      expect(prefilled(2, [4, 4])).toEqual([4]);
      expect(prefilled(6, [4, 4, 4])).toEqual([4, 4, 4]);
      expect(prefilled(4, [4, 4, 4])).toEqual([4, 4]);
    });

    it('a whole prompt of just what a step may compute, without chunks', () => {
      const { scheduler: s } = scheduler(64, { chunkedPrefill: false });
      s.add(sequence(range(32), { maxTokens: 1 }));
      expect(s.plan(0).prefill.map(({ length }) => length)).toEqual([32]);
    });

    it('prompts to what rows that decode have left of a step', () => {
      const { scheduler: s } = scheduler(64, { maxBatchTokens: 8 });
      s.add(sequence(range(4), { maxTokens: 9 }));
      step(s);
      s.add(sequence(range(20, 50), { maxTokens: 9 }));
      expect(s.plan(0).prefill.map(({ length }) => length)).toEqual([7]);
    });

    it('prompts to the tokens that a launch may have beside rows, and some in any case', () => {
      const { scheduler: s } = scheduler(64, { maxBatchTokens: 64 });
      const prefill = (tokens: number) => s.plan(0, 1, tokens).prefill.map(({ length }) => length);
      s.add(sequence(range(64), { maxTokens: 9 }));
      // Nothing decodes yet.
      expect(prefill(8)).toEqual([64]);
      s.add(sequence(range(100, 100), { maxTokens: 9 }));
      // A row, padded, and the rest in whole fours.
      expect(prefill(46)).toEqual([40]);
      expect(prefill(8)).toEqual([32]);
    });

    it('prompts with logprobs to the lines that others have left', () => {
      const { scheduler: s } = scheduler(64);
      const wanting = { maxTokens: 1, promptLogprobs: 0 };
      s.add(sequence(range(3), wanting));
      s.add(sequence(range(3, 50), wanting));
      s.add(sequence(range(3, 90), { maxTokens: 1 }));
      expect(s.plan(0).prefill.map(({ length }) => length)).toEqual([3, 1, 3]);
    });

    it('penalties beside prompts that have none', () => {
      const { scheduler: s } = scheduler(64, { maxCountTokens: 10 });
      s.add(sequence(range(12), { maxTokens: 1 }));
      s.add(sequence(range(20, 50), { maxTokens: 1, presencePenalty: 1 }));
      expect(s.plan(0).prefill.map(({ length }) => length)).toEqual([12, 20]);
      const { scheduler: t } = scheduler(64, { maxCountTokens: 10 });
      t.add(sequence(range(6), { maxTokens: 1, presencePenalty: 1 }));
      t.add(sequence(range(20, 50), { maxTokens: 1 }));
      expect(t.plan(0).prefill.map(({ length }) => length)).toEqual([6, 20]);
    });

    it('a whole prompt beside rows, however few tokens a launch may have', () => {
      const { scheduler: s } = scheduler(64, { chunkedPrefill: false, maxBatchTokens: 64 });
      s.add(sequence(range(4), { maxTokens: 9 }));
      step(s);
      s.add(sequence(range(50, 50), { maxTokens: 9 }));
      expect(s.plan(0, 1, 8).prefill.map(({ length }) => length)).toEqual([50]);
    });
  });

  describe('while results are on their way', () => {
    it('plans each token once, and a burst of just what is left', () => {
      const { scheduler: s } = scheduler(64);
      s.add(sequence(range(4), { maxTokens: 5 }));
      const first = s.plan(0, 4);
      expect([first.prefill.length, first.decode.length, first.steps]).toEqual([1, 0, 1]);
      expect(s.plan(0, 4)).toMatchObject({ steps: 4, decode: [{ computed: 8 }] });
      expect(s.plan(0, 4)).toMatchObject({ steps: 1, decode: [], prefill: [], pageWrites: [] });
    });

    it('takes one step where one token is left', () => {
      const { scheduler: s } = scheduler(64);
      s.add(sequence(range(4), { maxTokens: 2 }));
      step(s);
      expect(s.plan(0, 4).steps).toBe(1);
    });

    it('forgets what comes for a row that is free', () => {
      const { scheduler: s } = scheduler(64);
      const one = sequence(range(4));
      s.add(one);
      const plan = s.plan(0);
      const rows = results(plan);
      one.cancelled = true;
      s.retireCancelled(0);
      expect(s.commit(plan, { rows, promptLogprobs: [] }, 0)).toEqual([]);
    });

    it('shares the pages of all chunks that were planned, and of what was generated', () => {
      const { scheduler: s } = scheduler(64);
      s.add(sequence(range(40), { maxTokens: 9 }));
      s.plan(0);
      s.plan(0);
      const equal = sequence(range(40), { maxTokens: 1 });
      s.add(equal);
      s.plan(0);
      expect(equal.cachedTokens).toBe(36);

      const { scheduler: t } = scheduler(64);
      const talk = sequence(range(4), { maxTokens: 6 });
      t.add(talk);
      while (t.busy) step(t);
      const next = sequence([...range(4), ...talk.tokens(4), 1, 2], { maxTokens: 1 });
      t.add(next);
      t.plan(0);
      expect(next.cachedTokens).toBe(8);
    });

    it('drops prompt logprobs of a run that was given up', () => {
      const { scheduler: s } = scheduler(5, { maxLines: 1, prefixCaching: false });
      const growing = sequence(range(4), { maxTokens: 10 });
      const one = sequence(range(12, 50), { maxTokens: 1, promptLogprobs: 0 });
      for (const each of [growing, one]) s.add(each);
      const commit = (plan: StepPlan) => {
        const wanted = plan.prefill.filter((chunk) => chunk.sequence === one);
        const lines = wanted.map(({ start }) => [{ logprob: -start, rank: 1, top: [] }]);
        return s.commit(plan, { rows: results(plan), promptLogprobs: lines }, 0);
      };
      for (let steps = 0; steps < 4; steps++) commit(s.plan(0));
      const late = s.plan(0);
      // The other row's ninth token has no page but one of this one's.
      const next = s.plan(0);
      expect([one.row, one.promptLogprobs.length]).toEqual([-1, 0]);
      commit(late);
      commit(next);
      const events: GenerationEvent[] = [];
      for (let steps = 0; s.busy; steps++) {
        expect(steps).toBeLessThan(60);
        events.push(...commit(s.plan(0)));
      }
      const { promptLogprobs } = events.find(({ id }) => id === one.request.id)!;
      expect(promptLogprobs?.map(({ logprob }) => -logprob)).toEqual(range(12));
    });
  });

  it('counts a request that is given up and starts over once, from its first start', () => {
    const { scheduler: s } = scheduler(8);
    const all = [sequence(range(8), { maxTokens: 12 }), sequence(range(8, 50), { maxTokens: 12 })];
    for (const each of all) s.add(each);
    const finishes = new Map<string, GenerationEvent['finish']>();
    for (let steps = 0; s.busy; steps++) {
      expect(steps).toBeLessThan(60);
      const plan = s.plan(1000 + steps);
      const events = s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 2000 + steps);
      for (const { id, finish } of events) if (finish) finishes.set(id, finish);
    }
    expect(all[1]!.preemptions).toBeGreaterThan(0);
    expect(finishes.get(all[1]!.request.id)?.timing?.queuedNs).toBe(1000);
    expect(s.counters.prefixQueriedTokens).toBe(16);
  });

  it('says of a request without logprobs just its tokens', () => {
    const { scheduler: s } = scheduler(64);
    const one = sequence(range(4), { maxTokens: 9 });
    s.add(one);
    const [event] = step(s).events;
    expect(event).toStrictEqual({ id: one.request.id, tokens: [4] });
  });

  it('gives each prompt its own logprobs', () => {
    const { scheduler: s } = scheduler(64);
    for (const from of [0, 50]) s.add(sequence(range(2, from), { promptLogprobs: 0 }));
    const lines = [-1, -2].map((logprob) => [{ logprob, rank: 1, top: [] }]);
    const plan = s.plan(0);
    const events = s.commit(plan, { rows: results(plan), promptLogprobs: lines }, 0);
    expect(events.map(({ promptLogprobs }) => promptLogprobs)).toEqual(lines);
  });

  it('says whether prompts wait or are computed', () => {
    const { scheduler: s } = scheduler(64);
    expect([s.hasPrompts, s.maxBatchTokens]).toEqual([false, LIMITS.maxBatchTokens]);
    s.add(sequence(range(4), { maxTokens: 99 }));
    expect(s.hasPrompts).toBe(true);
    step(s);
    expect(s.hasPrompts).toBe(false);
    s.add(sequence(range(40, 50)));
    step(s);
    expect([s.waiting, s.hasPrompts]).toEqual([0, true]);
    step(s);
    expect([s.running, s.hasPrompts]).toEqual([2, false]);
  });

  it('leaves a request in the queue that a launch has no room for', () => {
    const { scheduler: s } = scheduler(64, { maxBatchTokens: 8 });
    const all = [8, 9, 10].map((length) => sequence(range(length, 20 * length)));
    for (const each of all) s.add(each);
    expect(s.plan(0).prefill.map(({ length }) => length)).toEqual([8]);
    expect(all.map(({ row }) => row)).toEqual([0, -1, -1]);
  });

  it('decodes in order of arrival, in whatever order prompts are computed', () => {
    const { scheduler: s } = scheduler(64);
    const all = [9, 3, 6, 4].map((length) => sequence(range(length, 20 * length)));
    for (const each of all) s.add(each);
    const lengths = s.plan(0).prefill.map(({ length }) => length);
    expect(lengths).toEqual([3, 4, 6, 9]);
    expect(s.plan(0).decode).toEqual(all);
  });

  describe('among owners', () => {
    const owned = (owner: string, length: number, from: number, weight = 1) =>
      sequence(range(length, from), { maxTokens: 9 }, { share: { owner, weight } });
    const next = ({ prefill }: StepPlan) =>
      prefill.map(({ sequence: each, length }) => [each, length]);

    it('gives a new one a launch, and then the one that was served least', () => {
      const { scheduler: s } = scheduler(128, { maxBatchTokens: 8 });
      const [a, b] = [owned('a', 60, 0), owned('b', 100, 100)];
      s.add(a);
      expect(next(s.plan(0))).toEqual([[a, 8]]);
      s.add(b);
      // As much as the first was served: which is due first decides.
      const turns = [0, 0, 0, 0, 0].map(() => next(s.plan(0)));
      expect(turns).toEqual([[[b, 8]], [[a, 8]], [[a, 8]], [[b, 8]], [[a, 8]]]);
    });

    it('has a prompt that is computed before one that is due a little later', () => {
      const { scheduler: s } = scheduler(64, { maxBatchTokens: 8 });
      // A weight of four: they are due at 10 and 10.25.
      const [first, second] = [owned('a', 40, 0, 4), owned('a', 41, 100, 4)];
      for (const each of [first, second]) s.add(each);
      expect([0, 0].map(() => next(s.plan(0)))).toEqual([[[first, 8]], [[first, 8]]]);
    });

    it('makes room for one that has none, and for no other', () => {
      const rows = (others: readonly string[], length: number, pages = 8, maxRows = 2) => {
        const { scheduler: s } = scheduler(pages, { maxRows, prefixCaching: false });
        const held = others.map((owner, at) => owned(owner, 4, 10 * at));
        for (const each of held) s.add(each);
        step(s);
        s.add(owned('b', length, 100));
        s.plan(0);
        return held.filter(({ row }) => row >= 0).length;
      };
      // A part of two owners is four of eight pages.
      expect(rows(['a', 'a'], 4)).toBe(1);
      expect(rows(['a', 'a'], 16)).toBe(1);
      expect(rows(['a', 'a'], 17)).toBe(2);
      // Each has one row.
      expect(rows(['a', 'c'], 4)).toBe(2);
      // It has one already.
      expect(rows(['a', 'a', 'b'], 4, 32, 3)).toBe(3);
      expect(rows(['a'], 4)).toBe(1);
    });

    it('has one that starts over wait for the next launch, like all others', () => {
      const { scheduler: s } = scheduler(14, { prefixCaching: false });
      const [grows, large] = [owned('a', 4, 0), owned('a', 40, 50)];
      for (const each of [grows, large]) s.add(each);
      step(s);
      step(s);
      // More than its part of the pages, of which too few are free.
      const late = owned('b', 32, 200);
      s.add(late);
      for (let steps = 0; large.row >= 0; steps++) {
        expect(steps).toBeLessThan(9);
        const plan = s.plan(0);
        expect(plan.prefill).toEqual([]);
        s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0);
      }
      expect(large.preemptions).toBe(1);
      expect(next(s.plan(0))[0]).toEqual([late, 31]);
    });

    it('goes on with prompts while one starts over, and begins none', () => {
      const { scheduler: s, pool } = scheduler(41, { maxBatchTokens: 12, prefixCaching: false });
      const answer = (owner: string, length: number, from: number) =>
        sequence(range(length, from), { maxTokens: 30 }, { share: { owner, weight: 1 } });
      const [grows, large, other] = [answer('a', 4, 0), answer('a', 60, 50), answer('c', 4, 150)];
      for (const each of [grows, large, other]) s.add(each);
      while (large.phase !== 'decode') step(s);
      step(s);
      // What is left is a page for each row.
      const [long, late] = [owned('b', 4 * (pool.available - 3), 200), owned('c', 8, 400)];
      for (const each of [long, late]) s.add(each);
      let plan = s.plan(0);
      for (let steps = 0; large.row >= 0; steps++) {
        expect(steps).toBeLessThan(9);
        s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0);
        plan = s.plan(0);
      }
      // It goes before the one that is computed, and there would be room for it.
      expect([late.row, plan.prefill.map((chunk) => chunk.sequence)]).toEqual([-1, [long]]);
      s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0);
      expect(next(s.plan(0))[0]).toEqual([late, 8]);
    });
  });

  it('starts over whatever was on its way', () => {
    const { scheduler: s } = scheduler(64, { maxRows: 2, prefixCaching: false });
    const owned = (owner: string, length: number, from: number) =>
      sequence(range(length, from), { maxTokens: 9 }, { share: { owner, weight: 1 } });
    const all = [owned('a', 1, 0), owned('a', 1, 50)];
    for (const each of all) s.add(each);
    // Five tokens of each are on their way.
    const plans = [s.plan(0), s.plan(0, 4)];
    const other = owned('b', 4, 100);
    s.add(other);
    plans.push(s.plan(0));
    expect(all.map(({ row }) => row)).toEqual([0, -1]);
    for (const plan of plans) s.commit(plan, { rows: [], promptLogprobs: [] }, 0);
    other.cancelled = true;
    s.retireCancelled(0);
    expect(s.plan(0).prefill).toMatchObject([{ sequence: all[1], start: 0, length: 1 }]);
  });

  it('keeps its promises over random traffic', () => {
    const request = fc.record({
      prompt: fc.array(fc.nat(3), { minLength: 1, maxLength: 20 }),
      maxTokens: fc.integer({ min: 1, max: 11 }),
      tenant: fc.constantFrom('a', 'b'),
      cancelAt: fc.option(fc.nat(10)),
      penalty: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 14 }), fc.boolean(), (requests, caching) => {
        const { scheduler: s, pool } = scheduler(9, { prefixCaching: caching });
        const sequences = requests.map((r) =>
          sequence(
            r.prompt,
            { maxTokens: r.maxTokens, presencePenalty: r.penalty ? 1 : 0 },
            { tenant: r.tenant },
          ),
        );
        for (const each of sequences) s.add(each);
        const finished = new Set<string>();
        const tables = new Map<number, number[]>();
        const epochs = new Set<number>();
        for (let steps = 0; s.busy; steps++) {
          expect(steps).toBeLessThan(500);
          sequences.forEach((each, i) => {
            if (requests[i]!.cancelAt === steps) each.cancelled = true;
          });
          for (const event of s.retireCancelled(0)) finished.add(event.id);
          if (!s.busy) break;
          const plan = s.plan(0);
          checkPlan(plan);
          checkTables(plan, tables);
          for (const { start, sequence: one, epoch } of plan.prefill) {
            expect(epoch).toBe(one.epoch);
            if (start === one.cachedTokens && one.preemptions === 0) {
              expect(epochs.has(epoch)).toBe(false);
            }
            epochs.add(epoch);
          }
          const events = s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0);
          for (const event of events) if (event.finish) finished.add(event.id);
        }
        expect(finished.size).toBe(requests.length);
        expect(pool.available).toBe(9);
        const preemptions = sequences.reduce((sum, each) => sum + each.preemptions, 0);
        expect(s.counters.preemptions).toBe(preemptions);
        sequences.forEach((each, i) => {
          expect([each.phase, each.row, each.pages]).toEqual(['finished', -1, []]);
          if (!each.cancelled) expect(each.generated).toBe(requests[i]!.maxTokens);
        });
      }),
      { numRuns: 200 },
    );
  });
});

/** What must hold of every plan. */
function checkPlan(plan: StepPlan): void {
  const tokens = plan.prefill.reduce((sum, c) => sum + c.length, plan.decode.length);
  expect(tokens).toBeGreaterThan(0);
  expect(tokens).toBeLessThanOrEqual(LIMITS.maxBatchTokens);
  const all = [...plan.decode, ...plan.prefill.map((c) => c.sequence)];
  expect(new Set(all.map((s) => s.row)).size).toBe(all.length);
  // The pages that this step writes to belong to one sequence each.
  const written = all.flatMap((s) => {
    const chunk = plan.prefill.find((c) => c.sequence === s);
    const from = chunk?.start ?? s.computed - 1;
    const pages = s.pages.slice(Math.floor(from / LIMITS.pageTokens));
    expect(s.pages.length * LIMITS.pageTokens).toBeGreaterThanOrEqual(s.computed);
    return chunk === undefined ? pages.slice(0, 1) : pages;
  });
  expect(new Set(written).size).toBe(written.length);
}

/**
 * Writes the plan's pages as the device does, by row; then whatever is computed finds its pages
 * there, those it shares too.
 */
function checkTables(plan: StepPlan, tables: Map<number, number[]>): void {
  for (const { sequence: one, first, count } of plan.pageWrites) {
    expect(count).toBeGreaterThan(0);
    expect(one.row).toBeGreaterThanOrEqual(0);
    const table = tables.get(one.row) ?? [];
    for (let page = first; page < first + count; page++) table[page] = one.pages[page]!;
    tables.set(one.row, table);
  }
  for (const one of [...plan.decode, ...plan.prefill.map((chunk) => chunk.sequence)]) {
    expect(tables.get(one.row)?.slice(0, one.pages.length)).toEqual(one.pages);
  }
}

describe('the text of a prompt', () => {
  const chunksOf = (first: Sequence, second: Sequence) => {
    const { scheduler: s } = scheduler(64, { maxHistoryTokens: 12 });
    for (const each of [first, second]) s.add(each);
    return s.plan(0).prefill.map(({ length, last }) => [length, last]);
  };

  it('is no reason to compute less of one that does not end yet', () => {
    const chunks = chunksOf(sequence(range(7)), sequence(range(40, 50)));
    expect(chunks).toEqual([
      [7, true],
      [25, false],
    ]);
  });

  it('leaves room to others until its prompt ends', () => {
    const chunks = chunksOf(sequence(range(6), { promptLogprobs: 0 }), sequence(range(7, 50)));
    expect(chunks).toEqual([
      [4, false],
      [7, true],
    ]);
  });
});

it('does not make a page findable whose last token only ended its row', () => {
  const { scheduler: s, pool } = scheduler(64);
  const a = sequence(range(6), { maxTokens: 20, stopTokenIds: [7] });
  s.add(a);
  step(s);
  const plan = s.plan(0);
  // Launched before it is known that nothing is left to compute.
  s.plan(0);
  const rows = results(plan).map((result) => ({ ...result, token: 7, finish: 'stop' as const }));
  s.commit(plan, { rows, promptLogprobs: [] }, 0);
  expect(a.length).toBe(8);
  expect(pool.match(sequence([...range(7), 7, 1, 2])).pages).toBe(1);
});
