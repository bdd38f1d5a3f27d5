import { describe, expect, it, test } from 'vitest';
import { GREEDY } from '../request/sampling.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { PrefillRate } from './prefill-rate.ts';

const request = { id: 'r', tenant: 't', promptTokens: Uint32Array.of(1), sampling: GREEDY };
const sequence = new Sequence(request, 0n, 0, 0);

/** So many prompt tokens after so many others. */
type Chunk = readonly [tokens: number, after: number];

interface Launch {
  readonly chunks: readonly Chunk[];
  readonly ns: number;
  readonly rows?: number;
  readonly steps?: number;
}

/** What was learnt from these launches. */
function learn(...launches: readonly Launch[]): PrefillRate {
  const rate = new PrefillRate();
  for (const { chunks, ns, rows = 0, steps = 1 } of launches) {
    const prefill = chunks.map(([length, start]) => {
      return { sequence, epoch: 1, last: false, start, length };
    });
    const decode: Sequence[] = Array(rows).fill(sequence);
    const plan = { prefill, decode, steps, drafts: 0, pageWrites: [], grammarWrites: [] };
    rate.observe({ plan, deviceNs: ns });
  }
  return rate;
}

const decoded = (ns: number, steps = 1): Launch => ({ chunks: [], ns, rows: 1, steps });

const near = (ns: number) => expect.closeTo(ns, 6);

