import { expect, test } from 'vitest';
import { Watchdog } from './watchdog.ts';

/** Seconds until it bites, of a thousand. */
function seconds(watchdog: Watchdog): number | null {
  for (let second = 1; second <= 1000; second++) if (watchdog.tick()) return second;
  return null;
}

function quiet(watchdog: Watchdog, ticks: number): void {
  for (let tick = 0; tick < ticks; tick++) expect(watchdog.tick()).toBe(false);
}

test('an engine that has shown nothing yet has the whole timeout', () => {
  expect(seconds(new Watchdog(300))).toBe(300);
});

test('one whose steps are short is given up sooner, one whose steps are long later', () => {
  const brisk = new Watchdog(300);
  quiet(brisk, 1);
  brisk.heard();
  expect(brisk.limitSeconds).toBe(20);
  expect(seconds(brisk)).toBe(20);
  const slow = new Watchdog(300);
  quiet(slow, 8);
  slow.heard();
  expect(slow.limitSeconds).toBe(160);
  quiet(slow, 100);
  slow.heard();
  // What was set is never exceeded.
  expect(seconds(slow)).toBe(300);
});

test('where steps differ a thousandfold they show nothing', () => {
  const watchdog = new Watchdog(300, false);
  quiet(watchdog, 1);
  watchdog.heard();
  expect(watchdog.limitSeconds).toBe(300);
});

test('rest counts for nothing, and 0 turns it off', () => {
  const watchdog = new Watchdog(30);
  for (let round = 0; round < 10; round++) {
    quiet(watchdog, 25);
    watchdog.rested();
  }
  expect(watchdog.limitSeconds).toBe(30);
  expect(seconds(new Watchdog(0))).toBeNull();
});
