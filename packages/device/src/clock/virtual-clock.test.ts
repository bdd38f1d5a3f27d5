import { InvariantError } from '@bridgekeeper/bridge';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VirtualClock } from './virtual-clock.ts';

test('sleepers wake in order of time, and of going to sleep where that is the same', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(20)), async (times) => {
      const clock = new VirtualClock();
      const woken: number[] = [];
      times.forEach((atNs, index) => {
        void clock.sleepUntilNs(atNs).then(() => {
          expect(clock.nowNs()).toBe(atNs);
          woken.push(index);
        });
      });
      await clock.run();
      const expected = times
        .map((_, index) => index)
        .sort((a, b) => times[a]! - times[b]! || a - b);
      expect(woken).toEqual(expected);
    }),
  );
});

test('what an event makes runnable runs to its end before the next event', async () => {
  const clock = new VirtualClock();
  const log: string[] = [];
  const chain = async (name: string, atNs: number) => {
    await clock.sleepUntilNs(atNs);
    for (let i = 0; i < 20; i++) await Promise.resolve();
    log.push(name);
  };
  void chain('first', 5);
  void chain('second', 5);
  clock.at(6, () => log.push('third'));
  await clock.run();
  expect(log).toEqual(['first', 'second', 'third']);
});

test('run stops at its limit and goes on from there', async () => {
  const clock = new VirtualClock();
  const woken: number[] = [];
  for (const atNs of [10, 20, 30]) void clock.sleepUntilNs(atNs).then(() => woken.push(atNs));
  await clock.run(20);
  expect([clock.nowNs(), woken]).toEqual([20, [10, 20]]);
  await clock.advance(5);
  expect([clock.nowNs(), woken]).toEqual([25, [10, 20]]);
  await clock.advance(5);
  expect(woken).toEqual([10, 20, 30]);
});

test('an event in the past happens now, time never goes back', async () => {
  const clock = new VirtualClock();
  await clock.run(100);
  await clock.runUntil(clock.sleepUntilNs(40));
  expect(clock.nowNs()).toBe(100);
});

test('waiting for what will never happen is an error, and not a hang', async () => {
  const clock = new VirtualClock();
  void clock.sleepUntilNs(7);
  await expect(clock.runUntil(new Promise(() => {}))).rejects.toThrow(InvariantError);
  expect(clock.nowNs()).toBe(7);
});

test('runUntil leaves later events alone and passes failures on', async () => {
  const clock = new VirtualClock();
  void clock.sleepUntilNs(1_000);
  const work = clock.sleepUntilNs(10).then(() => {
    throw new TypeError('of the work');
  });
  await expect(clock.runUntil(work)).rejects.toThrow(TypeError);
  expect(clock.nowNs()).toBe(10);
});

test('a clock that runs freely needs nobody to run it', async () => {
  const clock = new VirtualClock();
  clock.runFreely();
  for (let i = 1; i <= 3; i++) {
    await clock.sleepUntilNs(i * 1e9);
    expect(clock.nowNs()).toBe(i * 1e9);
    await new Promise((resolve) => setImmediate(resolve));
  }
});
