import { expect, test } from 'vitest';
import { SystemClock } from './system-clock.ts';

test('a sleeper never wakes early, and others run meanwhile', async () => {
  const clock = new SystemClock();
  let turns = 0;
  const turn = () => {
    turns += 1;
    immediate = setImmediate(turn);
  };
  let immediate = setImmediate(turn);
  for (const sleepNs of [0, 50_000, 3_500_000]) {
    const wakeNs = clock.nowNs() + sleepNs;
    const turnsBefore = turns;
    await clock.sleepUntilNs(wakeNs);
    expect(clock.nowNs()).toBeGreaterThanOrEqual(wakeNs);
    expect(turns).toBeGreaterThan(turnsBefore);
  }
  clearImmediate(immediate);
});