describe('what a prompt takes', () => {
  it('is nothing while nothing is known', () => {
    expect(new PrefillRate().ns(100, 50)).toBe(0);
    expect(learn(decoded(1000)).ns(100, 50)).toBe(0);
  });

  it('is so much a token where launches were all alike', () => {
    const rate = learn(...Array(3).fill({ chunks: [[64, 0]], ns: 128 }));
    expect([rate.ns(64, 0), rate.ns(1, 0), rate.ns(64, 1000)]).toEqual([128, 2, 128].map(near));
  });

  it('is so much a token, and so much for each that it attends to, of chunks put together', () => {
    const perTokenNs = 3;
    const perAttendedNs = 0.25;
    // A token attends to those before its chunk, and on average to half of that.
    const nsOf = ([tokens, after]: Chunk) =>
      tokens * perTokenNs + tokens * (after + tokens / 2) * perAttendedNs;
    const launchOf = (...chunks: Chunk[]) => ({
      chunks,
      ns: chunks.reduce((sum, each) => sum + nsOf(each), 0),
    });
    const rate = learn(launchOf([64, 0]), launchOf([100, 500], [30, 10]), launchOf([70, 200]));
    const asked: Chunk[] = [
      [10, 0],
      [128, 0],
      [1, 900],
      [512, 4096],
    ];
    expect(asked.map((chunk) => rate.ns(...chunk))).toEqual(asked.map((each) => near(nsOf(each))));
  });

  it('fits best what was seen, of which the last launch counts most', () => {
    const launches: Launch[] = [
      { chunks: [[64, 0]], ns: 70 },
      { chunks: [[80, 100]], ns: 150 },
      {
        chunks: [
          [64, 300],
          [64, 0],
        ],
        ns: 230,
      },
      { chunks: [[90, 50]], ns: 100 },
    ];
    const rate = learn(...launches);
    // What is left over, weighted, has no part along tokens, nor along what they attend to.
    let alongTokens = 0;
    let alongAttended = 0;
    for (const [i, { chunks, ns }] of launches.entries()) {
      const fitted = chunks.reduce((sum, each) => sum + rate.ns(...each), 0);
      const weight = 0.98 ** (launches.length - 1 - i) * (ns - fitted);
      expect(Math.abs(ns - fitted)).toBeGreaterThan(1);
      for (const [tokens, after] of chunks) {
        alongTokens += weight * tokens;
        alongAttended += weight * tokens * (after + tokens / 2);
      }
    }
    expect([alongTokens, alongAttended]).toEqual([near(0), near(0)]);
    expect(rate.ns(10, 0)).toBeGreaterThan(0);
    expect(rate.ns(10, 100)).toBeGreaterThan(rate.ns(10, 0));
  });

  it('is not told apart by launches that hardly differ', () => {
    const alike = learn({ chunks: [[64, 2000]], ns: 1000 }, { chunks: [[64, 2003]], ns: 1001 });
    expect(alike.ns(64, 4000)).toEqual(alike.ns(64, 0));
    const apart = learn({ chunks: [[64, 2000]], ns: 1000 }, { chunks: [[64, 2005]], ns: 1001 });
    expect([apart.ns(64, 2000), apart.ns(64, 2005)]).toEqual([near(1000), near(1001)]);
  });

  it('is never less for more tokens, nor for more that they attend to', () => {
    // Later chunks that took less time: so much for each token is all that is believed.
    const falling = learn({ chunks: [[64, 0]], ns: 128 }, { chunks: [[64, 640]], ns: 64 });
    expect(falling.ns(64, 0)).toBe(falling.ns(64, 640));
    expect(falling.ns(64, 0)).toEqual(near((0.98 * 128 + 64) / 1.98));
    // More than in proportion to what they attend to: as if tokens themselves gave time back.
    const steep = learn({ chunks: [[64, 0]], ns: 10 }, { chunks: [[64, 64]], ns: 90 });
    expect(steep.ns(64, 0)).toEqual(near((0.98 * 10 + 90) / 1.98));
  });

  it('may be all for what is attended to, or nothing for it', () => {
    const attended = learn({ chunks: [[64, 0]], ns: 64 * 32 }, { chunks: [[64, 64]], ns: 64 * 96 });
    expect([attended.ns(64, 0), attended.ns(2, 9)]).toEqual([near(64 * 32), near(20)]);
    const even = learn({ chunks: [[64, 0]], ns: 64 }, { chunks: [[128, 64]], ns: 128 });
    expect([even.ns(64, 0), even.ns(64, 4096)]).toEqual([near(64), near(64)]);
  });

  it('is not learnt from short chunks, whose time is that of reading weights', () => {
    expect(learn({ chunks: [[63, 0]], ns: 630 }).ns(64, 0)).toBe(0);
    expect(learn({ chunks: [[64, 0]], ns: 640 }).ns(64, 0)).toEqual(near(640));
    expect(
      learn({
        chunks: [
          [32, 0],
          [32, 0],
        ],
        ns: 640,
      }).ns(64, 0),
    ).toEqual(near(640));
    expect(learn({ chunks: [[1, 0]], ns: 10 }, decoded(100)).ns(64, 0)).toBe(0);
  });

  it('is told from what rows took that decoded beside it', () => {
    const beside = (ns: number, rows = 1): Launch => ({ chunks: [[64, 0]], ns, rows });
    // Nothing is known of steps yet.
    expect(learn(beside(6400)).ns(64, 0)).toEqual(near(6400));
    expect(learn(decoded(2000, 2), beside(7400)).ns(64, 0)).toEqual(near(6400));
    expect(learn(decoded(1000), beside(7400, 0)).ns(64, 0)).toEqual(near(7400));
    // A change of steps is followed by a tenth of it.
    expect(learn(decoded(1000), decoded(2000), beside(7500)).ns(64, 0)).toEqual(near(6400));
    // Half of the launch is the prompt's, whatever steps took.
    expect(learn(decoded(1000), beside(800)).ns(64, 0)).toEqual(near(400));
    // A launch with prompts is no step.
    expect(learn(decoded(1000), beside(5000), beside(5000)).ns(64, 0)).toEqual(near(4000));
  });
});

test('the least that a launch takes is the shortest step, which is slowly forgotten', () => {
  expect(new PrefillRate().launchNs).toBe(0);
  expect(learn(decoded(1000)).launchNs).toBe(1000);
  expect(learn({ chunks: [[8, 0]], ns: 700 }).launchNs).toBe(700);
  expect(learn(decoded(1000), decoded(1600, 2)).launchNs).toBe(800);
  expect(learn(decoded(1000), decoded(2000)).launchNs).toEqual(near(1001));
  expect(learn(decoded(1000), decoded(2000), decoded(3000)).launchNs).toEqual(near(1002.001));
});

test('launches that seem to have taken no time say nothing', () => {
  const none = { chunks: [[64, 0]], ns: 0 } as const;
  const rate = learn({ chunks: [[64, 0]], ns: 640 }, none, { ...none, ns: -5 });
  expect([rate.launchNs, rate.ns(64, 0)]).toEqual([640, near(640)]);
  expect(learn(decoded(1)).launchNs).toBe(1);
  expect(learn(decoded(0.5)).launchNs).toBe(0.5);
});
