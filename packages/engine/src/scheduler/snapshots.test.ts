import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PrefixTree } from '../kv/prefix-tree.ts';
import { SnapshotPool } from '../kv/snapshot-pool.ts';
import type { StepPlan } from './plan.ts';
import { Scheduler } from './scheduler.ts';
import type { Sequence } from './sequence.ts';
import { LIMITS, range, results, sequence } from './testing/play.ts';

const { pageTokens } = LIMITS;

interface Setting {
  readonly pages: number;
  readonly places: number;
  readonly maxBatchTokens?: number;
  readonly maxRows?: number;
  /** To compute a page, where a launch costs 1; by default a launch costs nothing. */
  readonly pagePrice?: number | undefined;
}

/** A scheduler for a model whose rows keep a state, and a device that has nothing but that. */
function opened({ pages, places, maxBatchTokens = 32, maxRows = 4, pagePrice }: Setting) {
  const prices = {
    recomputeNs: () => pagePrice ?? 1,
    launchNs: () => (pagePrice === undefined ? 0 : 1),
  };
  const pool = new SnapshotPool({ places, pageTokens, prices, costLaunches: 1 });
  const tree = new PrefixTree({ pages, pageTokens, isEnabled: true, snapshots: pool });
  const scheduler = new Scheduler({ ...LIMITS, maxBatchTokens, maxRows }, tree);
  return { pool, tree, scheduler, device: new States(maxRows, places) };
}

/** Rows' states, each as the tokens that led to it, and those that are kept. */
class States {
  readonly #rows: string[];
  readonly kept: string[];
  /** Tokens of prompts that were computed. */
  computed = 0;

  constructor(rows: number, places: number) {
    this.#rows = new Array(rows).fill('of nobody');
    this.kept = new Array(places).fill('of nobody');
  }

  /** What a launch does, in its order. What is computed goes on from what was before it. */
  launch(plan: StepPlan): void {
    for (const { row, place } of plan.restores ?? []) this.#rows[row] = this.kept[place]!;
    for (const { sequence: one, start, length } of plan.prefill) {
      if (start > 0) expect(this.#rows[one.row]).toBe(stateOf(one, start));
      this.#rows[one.row] = stateOf(one, start + length);
      this.computed += length;
    }
    for (const { row, place } of plan.snapshots ?? []) this.kept[place] = this.#rows[row]!;
    for (const { row } of plan.decode) this.#rows[row] = 'decoded';
  }
}

const stateOf = (one: Sequence, tokens: number) =>
  `${one.request.tenant}: ${one.tokens(0, tokens).join()}`;

/** Plans and computes until nothing is left; chunks by what they are of. */
function play({ scheduler, device }: ReturnType<typeof opened>): string[] {
  const chunks: string[] = [];
  while (scheduler.busy) {
    const plan = scheduler.plan(0);
    device.launch(plan);
    for (const { start, length } of plan.prefill) chunks.push(`${start}+${length}`);
    scheduler.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0);
  }
  return chunks;
}

/** Serves prompts one after the other; what of each was computed, chunk by chunk. */
function serve(world: ReturnType<typeof opened>, ...prompts: readonly (readonly number[])[]) {
  return prompts.map((prompt) => {
    world.scheduler.add(sequence(prompt, { maxTokens: 3 }));
    return play(world);
  });
}

