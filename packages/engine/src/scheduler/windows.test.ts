import { hash32 } from '@bridgekeeper/device';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  WindowPool,
  type WindowSizes,
  windowPagesOfLaunch,
  windowPagesOfRow,
} from '../kv/window-pool.ts';
import type { StepPlan } from './plan.ts';
import { LIMITS, scheduler, sequence } from './testing/play.ts';
import { WordDevice } from './testing/word-device.ts';

const { pageTokens, maxBatchTokens } = LIMITS;
const STEPS = 3;
const IN_FLIGHT = 3;

interface Situation {
  readonly requests: readonly {
    readonly shared: number;
    readonly own: readonly number[];
    readonly maxTokens: number;
    readonly tenant: string;
    readonly cancelAt: number | null;
    readonly comesAt: number;
  }[];
  readonly pages: number;
  readonly morePages: number;
  readonly windowTokens: number;
  readonly drafts: number;
  readonly caching: boolean;
  readonly inFlight: number;
}

const request = fc.record({
  /** Of the same text for all, and then its own. */
  shared: fc.nat(60),
  own: fc.array(fc.nat(3), { minLength: 1, maxLength: 40 }),
  maxTokens: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 100, max: 160 })),
  tenant: fc.constantFrom('a', 'a', 'b'),
  cancelAt: fc.option(fc.nat(40), { freq: 4 }),
  comesAt: fc.nat(60),
});

const situation: fc.Arbitrary<Situation> = fc.record({
  requests: fc.array(request, { minLength: 1, maxLength: 16 }),
  pages: fc.oneof(fc.integer({ min: 66, max: 100 }), fc.integer({ min: 200, max: 400 })),
  /** Beyond what one sequence needs. */
  morePages: fc.integer({ min: 0, max: 60 }),
  windowTokens: fc.integer({ min: 1, max: 30 }),
  drafts: fc.constantFrom(0, 0, 2),
  caching: fc.boolean(),
  inFlight: fc.integer({ min: 1, max: IN_FLIGHT }),
});

describe('windows with pages of their own', () => {
  it('keep what is looked back at, and no more than was reserved, over random traffic', () => {
    const seen = { hits: 0, preemptions: 0, plans: 0, slid: 0 };
    const check = ({ requests, pages, windowTokens, drafts, ...rest }: Situation) => {
      const aheadTokens = STEPS * (1 + drafts) + 64;
      const launchTokens = maxBatchTokens;
      const sizes: WindowSizes = { pageTokens, windowTokens, aheadTokens, launchTokens };
      const perLaunch = windowPagesOfLaunch(sizes);
      const least = windowPagesOfRow(sizes) + perLaunch;
      const window = new WindowPool(least + rest.morePages, sizes);
      const { scheduler: s, pool } = scheduler(pages, { prefixCaching: rest.caching, window });
      const device = new WordDevice(windowTokens);
      const sequences = requests.map(({ shared, own, maxTokens, tenant }) => {
        const text = Array.from({ length: shared }, (_, i) => hash32(2, i, 0) & 3);
        return sequence([...text, ...own], { maxTokens }, { tenant });
      });
      const finished = new Set<string>();
      const flights: { plan: StepPlan; results: ReturnType<WordDevice['run']> }[] = [];
      const land = () => {
        const { plan, results } = flights.shift()!;
        const drafted = plan.drafts > 0 ? { drafted: results.drafted } : {};
        const events = s.commit(plan, { rows: results.rows, promptLogprobs: [], ...drafted }, 0);
        for (const event of events) if (event.finish) finished.add(event.id);
      };
      // Thousands of plans: one comparison for each, of what is wrong with it.
      const faults: string[] = [];
      const hold = (is: boolean, promise: string) => {
        if (!is) faults.push(promise);
      };
      for (let turn = 0; finished.size < requests.length; turn++) {
        hold(turn < 3000, 'all requests end');
        sequences.forEach((each, i) => {
          if (requests[i]!.comesAt === turn) s.add(each);
          if (requests[i]!.cancelAt === turn - requests[i]!.comesAt) each.cancelled = true;
        });
        for (const event of s.retireCancelled(0)) finished.add(event.id);
        const plan = s.plan(0, STEPS, undefined, () => drafts);
        seen.plans += 1;
        const isEmpty = plan.prefill.length + plan.decode.length === 0;
        if (!isEmpty) flights.push({ plan, results: device.run(plan) });
        const running = sequences.filter(({ row }) => row >= 0);
        const reserved = running.reduce((sum, each) => sum + each.window.reserved, 0);
        hold(window.held <= reserved + perLaunch, 'no more is held than was reserved');
        hold(reserved + perLaunch <= window.pages, 'what is reserved is there');
        const written = plan.pageWrites.reduce(
          (sum, each) => sum + (each.isWindow ? each.count : 0),
          0,
        );
        const room = LIMITS.maxRows * windowPagesOfRow(sizes) + perLaunch;
        hold(written <= room, 'commands have room for what is written');
        const prompts = new Set(plan.prefill.map((chunk) => chunk.sequence));
        for (const each of running) {
          const { pages: all, first, reserved: own } = each.window;
          hold(prompts.has(each) || all.length - first <= own, 'a row has what it reserved');
          if (first > 0) seen.slid += 1;
        }
        expect(faults, `turn ${turn}`).toEqual([]);
        if (flights.length > 0 && (isEmpty || flights.length >= rest.inFlight)) land();
      }
      while (flights.length > 0) land();
      expect([window.held, window.reservedFraction, pool.available]).toEqual([0, 0, pages]);
      for (const each of sequences) {
        expect(each.window).toEqual({ pages: [], first: 0, reserved: 0 });
        if (!each.cancelled) expect(each.generated).toBe(each.request.sampling.maxTokens);
      }
      seen.hits += s.counters.prefixHitTokens;
      seen.preemptions += s.counters.preemptions;
    };
    fc.assert(fc.property(situation, check), { numRuns: 400 });
    for (const what of ['hits', 'preemptions', 'slid'] as const) {
      expect(seen[what], what).toBeGreaterThan(0);
    }
  });
});
