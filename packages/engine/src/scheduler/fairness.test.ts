import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PrefixTree } from '../kv/prefix-tree.ts';
import type { EngineShare } from '../request/request.ts';
import { GREEDY } from '../request/sampling.ts';
import { FairWatch } from '../testing/fair-watch.ts';
import type { StepPlan } from './plan.ts';
import { Scheduler, type SchedulerLimits } from './scheduler.ts';
import { Sequence } from './sequence.ts';

const LIMITS: SchedulerLimits = {
  maxRows: 16,
  maxBatchTokens: 64,
  pageTokens: 4,
  maxLines: 4,
  maxCountTokens: 64,
  chunkedPrefill: true,
};

/** A scheduler whose device is played: each sampled row gets a token, and ends at max_tokens. */
class Played {
  readonly scheduler: Scheduler;
  /** Tokens computed so far, prompts included, by owner. */
  readonly tokens = new Map<string, number>();
  /** What was given to one owner before another's turn. */
  readonly unfair: string[] = [];
  launches = 0;
  #arrivals = 0;

  constructor(limits: Partial<SchedulerLimits> = {}, pages = 4096) {
    const all = { ...LIMITS, ...limits };
    const { pageTokens } = all;
    this.scheduler = new Scheduler(all, new PrefixTree({ pages, pageTokens, isEnabled: false }));
    new FairWatch(this.scheduler, (what) => this.unfair.push(what));
  }

  add(owner: string, prompt: number, maxTokens: number, share: Partial<EngineShare> = {}) {
    const sequence = new Sequence(
      {
        id: `r${this.#arrivals}`,
        tenant: owner,
        share: { owner, weight: 1, ...share },
        promptTokens: new Uint32Array(prompt).fill(this.#arrivals),
        sampling: { ...GREEDY, maxTokens },
      },
      0n,
      this.#arrivals++,
      0,
    );
    this.scheduler.add(sequence);
    return sequence;
  }

  launch(): StepPlan {
    const plan = this.scheduler.plan(0);
    const sampled = [
      ...plan.prefill.filter(({ last }) => last).map(({ sequence }) => sequence),
      ...plan.decode,
    ];
    const rows = sampled.map((each) => ({
      row: each.row,
      epoch: each.epoch,
      token: each.length % 97,
      finish:
        each.generated + 1 >= each.request.sampling.maxTokens ? ('length' as const) : undefined,
      logprobs: undefined,
    }));
    for (const { sequence, length } of plan.prefill) this.#count(sequence, length);
    for (const sequence of plan.decode) this.#count(sequence, 1);
    this.scheduler.commit(plan, { rows, promptLogprobs: [] }, 0);
    this.launches += 1;
    return plan;
  }

  /** Launches until these have ended. */
  finish(...sequences: readonly Sequence[]): number {
    const before = this.launches;
    while (sequences.some(({ phase }) => phase !== 'finished')) {
      this.launch();
      if (this.launches - before > 100_000) throw new Error('a request starves');
    }
    return this.launches - before;
  }

  #count({ request }: Sequence, tokens: number): void {
    const owner = request.share!.owner;
    this.tokens.set(owner, (this.tokens.get(owner) ?? 0) + tokens);
  }
}

