import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WaitingPages } from './waiting.ts';

const LEVELS = 5;
/** Ages from there on may be taken for longer than all that are told apart. */
const LONGEST = 63 * 2 ** (LEVELS - 1);

const steps = fc.array(
  fc.record({
    passes: fc.oneof(fc.nat(3), fc.nat(200), fc.nat(4000)),
    used: fc.nat(3),
    returns: fc.array(fc.nat(), { maxLength: 2 }),
  }),
  { maxLength: 60 },
);

function agesOf(waiting: WaitingPages, present: number): number[] {
  const ages: number[] = [];
  waiting.byAge(present, (age, count) => {
    for (let page = 0; page < count; page++) ages.push(age);
  });
  return ages.sort((a, b) => a - b);
}

test('each page that waits is counted once, at its age to a thirty-second of it', () => {
  fc.assert(
    fc.property(steps, (all) => {
      const waiting = new WaitingPages(LEVELS);
      const usedAt: number[] = [];
      let present = 0;
      for (const { passes, used, returns } of all) {
        present += passes;
        for (let page = 0; page < used; page++) {
          waiting.add(present);
          usedAt.push(present);
        }
        for (const which of returns) {
          if (usedAt.length === 0) break;
          waiting.remove(usedAt.splice(which % usedAt.length, 1)[0]!, present);
        }
      }
      const ages = agesOf(waiting, present);
      const wanted = usedAt.map((at) => present - at).sort((a, b) => a - b);
      expect(ages.length).toBe(wanted.length);
      for (const [index, age] of ages.entries()) {
        const exact = wanted[index]!;
        if (age === Number.POSITIVE_INFINITY) expect(exact).toBeGreaterThanOrEqual(LONGEST);
        else expect(Math.abs(age - exact)).toBeLessThanOrEqual(Math.max(0.5, exact / 32));
      }
    }),
  );
});

test('half of what waits is half at every age', () => {
  const waiting = new WaitingPages(LEVELS);
  for (const at of [0, 5400, 6000, 6090]) for (let page = 0; page < 4; page++) waiting.add(at);
  waiting.halve();
  const ages = agesOf(waiting, 6100);
  expect(ages.map((age) => Math.round(age / 100))).toEqual([0, 0, 1, 1, 7, 7, Infinity, Infinity]);
});

test('what is not known of does not wait', () => {
  const waiting = new WaitingPages(LEVELS);
  waiting.remove(0, 10);
  waiting.remove(0, 1e6);
  expect(agesOf(waiting, 1e6)).toEqual([]);
});
