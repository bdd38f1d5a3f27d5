import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PagePool } from '../kv/page-pool.ts';
import type { GenerationEvent, SamplingParams } from '../request/request.ts';
import { GREEDY } from '../request/sampling.ts';
import type { RowResult, StepPlan } from './plan.ts';
import { Scheduler, type SchedulerLimits } from './scheduler.ts';
import { Sequence } from './sequence.ts';

const LIMITS: SchedulerLimits = {
  maxRows: 4,
  maxBatchTokens: 32,
  pageTokens: 4,
  maxLines: 4,
  maxCountTokens: 64,
  prefixCaching: true,
  chunkedPrefill: true,
};

function scheduler(pages: number, limits: Partial<SchedulerLimits> = {}) {
  const pool = new PagePool(pages);
  return { pool, scheduler: new Scheduler({ ...LIMITS, ...limits }, pool) };
}

let arrivals = 0;
function sequence(prompt: number[], sampling: Partial<SamplingParams> = {}, tenant = 't') {
  const request = {
    id: `r${arrivals}`,
    tenant,
    promptTokens: Uint32Array.from(prompt),
    sampling: { ...GREEDY, ...sampling },
  };
  return new Sequence(request, 0n, arrivals++, 0);
}

/** Plays the device: every sampled row gets the token `tokenOf` says, and ends at max_tokens. */
function results(plan: StepPlan, tokenOf = (s: Sequence) => s.length % 97): RowResult[] {
  const sampled = [
    ...plan.prefill.filter((chunk) => chunk.last).map((chunk) => chunk.sequence),
    ...plan.decode,
  ];
  return sampled.map((s) => ({
    row: s.row,
    epoch: s.epoch,
    token: tokenOf(s),
    finish: s.generated + 1 >= s.request.sampling.maxTokens ? 'length' : undefined,
    logprobs: undefined,
  }));
}

function step(s: Scheduler): { plan: StepPlan; events: GenerationEvent[] } {
  const plan = s.plan(0);
  return { plan, events: s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0) };
}

const range = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);

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
    s.add(sequence(range(13), { maxTokens: 1 }, 'other'));
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
            r.tenant,
          ),
        );
        for (const each of sequences) s.add(each);
        const finished = new Set<string>();
        for (let steps = 0; s.busy; steps++) {
          expect(steps).toBeLessThan(500);
          sequences.forEach((each, i) => {
            if (requests[i]!.cancelAt === steps) each.cancelled = true;
          });
          for (const event of s.retireCancelled(0)) finished.add(event.id);
          if (!s.busy) break;
          const plan = s.plan(0);
          checkPlan(plan);
          const events = s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0);
          for (const event of events) if (event.finish) finished.add(event.id);
        }
        expect(finished.size).toBe(requests.length);
        expect(pool.available).toBe(9);
        sequences.forEach((each, i) => {
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
