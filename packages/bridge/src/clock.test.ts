import { expect, test } from 'vitest';
import { type Clock, wakeAt } from './clock.ts';
import type { Later } from './later.ts';

/** Whose time is told; what sleeps until then is noted. */
function clock(hasCheaperWay: boolean) {
  const slept: number[] = [];
  const laters: { wakeNs: number; later: Later<unknown> }[] = [];
  const sleeping: Clock = {
    nowNs: () => 0,
    sleepUntilNs: async (wakeNs) => void slept.push(wakeNs),
  };
  const resolveAt = (wakeNs: number, later: Later<unknown>) => {
    laters.push({ wakeNs, later });
  };
  return { clock: hasCheaperWay ? { ...sleeping, resolveAt } : sleeping, slept, laters };
}

test('a routine wakes by the clock’s cheaper way, where it has one', () => {
  const { clock: cheap, slept, laters } = clock(true);
  const awaited = wakeAt(cheap, 70);
  expect([slept, laters]).toEqual([[], [{ wakeNs: 70, later: awaited }]]);
  laters[0]!.later.resolve(undefined);
  expect(awaited).toMatchObject({ isSettled: true });
});

test('and sleeps where it has none', async () => {
  const { clock: plain, slept } = clock(false);
  await wakeAt(plain, 70);
  expect(slept).toEqual([70]);
});
