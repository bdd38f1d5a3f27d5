import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GREEDY } from '../request/sampling.ts';
import type { LaunchTimes } from '../runner/runner.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { BurstControl, type BurstLimits, burstOf, burstSteps, type LaunchCosts } from './burst.ts';

const LIMITS: BurstLimits = { tollNs: 70, interTokenLimitNs: 1e9 };
const FREE: LaunchCosts = { drainNs: 0, commandNs: 0, hostNs: 0, latencyNs: 0 };

const request = { id: 'r', tenant: 't', promptTokens: Uint32Array.of(1), sampling: GREEDY };
const sequence = new Sequence(request, 0n, 0, 0);
const chunk = { sequence, epoch: 1, start: 0, length: 1, last: true };

interface Launch {
  readonly steps?: number;
  readonly drafts?: number;
  readonly prompts?: number;
  readonly drainNs?: number;
  readonly commandNs?: number;
  /** From its end until its results were there; its drain, unless told. */
  readonly latencyNs?: number;
  readonly hostNs?: number | null;
  /** For which the device had nothing to do before it. */
  readonly idleNs?: number;
}

/** Shows a burst control one launch after the other, each of which keeps the device for `ns`. */
class Launches {
  readonly control: BurstControl;
  #doneNs = 0;

  constructor(limits = LIMITS) {
    this.control = new BurstControl(limits);
  }

  take(ns: number, launch: Launch = {}): number {
    const { steps = 1, prompts = 0, drainNs = 70, commandNs = 0, hostNs = 0, idleNs = 0 } = launch;
    const startedNs = this.#doneNs + idleNs;
    this.#doneNs = startedNs + ns;
    const times: LaunchTimes = {
      queuedNs: idleNs > 0 ? startedNs : 0,
      doneNs: this.#doneNs,
      drainedNs: this.#doneNs + (launch.latencyNs ?? drainNs),
      drainNs,
      commandNs,
    };
    const plan = { ...planOf(steps, prompts), drafts: launch.drafts ?? 0 };
    this.control.observe({ plan, times, deviceNs: ns, hostNs });
    return this.control.steps;
  }

  /** On their way since the last one was done. */
  dueNs(...launches: readonly { steps: number; prompts?: number; laterNs?: number }[]): number {
    return (
      this.control.dueNs(
        launches.map(({ steps, prompts = 0, laterNs = -1e6 }, number) => ({
          launched: { number, plan: planOf(steps, prompts), slots: [], promptLines: [] },
          queuedNs: this.#doneNs + laterNs,
          commandWaitNs: 0,
          finished: new Promise(() => undefined),
        })),
      ) - this.#doneNs
    );
  }
}

function planOf(steps: number, prompts: number) {
  return {
    prefill: new Array(prompts).fill(chunk),
    decode: [sequence],
    steps,
    pageWrites: [],
    drafts: 0,
    grammarWrites: [],
  };
}

test.each([
  ['one where the lane has time for the drain', { drainNs: 70 }, 100, 1e9, 1],
  ['two where a little is missing', { drainNs: 71 }, 100, 1e9, 2],
  ['any number', { drainNs: 1000 }, 300, 1e9, 5],
  ['as the command needs', { drainNs: 70, commandNs: 141 }, 100, 1e9, 3],
  ['as the launching thread needs', { drainNs: 70, hostNs: 141 }, 100, 1e9, 3],
  ['as many as the limit allows', { drainNs: 1000 }, 100, 499, 4],
  ['a whole burst just within the limit', { drainNs: 1000 }, 100, 500, 5],
  ['at least one', { drainNs: 1000 }, 100, 1, 1],
  ['no more than a launch holds', { drainNs: 1e6 }, 100, 1e9, 32],
  ['one where nothing costs anything', {}, 100, 1e9, 1],
])('steps in a launch: %s', (_, costs, stepNs, interTokenLimitNs, steps) => {
  const limits = { tollNs: 0, interTokenLimitNs };
  expect(burstOf(limits, stepNs, { ...FREE, ...costs }).steps).toBe(steps);
});

