import { describe, expect, test } from 'vitest';
import { ReuseTable, usesPerSecond } from './reuse.ts';
import { givenUpOf, splitOf } from './split.ts';

const S = 1e9;

describe('what was learnt of reuse', () => {
  test('says how likely a page returns, and for how long it must be kept', () => {
    const table = new ReuseTable(1);
    // Of 1000 pages 300 return after 50 s; the others never do.
    for (let page = 0; page < 1000; page++) table.used(0, 0);
    for (let page = 0; page < 300; page++) table.returned(0, 50 * S, 50 * S);
    table.used(0, 1e5 * S);
    const { best, horizons } = table.outlook(0, 0);
    expect(best.probability).toBeCloseTo(0.3, 2);
    expect(best.holdSeconds).toBeGreaterThan(45);
    expect(best.holdSeconds).toBeLessThan(64);
    expect(horizons.at(-1)!.probability).toBeCloseTo(0.3, 2);
    // One that has waited for 40 s is worth more, one that has waited for 100 s nothing.
    expect(usesPerSecond(table.outlook(0, 40 * S).best)).toBeGreaterThan(usesPerSecond(best));
    expect(table.outlook(0, 100 * S).best.probability).toBe(0);
  });

  test('believes of pages that were used more often what is known of others, until more is', () => {
    const table = new ReuseTable(3);
    const probabilities = () => [0, 1, 2].map((of) => table.outlook(of, 0).best.probability);
    for (let page = 0; page < 5000; page++) table.used(1, 0);
    for (let page = 0; page < 2500; page++) table.returned(1, 50 * S, 50 * S);
    table.used(0, 1e5 * S);
    const [once, twice, often] = probabilities();
    expect(once).toBe(0);
    expect(twice).toBeCloseTo(0.5, 2);
    expect(often).toBeCloseTo(0.5, 2);
    for (let page = 0; page < 5000; page++) table.used(2, 1e5 * S);
    for (let page = 0; page < 1000; page++) table.returned(2, 50 * S, 2e5 * S);
    table.used(0, 3e5 * S);
    expect(probabilities()[2]).toBeCloseTo(0.2, 1);
  });

  test('counts what was used lately against no age that it has not reached', () => {
    const table = new ReuseTable(1);
    // Every second 10 pages are used that return after 100 s: at the end a third is too young.
    for (let second = 0; second < 300; second++) {
      for (let page = 0; page < 10; page++) {
        table.used(0, second * S);
        if (second >= 100) table.returned(0, 100 * S, second * S);
      }
    }
    const { horizons } = table.outlook(0, 0);
    expect(horizons.at(-1)!.probability).toBeGreaterThan(0.97);
  });

  test('tells hours from days', () => {
    const table = new ReuseTable(1);
    // Half return after three hours and half never do; two days later none of those is expected.
    const [hours, days] = [3 * 3600 * S, 48 * 3600 * S];
    for (let page = 0; page < 2000; page++) table.used(0, 0);
    for (let page = 0; page < 1000; page++) table.returned(0, hours, hours);
    table.used(0, days);
    expect(table.outlook(0, hours).best.probability).toBeCloseTo(0.5, 2);
    expect(table.outlook(0, days).best.probability).toBe(0);
  });

  test('does not take the return of one prefix for that of all', () => {
    const table = new ReuseTable(1);
    // Twenty pages are an hour old, half of which return; 5000 are younger and none has returned.
    for (let page = 0; page < 20; page++) table.used(0, 0);
    for (let page = 0; page < 5000; page++) table.used(0, 3400 * S);
    for (let page = 0; page < 10; page++) table.returned(0, 3600 * S, 3600 * S);
    const { horizons } = table.outlook(0, 3500 * S);
    expect(horizons[0]!.probability).toBeLessThan(0.05);
  });
});

describe('the front is computed and the back is brought', () => {
  const run = {
    first: 0,
    end: 10,
    recomputeNs: () => 3,
    readNs: () => 1,
    launchNs: 0,
    queueNs: 0,
    others: 0,
  };

  test('so that both are done together', () => {
    // 2 pages computed in 6, 8 brought in 8; 3 would take 9.
    expect(splitOf(run)).toBe(2);
    expect(splitOf({ ...run, readNs: () => 30 })).toBe(9);
  });

  test('more of it the longer the lane’s queue is, and all where that is sooner', () => {
    expect(splitOf({ ...run, queueNs: 10 })).toBe(5);
    expect(splitOf({ ...run, queueNs: 40 })).toBe(10);
  });

  test('nothing of it where others wait for the device, unless the lane is longer still', () => {
    expect(splitOf({ ...run, others: 3 })).toBe(0);
    expect(splitOf({ ...run, queueNs: 200, others: 3 })).toBe(10);
  });
});

describe('what is on its way is given up', () => {
  const part = (first: number, dueNs: number) => ({ first, end: first + 2, dueNs });
  const run = { recomputeNs: () => 3, launchNs: 1, others: 0 };

  test('as far as computing it is sooner, and not for a little', () => {
    expect(givenUpOf({ ...run, parts: [part(0, 7), part(2, 6.5)] })).toBe(0);
    expect(givenUpOf({ ...run, parts: [part(0, 9), part(2, 6)] })).toBe(1);
    expect(givenUpOf({ ...run, parts: [part(0, 50), part(2, 40)] })).toBe(2);
    // What comes last decides, wherever it belongs.
    expect(givenUpOf({ ...run, parts: [part(0, 9), part(2, 20)] })).toBe(2);
    expect(givenUpOf({ ...run, parts: [] })).toBe(0);
  });

  test('only for a greater gain where others wait for the device', () => {
    const parts = [part(0, 30)];
    expect(givenUpOf({ ...run, parts, others: 2 })).toBe(1);
    expect(givenUpOf({ ...run, parts, others: 4 })).toBe(0);
  });
});