describe('a prompt', () => {
  test('is divided at its last page, and continued from there when it comes again', () => {
    const world = opened({ pages: 64, places: 4 });
    expect(serve(world, range(14), range(14))).toEqual([['0+12', '12+2'], ['12+2']]);
    expect(world.scheduler.counters.prefixHitTokens).toBe(12);
  });

  test('that goes on where another ended is continued from its last page', () => {
    const world = opened({ pages: 64, places: 4 });
    expect(serve(world, range(14), range(23))).toEqual([
      ['0+12', '12+2'],
      ['12+8', '20+3'],
    ]);
  });

  test('shares with the third what it shares with the second, which is divided there', () => {
    const world = opened({ pages: 64, places: 8 });
    const user = (from: number) => [...range(9), ...range(10, from)];
    expect(serve(world, user(50), user(60), user(70))).toEqual([
      ['0+16', '16+3'],
      ['0+8', '8+8', '16+3'],
      ['8+8', '16+3'],
    ]);
  });

  test('is not continued where nothing was kept, however many of its pages are there', () => {
    const world = opened({ pages: 64, places: 0 });
    const [first, second] = serve(world, range(14), range(14));
    expect([first, second].map((chunks) => chunks!.length)).toEqual([2, 2]);
    expect(world.scheduler.counters.prefixHitTokens).toBe(0);
  });

  test('is divided only where what is saved is likely to be more than it costs', () => {
    // Of snapshots at ends every other one is believed to be used, and all where prompts part.
    const worth = (pagePrice: number, ...prompts: (readonly number[])[]) =>
      serve(opened({ pages: 64, places: 8, pagePrice }), ...prompts);
    expect(worth(0.5, range(18))).toEqual([['0+16', '16+2']]);
    expect(worth(0.49, range(18))).toEqual([['0+18']]);
    const user = (from: number) => [...range(9), ...range(2, from)];
    expect(worth(0.5, user(50), user(60))).toEqual([['0+11'], ['0+8', '8+3']]);
    expect(worth(0.49, user(50), user(60))).toEqual([['0+11'], ['0+11']]);
  });

  test('is divided the less often the fewer come again', () => {
    const one = (of: number) => range(18, of * 100);
    const isDivided = ([chunks]: readonly (readonly string[])[]) => chunks!.length === 2;
    const lonely = opened({ pages: 64, places: 1, pagePrice: 0.6 });
    expect(range(6).map((of) => isDivided(serve(lonely, one(of))))).toEqual([
      ...[true, true],
      ...[false, false, false, false],
    ]);
    // That they come after all is seen by their pages.
    expect(range(3).map(() => isDivided(serve(lonely, one(9))))).toEqual([false, true, false]);
    // Each comes twice, and then snapshots of less are worth it.
    const short = range(10, 5000);
    const wanted = opened({ pages: 200, places: 32, pagePrice: 0.6 });
    expect(isDivided(serve(wanted, short))).toBe(false);
    for (const of of range(8)) serve(wanted, one(of), one(of));
    expect(isDivided(serve(wanted, range(10, 6000)))).toBe(true);
  });

  test('that is longer than a launch ends each between pages', () => {
    const world = opened({ pages: 64, places: 8, maxBatchTokens: 10 });
    expect(serve(world, range(27))).toEqual([['0+8', '8+8', '16+8', '24+3']]);
    // What is kept on the way serves others that part from it later.
    expect(serve(world, [...range(18), 90, 91, 92])).toEqual([['16+4', '20+1']]);
  });

  test('of another tenant finds nothing', () => {
    const world = opened({ pages: 64, places: 4 });
    for (const tenant of ['a', 'b', 'a']) {
      world.scheduler.add(sequence(range(14), {}, { tenant }));
      play(world);
    }
    expect(world.scheduler.counters.prefixHitTokens).toBe(12);
  });

  test('of several at once is continued only from what an earlier launch kept', () => {
    const world = opened({ pages: 64, places: 4, maxBatchTokens: 28 });
    for (let i = 0; i < 3; i++) world.scheduler.add(sequence(range(14)));
    expect(play(world)).toEqual(['0+12', '0+12', '0+4', '12+2', '12+2', '4+8', '12+2']);
  });
});

describe('of snapshots that do not fit', () => {
  const prompts = (count: number) => range(count).map((of) => range(14, of * 100));

  test('the one that was passed by goes first', () => {
    const world = opened({ pages: 64, places: 3 });
    // A conversation's earlier turn is worth less than its end, and than another's end.
    serve(world, range(14), range(14, 500), range(22), range(14, 700));
    const again = serve(world, range(14, 500), range(22));
    expect(again.map(([first]) => first)).toEqual(['12+2', '20+2']);
  });

  test('what was not used goes as others come, the oldest first', () => {
    const world = opened({ pages: 64, places: 3 });
    const [a, b, c, d] = prompts(4);
    serve(world, a!, b!, c!, a!, d!);
    expect(serve(world, c!, d!, a!).map(([first]) => first)).toEqual(['12+2', '12+2', '12+2']);
    expect(serve(world, b!)).toEqual([['0+12', '12+2']]);
  });

  test('those of pages that are given up are free at once', () => {
    const world = opened({ pages: 10, places: 8 });
    serve(world, range(14), range(14, 100), range(14, 200), range(14, 300));
    expect(world.pool.held).toBeLessThanOrEqual(2);
    expect(world.pool.counters.evicted).toBe(0);
  });
});