test.each([
  // Results back, command up and launching, in launches of one step, rounded up; and one more.
  ['two where that is a small part of a launch', { latencyNs: 10 }, 2],
  ['two where it just fits', { latencyNs: 60, commandNs: 20, hostNs: 20 }, 2],
  ['three where it does not', { latencyNs: 60, commandNs: 20, hostNs: 21 }, 3],
  ['four beyond', { latencyNs: 180, commandNs: 20, hostNs: 1 }, 4],
  ['never more than there are buffers for', { latencyNs: 1e6 }, 4],
  ['two where nothing costs anything', {}, 2],
])('launches in flight: %s', (_, costs, launches) => {
  expect(burstOf(LIMITS, 100, { ...FREE, ...costs })).toEqual({ steps: 1, launches });
});

test('the burst is the shortest that keeps up, whatever the times', () => {
  const ns = fc.integer({ min: 0, max: 2e6 });
  fc.assert(
    fc.property(
      ns,
      ns,
      ns,
      fc.integer({ min: 50_000, max: 5e6 }),
      (drainNs, commandNs, hostNs, stepNs) => {
        const costs = { drainNs, commandNs, hostNs, latencyNs: drainNs };
        const { steps, launches } = burstOf(LIMITS, stepNs, costs);
        const slowestNs = Math.max(drainNs, commandNs, hostNs);
        const isBusy = (count: number) => slowestNs > 0.7 * count * stepNs * (1 + 1e-9);
        if (steps < 32) expect(isBusy(steps)).toBe(false);
        if (steps > 1) expect(isBusy(steps - 1)).toBe(true);
        const isLate = (count: number) =>
          drainNs + commandNs + hostNs > (count - 1) * steps * stepNs * (1 + 1e-9);
        if (launches < 4) expect(isLate(launches)).toBe(false);
        if (launches > 2) expect(isLate(launches - 1)).toBe(true);
      },
    ),
  );
});

test('what a toll leads to at a step of a known length', () => {
  expect(burstSteps({ tollNs: 330e3, interTokenLimitNs: 50e6 }, 5e6)).toBe(1);
  expect(burstSteps({ tollNs: 1e6, interTokenLimitNs: 50e6 }, 0.3e6)).toBe(5);
  expect(burstSteps({ tollNs: 1e6, interTokenLimitNs: 0.9e6 }, 0.3e6)).toBe(3);
  // What costs nothing wants no more than one step, however short.
  expect(burstSteps({ tollNs: 0, interTokenLimitNs: 1e9 }, 1)).toBe(1);
});

test('the first step that is seen is believed at once, and the toll until a drain was', () => {
  const launches = new Launches();
  expect(launches.control).toMatchObject({ steps: 1, launches: 2 });
  // Prompts say what a drain takes, and not how long a step does.
  expect(launches.take(10, { prompts: 1, drainNs: 700 })).toBe(1);
  expect(launches.take(100, { drainNs: 700 })).toBe(10);
});

test('a launch of several steps says how long one of them takes', () => {
  expect(new Launches().take(8 * 50, { steps: 8 })).toBe(2);
});

test('a change is followed by a fifth of it each time', () => {
  const launches = new Launches();
  expect(launches.take(100)).toBe(1);
  // 84, 71.2, 60.96: below 100 the lane would be busier than it may be.
  expect(launches.take(20)).toBe(2);
  expect([1, 2, 3, 4].map(() => launches.take(20))).toEqual([2, 2, 2, 3]);
});

test('time in which the device had nothing to do is no part of a step', () => {
  const launches = new Launches();
  expect(launches.take(100)).toBe(1);
  expect(launches.take(100, { idleNs: 1e9 })).toBe(1);
  expect(launches.take(50, { steps: 2, idleNs: 1e9 })).toBe(2);
});

test.each([
  // The mean follows between 57 and 63, or 27 and 33; the mean deviation is 33.
  [[30, 90], 2],
  [[0, 60], 1],
])('a drain that varies gets headroom: %j', (drains, steps) => {
  const launches = new Launches();
  for (let i = 0; i < 30; i++) for (const drainNs of drains) launches.take(100, { drainNs });
  expect(launches.control.steps).toBe(steps);
});

test('results that take long to come want more launches in flight', () => {
  const launches = new Launches();
  launches.take(100, { drainNs: 70, latencyNs: 1e6 });
  expect(launches.control).toMatchObject({ steps: 1, launches: 4 });
});

