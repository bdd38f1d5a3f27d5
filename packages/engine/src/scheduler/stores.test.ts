import { describe, expect, it } from 'vitest';
import { type Faults, PageWorld } from '../kv/testing/page-world.ts';
import { createTierPolicy } from '../kv/tiers/policies.ts';
import type { TierPolicy } from '../kv/tiers/policy.ts';
import type { KvPrices } from '../kv/tiers/prices.ts';
import type { Scheduler } from './scheduler.ts';
import type { Sequence } from './sequence.ts';
import { range, results, scheduler, sequence } from './testing/play.ts';

/** Pages are computed in 10 and moved in 1. */
const PRICES: KvPrices = {
  recomputeNs: () => 10,
  launchNs: () => 0,
  writeNs: () => 1,
  readNs: () => 1,
};

interface World {
  readonly pages?: number;
  readonly prices?: KvPrices;
  readonly policy?: TierPolicy;
  readonly faults?: Faults;
  readonly maxBatchTokens?: number;
  readonly maxLines?: number;
}

/** A scheduler with host memory below the device. `step` plays the device, bytes included. */
function stored(options: World = {}) {
  const { pages = 8, prices = PRICES, faults, maxBatchTokens = 64, maxLines = 4 } = options;
  const { policy = createTierPolicy('lru', prices) } = options;
  const world = new PageWorld(pages, 64, 0, faults);
  const tiers = { mover: world, prices, policy };
  const { scheduler: s, pool } = scheduler(pages, { tiers, maxBatchTokens, maxLines });
  const step = (nowNs = 0) => {
    const plan = s.plan(nowNs);
    for (const each of [...plan.decode, ...plan.prefill.map((chunk) => chunk.sequence)]) {
      for (const [at, key] of each.pageKeys.entries()) {
        const page = each.pages[at];
        if (page !== undefined && at < each.nodes.length) world.pages[page] = key;
      }
    }
    s.commit(plan, { rows: results(plan), promptLogprobs: [] }, nowNs);
    return plan;
  };
  const serve = (one: Sequence) => {
    s.add(one);
    for (let steps = 0; one.phase !== 'finished'; steps++) {
      expect(steps).toBeLessThan(50);
      step();
    }
  };
  return { s, pool, world, step, serve };
}

const prompt = (length: number, from = 0) => sequence(range(length, from), { maxTokens: 1 });

/** What was computed for 13 tokens is in host memory alone. */
function spilled(options: World = {}) {
  const all = stored(options);
  all.serve(prompt(13));
  const rest = all.pool.pages * 4;
  all.serve(prompt(rest, 100));
  expect(all.pool.accounts.total.spilled).toBeGreaterThanOrEqual(3);
  return all;
}

const chunks = (plan: ReturnType<Scheduler['plan']>) =>
  plan.prefill.map(({ start, length }) => [start, length]);