describe('owners share the engine', () => {
  it.each([
    ['all rows are taken by long answers', {}, 200, 8, 500],
    ['one long prompt after the other is computed', {}, 200, 2000, 4],
    ['prompts are not split', { chunkedPrefill: false }, 200, 60, 500],
  ])('200 requests do not hold up one of 8 tokens while %s', (_, limits, count, prompt, answer) => {
    const played = new Played(limits, 16384);
    const flood = Array.from({ length: count }, () => played.add('flood', prompt, answer));
    for (let launch = 0; launch < 20; launch++) played.launch();
    const small = played.add('small', 8, 8);
    // Its prompt, and then a launch for each token.
    expect(played.finish(small)).toBeLessThanOrEqual(10);
    played.finish(...flood);
    expect(flood.every(({ generated }) => generated === answer)).toBe(true);
  });

  it('pages that another holds are given up for a prompt within the part of its owner', () => {
    const played = new Played({}, 80);
    const flood = Array.from({ length: 10 }, () => played.add('flood', 16, 16));
    for (let launch = 0; launch < 6; launch++) played.launch();
    const small = played.add('small', 40, 4);
    expect(played.finish(small)).toBeLessThanOrEqual(6);
    expect(small.preemptions).toBe(0);
    played.finish(...flood);
  });

  it.each([
    ['equal weights', { a: 1, b: 1 }],
    ['one to three', { a: 1, b: 3 }],
    ['three owners', { a: 1, b: 2, c: 5 }],
  ])('tokens in the long run are as the weights: %s', (_, weights) => {
    const played = new Played();
    const sizes = { a: [4, 30], b: [24, 10], c: [60, 6] } as const;
    for (const [owner, weight] of Object.entries(weights)) {
      const [prompt, answer] = sizes[owner as keyof typeof sizes];
      for (let each = 0; each < 1500; each++) played.add(owner, prompt, answer, { weight });
    }
    for (let launch = 0; launch < 600; launch++) played.launch();
    const sum = (of: Iterable<number>) => [...of].reduce((total, each) => total + each, 0);
    const all = sum(played.tokens.values());
    const allWeights = sum(Object.values(weights));
    for (const [owner, weight] of Object.entries(weights)) {
      const share = played.tokens.get(owner)! / all / (weight / allWeights);
      expect(share).toBeGreaterThan(0.95);
      expect(share).toBeLessThan(1.05);
    }
  });

  it('who was idle has no credit, and who left in debt still has it', () => {
    const played = new Played({ maxRows: 1 });
    const a = Array.from({ length: 100 }, () => played.add('a', 8, 8));
    played.finish(...a.slice(0, 50));
    // Both want all of it from now on: what `a` had before `b` came does not count.
    const b = Array.from({ length: 100 }, () => played.add('b', 8, 8));
    const before = played.tokens.get('a')!;
    played.finish(b[19]!);
    expect(played.tokens.get('a')! - before).toBeGreaterThan(18 * 16);

    const other = new Played({ maxRows: 1 });
    const c = Array.from({ length: 4 }, () => other.add('c', 8, 8));
    other.launch();
    const debtor = other.add('debtor', 400, 8);
    other.finish(debtor);
    const again = other.add('debtor', 8, 1);
    other.finish(...c);
    expect(again.phase).toBe('waiting');
    other.finish(again);
  });

  it('who used rows that no other wanted owes nothing for them', () => {
    const played = new Played({ maxRows: 2 });
    const all: Sequence[] = [];
    const launch = () => {
      while (played.scheduler.waiting < 450) all.push(played.add('batch', 30, 2));
      played.launch();
    };
    // A token a launch of a long answer, and beside it sixteen of short ones.
    const long = played.add('agent', 1, 600);
    while (long.generated < 500) launch();
    // From now on both want all there is.
    for (let each = 0; each < 400; each++) all.push(played.add('agent', 8, 8));
    const open = all.filter(({ phase }) => phase !== 'finished');
    for (let each = 0; each < 600; each++) launch();
    const had = (owner: string) =>
      open
        .filter(({ request, phase }) => request.tenant === owner && phase === 'finished')
        .reduce((sum, { length }) => sum + length, 0);
    expect(had('batch') / had('agent')).toBeGreaterThan(0.8);
    expect(had('batch') / had('agent')).toBeLessThan(1.25);
  });

  it('holds no more rows than its limit, and wastes none of the others', () => {
    const played = new Played();
    const limited = Array.from({ length: 20 }, () => played.add('a', 8, 20, { maxRows: 3 }));
    const free = Array.from({ length: 40 }, () => played.add('b', 8, 20));
    for (let launch = 0; launch < 40; launch++) {
      const { decode } = played.launch();
      expect(decode.filter((each) => limited.includes(each)).length).toBeLessThanOrEqual(3);
      if (launch === 10) expect(played.scheduler.running).toBe(16);
    }
    played.finish(...limited, ...free);
    expect(played.scheduler.busy).toBe(false);
  });

  const traffic = (owners: readonly string[]) =>
    fc.array(
      fc.record({
        owner: fc.constantFrom(...owners),
        prompt: fc.integer({ min: 1, max: 30 }),
        answer: fc.integer({ min: 1, max: 20 }),
        weight: fc.constantFrom(0.25, 1, 4),
        at: fc.nat(40),
      }),
      { minLength: 1, maxLength: 30 },
    );

  it.each([
    ['pages for all', 4096],
    ['few pages', 20],
  ])('no owner is given rows before one that waits without any had as much: %s', (_, pages) => {
    const requests = fc.array(
      fc.record({
        owner: fc.constantFrom('a', 'b', 'c', 'd'),
        prompt: fc.integer({ min: 1, max: 30 }),
        answer: fc.constantFrom(1, 2, 5, 40),
        at: fc.nat(120),
        cancelled: fc.option(fc.nat(200)),
      }),
      { minLength: 20, maxLength: 120 },
    );
    const shares = fc.array(
      fc.record({
        weight: fc.constantFrom(0.5, 1, 4),
        maxRows: fc.constantFrom(1, 2, Number.POSITIVE_INFINITY),
      }),
      { minLength: 4, maxLength: 4 },
    );
    const rows = fc.integer({ min: 1, max: 4 });
    fc.assert(
      fc.property(requests, shares, rows, (all, limits, maxRows) => {
        const played = new Played({ maxRows, maxBatchTokens: 16 }, pages);
        const leaving: (readonly [number, Sequence])[] = [];
        for (let launch = 0; launch <= 120 || played.scheduler.busy; launch++) {
          for (const { owner, prompt, answer, at, cancelled } of all) {
            if (at !== launch) continue;
            const sequence = played.add(owner, prompt, answer, limits[owner.charCodeAt(0) - 97]!);
            if (cancelled !== null) leaving.push([cancelled, sequence]);
          }
          for (const [at, sequence] of leaving) if (at === launch) sequence.cancelled = true;
          played.scheduler.retireCancelled(0);
          if (played.scheduler.busy) played.launch();
          expect(played.unfair).toEqual([]);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('everything ends, and the same traffic makes the same history', () => {
    fc.assert(
      fc.property(traffic(['a', 'b', 'c', 'd', 'e', 'f']), (requests) => {
        const history = () => {
          const played = new Played({ maxRows: 4, maxBatchTokens: 16 }, 16);
          const added: Sequence[] = [];
          const plans: string[] = [];
          for (let launch = 0; launch <= 40 || played.scheduler.busy; launch++) {
            expect(launch).toBeLessThan(5000);
            for (const { owner, prompt, answer, weight, at } of requests) {
              if (at === launch) added.push(played.add(owner, prompt, answer, { weight }));
            }
            if (!played.scheduler.busy) continue;
            const { prefill, decode } = played.launch();
            const ids = [...prefill.map(({ sequence }) => sequence), ...decode];
            plans.push(ids.map(({ request }) => request.id).join());
          }
          for (const each of added) {
            expect([each.phase, each.generated]).toEqual([
              'finished',
              each.request.sampling.maxTokens,
            ]);
          }
          return plans;
        };
        expect(history()).toEqual(history());
      }),
      { numRuns: 100 },
    );
  });

  it.each([
    ['while it waits for a row', 1],
    ['while it is computed', 4],
  ])('short prompts pass a long one %s, but not forever', (_, maxRows) => {
    const played = new Played({ maxRows, maxBatchTokens: 16 }, 64);
    const long = played.add('a', 200, 2);
    const early = played.add('a', 8, 2);
    if (maxRows > 1) played.launch();
    // Others come as fast as they are computed.
    const next = () => played.add('a', 8, 2);
    const short = next();
    expect(played.finish(early, short)).toBeLessThanOrEqual(8);
    const computed = () => played.tokens.get('a')!;
    while (long.phase !== 'finished' && computed() < 4000) {
      while (played.scheduler.waiting < 4) next();
      played.launch();
    }
    // As many tokens of others as it has itself, then its own, and what shared its last steps.
    expect(computed()).toBeLessThan(2 * 200 + 100);
    expect(computed()).toBeGreaterThan(1.5 * 200);
  });

  it('one owner’s prompts get rows shortest first, and lose them in the reverse of that', () => {
    fc.assert(
      fc.property(traffic(['a']), (requests) => {
        const played = new Played({ maxRows: 4, maxBatchTokens: 16 }, 16);
        const added = requests.map(({ prompt, answer }) => played.add('a', prompt, answer));
        const inOrder = added.toSorted((a, b) => a.promptLength - b.promptLength);
        while (played.scheduler.busy) {
          played.launch();
          const open = inOrder.filter(({ phase }) => phase !== 'finished');
          const rows = open.map(({ row }) => row >= 0);
          expect(rows.lastIndexOf(true)).toBeLessThan(
            rows.includes(false) ? rows.indexOf(false) : rows.length,
          );
        }
      }),
      { numRuns: 100 },
    );
  });
});