test('what is preempted is continued where a snapshot was taken', () => {
  const world = opened({ pages: 13, places: 8, maxRows: 2 });
  for (const from of [0, 100]) world.scheduler.add(sequence(range(14, from), { maxTokens: 20 }));
  const chunks = play(world);
  expect(world.scheduler.counters.preemptions).toBeGreaterThan(0);
  expect(chunks.filter((chunk) => chunk.startsWith('12+')).length).toBeGreaterThan(2);
  // Nothing that was preempted is a hit of its request.
  expect(world.scheduler.counters.prefixHitTokens).toBe(0);
});

/** One drawn step of the random test. */
interface Happening {
  readonly kind: 'arrive' | 'cancel' | 'plan' | 'commit' | 'forget';
  readonly shared: number;
  readonly own: number;
  readonly of: number;
  readonly tenant: string;
  readonly maxTokens: number;
}

const happenings = fc.array(
  fc.record<Happening>({
    kind: fc.constantFrom('arrive', 'arrive', 'cancel', 'plan', 'plan', 'commit', 'commit'),
    shared: fc.integer({ min: 0, max: 24 }),
    own: fc.integer({ min: 1, max: 20 }),
    of: fc.integer({ min: 0, max: 4 }),
    tenant: fc.constantFrom('a', 'a', 'b'),
    maxTokens: fc.integer({ min: 1, max: 12 }),
  }),
  { minLength: 20, maxLength: 200 },
);

test('whatever comes, ends and is preempted, what is continued goes on from its own state', () => {
  let hits = 0;
  let evictions = 0;
  let preemptions = 0;
  fc.assert(
    fc.property(
      happenings,
      fc.integer({ min: 0, max: 6 }),
      fc.integer({ min: 14, max: 40 }),
      fc.constantFrom(8, 13, 32),
      fc.constantFrom(undefined, 0.4, 1),
      (all, places, pages, maxBatchTokens, pagePrice) => {
        const world = opened({ pages, places, maxBatchTokens, pagePrice });
        const { scheduler, device, pool, tree } = world;
        const open: Sequence[] = [];
        const inFlight: StepPlan[] = [];
        const launch = () => {
          const plan = scheduler.plan(0);
          if (plan.prefill.length + plan.decode.length === 0) return;
          device.launch(plan);
          inFlight.push(plan);
        };
        const commit = () => {
          const plan = inFlight.shift();
          if (plan === undefined) return;
          scheduler.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0);
        };
        for (const { kind, shared, own, of, tenant, maxTokens } of all) {
          if (kind === 'arrive') {
            const prompt = [...range(shared), ...range(own, 100 * (1 + of))];
            const one = sequence(prompt, { maxTokens }, { tenant });
            open.push(one);
            scheduler.add(one);
          } else if (kind === 'cancel' && open.length > 0) {
            open[of % open.length]!.cancelled = true;
            scheduler.retireCancelled(0);
          } else if (kind === 'plan' && inFlight.length < 3) launch();
          else if (kind === 'commit') commit();
          expect(pool.held).toBeLessThanOrEqual(places);
        }
        while (scheduler.busy || inFlight.length > 0) {
          launch();
          commit();
        }
        expect(tree.held).toBe(0);
        tree.forgetDevice();
        expect([pool.held, tree.available]).toEqual([0, pages]);
        hits += pool.counters.used;
        evictions += pool.counters.evicted;
        preemptions += scheduler.counters.preemptions;
      },
    ),
    { numRuns: 400 },
  );
  expect(Math.min(hits, evictions, preemptions)).toBeGreaterThan(50);
});