test('the launching thread counts while it has work, and a command when there is one', () => {
  const launches = new Launches({ ...LIMITS, tollNs: 0 });
  expect(launches.take(100, { drainNs: 0, hostNs: null })).toBe(1);
  expect(launches.take(100, { drainNs: 0, hostNs: 210 })).toBe(3);
  expect(launches.take(100, { drainNs: 0, hostNs: 210, commandNs: 350 })).toBe(5);
  expect(launches.take(100, { drainNs: 0, hostNs: 210 })).toBe(5);
});

test('what took no time, or next to none, is no reason for longer bursts', () => {
  const free = new Launches({ ...LIMITS, tollNs: 0 });
  expect(free.take(1, { drainNs: 0, hostNs: null })).toBe(1);
  // The shortest command is one, and replaces the toll that was believed.
  const commanded = new Launches({ ...LIMITS, tollNs: 141 });
  expect(commanded.take(100, { drainNs: 0, latencyNs: 0, commandNs: 1 })).toBe(1);
});

test('launches of no time are no reason to divide by nothing', () => {
  const launches = new Launches({ ...LIMITS, interTokenLimitNs: 16 });
  expect(launches.take(0)).toBe(16);
});

test('the next launch is due before the queued work ends, and at once beside prompts', () => {
  const launches = new Launches({ ...LIMITS, tollNs: 0 });
  expect(launches.control.dueNs([])).toBe(0);
  launches.take(10e6, { drainNs: 0, hostNs: 100e3, commandNs: 400e3 });
  // With nothing queued it is due already, to the last part of a nanosecond.
  expect(launches.dueNs()).toBe(-(0.4e6 + 0.1e6 + 0.5e6));
  // A fifth of 10 ms, the command, launching, and half a millisecond for a late timer.
  expect(launches.dueNs({ steps: 1 })).toBe(10e6 - 2e6 - 0.4e6 - 0.1e6 - 0.5e6);
  expect(launches.dueNs({ steps: 1 }, { steps: 2 })).toBe(30e6 - 6e6 - 1e6);
  // At once is at 0, and the last launch was done at 10 ms.
  expect(launches.dueNs({ steps: 1, prompts: 1 })).toBe(-10e6);
  // One that was queued when the device had been idle for 3 ms ends so much later.
  expect(launches.dueNs({ steps: 1, laterNs: 3e6 })).toBe(13e6 - 3e6);
  // A step that is shorter is believed at once, since a late launch leaves the device idle.
  launches.take(5e6, { drainNs: 0, hostNs: 100e3, commandNs: 400e3 });
  expect(launches.dueNs({ steps: 1 })).toBe(5e6 - 1e6 - 1e6);
  launches.take(20e6, { drainNs: 0, hostNs: 100e3, commandNs: 400e3 });
  expect(launches.dueNs({ steps: 1 })).toBeLessThan(12e6);
});

test.each([
  [
    [5e6, { drainNs: 334e3 }],
    1e9,
    '5 ms and a drain 0.33 ms: its lane is busy for 7 % of a launch of 1, of 70 % at most; 2',
  ],
  [
    [1e6, { commandNs: 1.2e6 }],
    1e9,
    'a command 1.2 ms: its lane is busy for 60 % of a launch of 2',
  ],
  [[1e6, { drainNs: 1.2e6, commandNs: 1.2e6 }], 1e9, 'a drain 1.2 ms: its lane'],
  [[100, { drainNs: 70 }], 1e9, 'for 70 % of a launch of 1, of 70 % at most'],
  [[1e6, { hostNs: 1e6 }], 1e9, 'launching 1 ms: its thread is busy for 50 % of a launch of 2'],
  [[1e6, { drainNs: 5e6 }], 2e6, 'for 250 % of a launch of 2, but tokens may take 2 ms to come'],
  [[1e6, { drainNs: 50e6 }], 1e9, 'of a launch of 32, but no launch holds more'],
] as const)('says why: %j', ([ns, launch], interTokenLimitNs, text) => {
  const launches = new Launches({ tollNs: 0, interTokenLimitNs });
  expect(launches.control.reason).toContain('no decode step was measured yet');
  launches.take(ns, { drainNs: 0, ...launch });
  expect(launches.control.reason).toContain(text);
});

test('steps with drafts have a length of their own, and others the one that they had', () => {
  const launches = new Launches();
  expect(launches.take(40)).toBe(3);
  expect(launches.take(200, { drafts: 1 })).toBe(1);
  expect(launches.take(200, { drafts: 1 })).toBe(1);
  expect(launches.take(40)).toBe(3);
});