describe('a prompt whose pages are in a store', () => {
  it('waits for them without a launch, and goes on behind them', () => {
    const { s, world, step } = spilled();
    const one = prompt(13);
    s.add(one);
    expect([s.hasPrompts, s.isRestoring]).toEqual([true, false]);
    const waiting = s.plan(0);
    expect(waiting).toMatchObject({ prefill: [], decode: [], pageWrites: [], grammarWrites: [] });
    expect([s.hasPrompts, s.isRestoring, s.running]).toEqual([false, true, 1]);
    expect(s.plan(0)).toMatchObject({ prefill: [], pageWrites: [] });
    world.endRestores();
    const plan = s.plan(0);
    expect(chunks(plan)).toEqual([[12, 1]]);
    // Its pages are told to the device with the first launch that reads them.
    expect(plan.pageWrites).toEqual([
      { sequence: one, first: 0, count: 3 },
      { sequence: one, first: 3, count: 1 },
    ]);
    expect([one.cachedTokens, s.counters.prefixHitTokens, s.isRestoring]).toEqual([12, 12, false]);
    s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0);
    expect(step().pageWrites).toEqual([]);
    expect(s.busy).toBe(false);
  });

  it('starts over and takes none from stores, when they do not come', () => {
    let fails = true;
    const faults = { refuses: () => false, losesSpill: () => false, failsRestore: () => fails };
    const { s, world, step } = spilled({ faults });
    const one = prompt(13);
    const others = [300, 400].map((from) => sequence(range(3, from), { maxTokens: 9 }));
    const [earlier, later] = others as [Sequence, Sequence];
    for (const each of [earlier, one, later]) s.add(each);
    expect(chunks(step())).toEqual([
      [0, 3],
      [0, 3],
    ]);
    expect(s.isRestoring).toBe(true);
    world.endRestore();
    fails = false;
    const plan = step();
    expect(chunks(plan)).toEqual([[0, 13]]);
    expect([earlier, one, later].map((each) => each.preemptions)).toEqual([0, 1, 0]);
    expect(one.isDistrustful).toBe(true);
    expect([one.cachedTokens, s.counters.prefixHitTokens]).toEqual([0, 0]);
    expect(plan.decode).toEqual(others);
  });

  it('waits for the last of them', () => {
    const { s, world } = spilled();
    s.add(prompt(5));
    for (let plans = 0; plans < 3; plans++) expect(s.plan(0).prefill).toEqual([]);
    expect(world.restores.size).toBe(1);
    world.endRestores();
    expect(chunks(s.plan(0))).toEqual([[4, 1]]);
  });

  it('is computed after all where the lane became slow, unless others want the device', () => {
    const { s, world, step } = spilled({ pages: 32, maxBatchTokens: 16 });
    const one = prompt(13);
    s.add(one);
    expect(chunks(step())).toEqual([]);
    s.add(prompt(30, 300));
    expect(chunks(step())).toEqual([[0, 16]]);
    world.dueNs = () => 60;
    expect(chunks(step())).toEqual([[16, 14]]);
    expect(one.awaited).toMatchObject({ first: 0 });
    expect(chunks(step())).toEqual([[0, 13]]);
    expect([one.cachedTokens, world.restores.size]).toEqual([0, 0]);
  });

  it('has the first ones computed meanwhile, and counts those that came', () => {
    // Two are computed in 20 while the third comes in 15.
    const prices = { ...PRICES, readNs: () => 15 };
    const { s, world, step } = spilled({ prices, maxBatchTokens: 6 });
    const one = prompt(13);
    s.add(one);
    expect(chunks(step())).toEqual([[0, 6]]);
    // It is there before those that come before it.
    world.endRestore();
    expect(chunks(step())).toEqual([[6, 2]]);
    expect(one.cachedTokens).toBe(0);
    expect(chunks(step())).toEqual([[12, 1]]);
    expect([one.cachedTokens, s.counters.prefixHitTokens]).toEqual([4, 4]);
  });

  it('has fewer computed the more prompts wait for the device', () => {
    const prices = { ...PRICES, readNs: () => 15 };
    const computed = (others: (s: Scheduler, step: () => void) => void) => {
      const { s, step } = spilled({ prices, pages: 32, maxBatchTokens: 16 });
      others(s, step);
      const one = prompt(13);
      s.add(one);
      s.plan(0);
      return one.awaited?.first;
    };
    expect(computed(() => {})).toBe(2);
    const decoding = (s: Scheduler, step: () => void) => {
      s.add(sequence(range(3, 300), { maxTokens: 9 }));
      step();
    };
    expect(computed(decoding)).toBe(2);
    const isComputed = (s: Scheduler, step: () => void) => {
      s.add(prompt(60, 300));
      step();
    };
    expect(computed(isComputed)).toBe(1);
    const waits = (s: Scheduler) => s.add(prompt(60, 300));
    expect(computed(waits)).toBe(1);
    const both = (s: Scheduler, step: () => void) => {
      isComputed(s, step);
      s.add(prompt(90, 400));
    };
    expect(computed(both)).toBe(0);
  });

  it.each(['embed', 'score'] as const)('leaves room for others to %s while it waits', (task) => {
    const prices = { ...PRICES, readNs: () => 15 };
    const { s } = spilled({ prices, pages: 32, maxLines: 2 });
    const pooling = task === 'embed' ? { task } : { task, tokens: [1, 2] as [number, number] };
    const pooled = (length: number, from: number) => sequence(range(length, from), {}, { pooling });
    const [waits, ends] = [pooled(13, 0), pooled(20, 300)];
    for (const each of [waits, ends]) s.add(each);
    const plan = s.plan(0);
    expect(plan.prefill.map(({ length, last }) => [length, last])).toEqual([
      [4, false],
      [20, true],
    ]);
    const line = (logprob: number) => ({ logprob, rank: 1, top: [] });
    const promptLogprobs = task === 'score' ? [[line(-1), line(-1)]] : [];
    const embeddings = task === 'embed' ? [Float32Array.of(0.5)] : [];
    const events = s.commit(plan, { rows: [], promptLogprobs, embeddings }, 0);
    expect(events).toMatchObject([{ id: ends.request.id, pooled: Float32Array.of(0.5) }]);
  });

  it('costs its owner nothing for what comes', () => {
    const { s, world } = spilled({ pages: 32, maxBatchTokens: 5 });
    const owned = (owner: string, length: number, from: number) =>
      sequence(range(length, from), { maxTokens: 1 }, { share: { owner, weight: 1 } });
    const [rival, found] = [owned('b', 40, 300), owned('a', 13, 0)];
    s.add(rival);
    s.plan(0);
    s.add(found);
    expect(chunks(s.plan(0))).toEqual([[5, 5]]);
    world.endRestores();
    // One token is computed for it, and twelve came.
    expect(chunks(s.plan(0))).toEqual([
      [12, 1],
      [10, 4],
    ]);
    const again = owned('a', 13, 500);
    s.add(again);
    expect(s.plan(0).prefill[0]!.sequence).toBe(again);
  });
});

describe('pages of the device', () => {
  it('are written to the store before they are needed', () => {
    const { s, pool, serve, step } = stored({ pages: 32 });
    s.add(sequence(range(3), { maxTokens: 9 }));
    step();
    for (const from of [100, 200, 300]) serve(prompt(50, from));
    const { spilled: before } = pool.accounts.total;
    expect(step()).toMatchObject({ prefill: [], pageWrites: [] });
    expect(pool.accounts.total.spilled).toBeGreaterThan(before);
  });

  it('are used, written and given up at the time that it is', () => {
    const times: number[] = [];
    const lru = createTierPolicy('lru', PRICES);
    const policy: TierPolicy = {
      ...lru,
      writesThrough: true,
      admits(span, shelf, nowNs) {
        times.push(nowNs);
        return lru.admits(span, shelf, nowNs);
      },
    };
    const { s, world } = stored({ policy });
    const one = sequence(range(7), { maxTokens: 20 });
    s.add(one);
    const plan = s.plan(100);
    for (const [at, key] of one.pageKeys.entries()) world.pages[one.pages[at]!] = key;
    s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 200);
    const next = s.plan(300);
    expect(one.nodes.map(({ usedNs }) => usedNs)).toEqual([100]);
    s.commit(next, { rows: results(next), promptLogprobs: [] }, 400);
    expect(one.nodes.map(({ usedNs }) => usedNs)).toEqual([100, 400]);
    for (const [at, key] of one.pageKeys.entries()) world.pages[one.pages[at]!] = key;
    one.cancelled = true;
    s.retireCancelled(500);
    expect(times).toEqual([500]);
  });
});
