import { expect, test } from 'vitest';
import { GREEDY } from '../request/sampling.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { BurstControl, type BurstLimits, burstSteps } from './burst.ts';

/** A toll of 1 us is 1 % of 100 us: one step of 100 us, two of 50 us, four of 25 us. */
const LIMITS: BurstLimits = { tollNs: 1_000, interTokenLimitNs: 1e9 };

const request = { id: 'r', tenant: 't', promptTokens: Uint32Array.of(1), sampling: GREEDY };
const sequence = new Sequence(request, 0n, 0, 0);
const chunk = { sequence, epoch: 1, start: 0, length: 1, last: true };

/** Shows a burst control one launch after the other. */
class Launches {
  readonly control: BurstControl;
  #nowNs = 5_000;

  constructor(limits = LIMITS) {
    this.control = new BurstControl(limits);
  }

  /** A launch is committed `ns` after the one before it; others are on their way unless told. */
  take(ns: number, what: { steps?: number; prompts?: number; rows?: number; last?: boolean } = {}) {
    const { steps = 1, prompts = 0, rows = 1, last = false } = what;
    this.#nowNs += ns;
    const plan = {
      prefill: new Array(prompts).fill(chunk),
      decode: new Array(rows).fill(sequence),
      steps,
      pageWrites: [],
    };
    this.control.observe({ events: [], plan, committedNs: this.#nowNs }, !last);
    return this.control.steps;
  }
}

test('a toll of exactly its share is within it', () => {
  expect(burstSteps(LIMITS, 100_000)).toBe(1);
  expect(burstSteps(LIMITS, 50_000)).toBe(2);
  expect(burstSteps(LIMITS, 49_999)).toBe(4);
  expect(burstSteps({ ...LIMITS, interTokenLimitNs: 100_000 }, 25_000)).toBe(4);
  expect(burstSteps({ ...LIMITS, interTokenLimitNs: 99_999 }, 25_000)).toBe(2);
});

test('the first time between two launches of pure decoding is believed at once', () => {
  const launches = new Launches();
  expect([launches.control.steps, launches.control.launches]).toEqual([1, 2]);
  expect(launches.take(10)).toBe(1);
  expect(launches.take(25_000)).toBe(4);
});

test('a launch of several steps says how long one of them takes', () => {
  const launches = new Launches();
  launches.take(10, { steps: 8 });
  expect(launches.take(8 * 25_000, { steps: 8 })).toBe(4);
});

test('a change is followed by a fifth of it each time', () => {
  const launches = new Launches();
  launches.take(10);
  expect(launches.take(50_000)).toBe(2);
  // 50 us, then 40, 32 and 25.6, and 20.48: below 25 us it takes eight.
  expect([1, 2, 3, 4].map(() => launches.take(0, { steps: 1 }))).toEqual([4, 4, 4, 8]);
  // And back: 20.48 us and a fifth of the way to 32, 22.784 and 24.6272, then 26.1018.
  expect([1, 2, 3].map(() => launches.take(32_000))).toEqual([8, 8, 4]);
});

test('the time since a launch after which nothing was on its way says nothing', () => {
  const launches = new Launches();
  launches.take(10);
  expect(launches.take(25_000, { last: true })).toBe(4);
  expect(launches.take(1e9)).toBe(4);
  expect(launches.take(25_000)).toBe(4);
});

test('launches with prompts say nothing, nor does the time since one', () => {
  const launches = new Launches();
  launches.take(10);
  expect(launches.take(25_000)).toBe(4);
  expect(launches.take(1e6, { prompts: 1 })).toBe(4);
  expect(launches.take(1e6)).toBe(4);
  expect(launches.take(1e6, { prompts: 1, rows: 0 })).toBe(4);
});

test('launches that are committed at one moment are no reason to divide by nothing', () => {
  const launches = new Launches();
  launches.take(10);
  expect(launches.take(0)).toBe(32);
  expect(launches.control.launches).toBe(4);
  const free = new Launches({ tollNs: 0, interTokenLimitNs: 1e9 });
  free.take(10);
  expect(free.take(0)).toBe(1);
  expect(free.control.launches).toBe(2);
});

test.each([
  // The toll twice, in launches of one step of 1 us, rounded up; and the one that is drained.
  ['two where it is a small part of a launch', 400, 2],
  ['two where it just fits', 500, 2],
  ['three where it does not', 501, 3],
  ['three at twice that', 1_000, 3],
  ['four beyond', 1_001, 4],
  ['never more than there are buffers for', 100_000, 4],
  ['two without a toll', 0, 2],
])('launches in flight: %s', (_, tollNs, expected) => {
  const launches = new Launches({ tollNs, interTokenLimitNs: 1_000 });
  launches.take(10);
  expect(launches.take(1_000)).toBe(1);
  expect(launches.control.launches).toBe(expected);
});
