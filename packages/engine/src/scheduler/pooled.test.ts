import { describe, expect, it } from 'vitest';
import type { Pooling, TokenLogprobs } from '../request/request.ts';
import type { StepPlan } from './plan.ts';
import type { Scheduler } from './scheduler.ts';
import type { Sequence } from './sequence.ts';
import { range, scheduler, sequence } from './testing/play.ts';

const EMBED: Pooling = { task: 'embed' };
const SCORE: Pooling = { task: 'score', tokens: [7, 8] };

const pooled = (prompt: readonly number[], pooling: Pooling, tenant = 't') =>
  sequence(prompt, {}, { pooling, tenant });

/** Plays the device: the state of each prompt that ends is its length, twice. */
function commit(s: Scheduler, plan: StepPlan, nowNs = 0, stateOf = state) {
  const ends = plan.prefill.filter(({ last }) => last).map(({ sequence: each }) => each);
  const embedded = ends.filter(({ request }) => request.pooling?.task === 'embed');
  const embeddings = embedded.map(stateOf);
  const lines = ends.filter(({ request }) => request.pooling?.task === 'score').map(scoreLines);
  return s.commit(plan, { rows: [], promptLogprobs: lines, embeddings }, nowNs);
}

const state = ({ length }: Sequence) => Float32Array.of(length, length);

const line = (logprob: number): TokenLogprobs => ({ logprob, rank: 1, top: [] });

/** Three times as likely to be the first as the second. */
const scoreLines = () => [line(Math.log(0.6)), line(Math.log(0.2))];

describe('a prompt to embed', () => {
  it('ends with the state of its last token, and samples nothing', () => {
    const { scheduler: s, pool } = scheduler(64, { prefixCaching: false });
    const long = pooled(range(40), EMBED);
    s.add(long);
    expect(commit(s, s.plan(100), 150)).toEqual([]);
    const last = s.plan(200);
    // Its results are on their way, and nothing is left to compute.
    expect(s.plan(210)).toMatchObject({ prefill: [], decode: [] });
    expect(commit(s, last, 250)).toEqual([
      {
        id: long.request.id,
        tokens: [],
        pooled: Float32Array.of(40, 40),
        finish: {
          reason: 'stop',
          cachedTokens: 0,
          timing: { queuedNs: 100, prefillNs: 150, decodeNs: 0, preemptions: 0 },
        },
      },
    ]);
    expect([s.busy, long.row, pool.available]).toEqual([false, -1, 64]);
  });

  it('gets its own state, in one launch with others', () => {
    const { scheduler: s } = scheduler(64);
    for (const length of [3, 5, 7]) s.add(pooled(range(length, 10 * length), EMBED));
    const events = commit(s, s.plan(0));
    expect(events.map((event) => event.pooled?.[0])).toEqual([3, 5, 7]);
  });

  it('ends with an error where a number of its state is none', () => {
    const { scheduler: s } = scheduler(64);
    s.add(pooled(range(3), EMBED));
    const [event] = commit(s, s.plan(0), 0, () => Float32Array.of(Number.NaN, 1));
    expect(event).not.toHaveProperty('pooled');
    expect(event!.finish).toMatchObject({
      reason: 'error',
      message: expect.stringContaining('its weights or its config.json are broken'),
    });
    expect(s.busy).toBe(false);
  });

  it('that was cancelled or starts over takes no state of its earlier run', () => {
    const { scheduler: s } = scheduler(64, { maxRows: 2 });
    const [first, second] = [pooled(range(5), EMBED, 'a'), pooled(range(6, 50), EMBED, 'a')];
    const other = pooled(range(7, 100), EMBED, 'b');
    for (const each of [first, second]) s.add(each);
    const early = s.plan(0);
    // An owner without a row takes the second one's, and leaves.
    s.add(other);
    const between = s.plan(0);
    expect([second.row, between.prefill[0]!.sequence]).toEqual([-1, other]);
    other.cancelled = true;
    s.retireCancelled(0);
    const again = s.plan(0);
    expect(again.prefill.map((chunk) => chunk.sequence)).toEqual([second]);
    expect(commit(s, early).map(({ id }) => id)).toEqual([first.request.id]);
    expect(commit(s, between)).toEqual([]);
    expect(commit(s, again).map(({ id }) => id)).toEqual([second.request.id]);
    // Found again, and not for the first time.
    expect([second.preemptions, second.cachedTokens, s.counters.prefixHitTokens]).toEqual([
      1, 0, 0,
    ]);
  });
});

describe('a prompt to score', () => {
  it('ends with how likely its first token is of both', () => {
    const { scheduler: s } = scheduler(64);
    s.add(pooled(range(40), SCORE));
    expect(commit(s, s.plan(0))).toEqual([]);
    const [event] = commit(s, s.plan(0));
    expect(event!.pooled![0]).toBeCloseTo(0.75);
    expect([event!.finish!.reason, s.busy]).toEqual(['stop', false]);
  });

  it('takes two lines of a launch, with its last token', () => {
    const lengths = (maxLines: number, prompts: readonly number[]) => {
      const { scheduler: s } = scheduler(64, { maxLines, prefixCaching: false });
      for (const [at, length] of prompts.entries()) s.add(pooled(range(length, 50 * at), SCORE));
      return s.plan(0).prefill.map(({ length }) => length);
    };
    expect(lengths(4, [3, 3, 3])).toEqual([3, 3]);
    expect(lengths(3, [3, 3])).toEqual([3]);
    expect(lengths(2, [3, 3])).toEqual([3]);
    expect(lengths(1, [3])).toEqual([]);
    // One that goes on in the next launch leaves its lines to others.
    const { scheduler: s } = scheduler(64, { maxLines: 2, maxBatchTokens: 8 });
    const [long, short] = [pooled(range(12), SCORE, 'a'), pooled(range(3, 50), SCORE, 'b')];
    s.add(long);
    s.plan(0);
    s.add(short);
    const both = s.plan(0).prefill.map(({ sequence: each, length }) => [each, length]);
    expect(both).toEqual([[short, 3]]);
    expect(s.plan(0).prefill.map(({ sequence: each }) => each)).toEqual([long]);
  });

  it('may share a launch with prompts that are embedded or answered', () => {
    const { scheduler: s } = scheduler(64);
    const plain = sequence(range(3));
    for (const each of [pooled(range(4, 50), SCORE), pooled(range(5, 90), EMBED), plain])
      s.add(each);
    const plan = s.plan(0);
    expect(plan.prefill).toHaveLength(3);
    const events = commit(s, plan);
    expect(events.map((event) => event.pooled?.length)).toEqual([1, 2]);
    expect(plain.promptLogprobs).toEqual([]);
  });
});
