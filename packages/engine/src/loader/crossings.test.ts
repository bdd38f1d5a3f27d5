import type { Crossing, CrossingRecord } from '@bridgekeeper/bridge';
import type { Lane } from '@bridgekeeper/device';
import { expect, test } from 'vitest';
import { CrossingQueue } from './crossings.ts';

const lane = (id: string) => ({ id, kind: 'worker' }) as Lane;
const crossing = (bytes: number): Crossing => ({
  direction: 'h2d',
  bytes,
  purpose: 'weights',
  tenant: 'shared',
  memory: 'pinned',
});

test('a lane has so many turns, and the next crossing goes to whoever is done first', async () => {
  const queue = new CrossingQueue([lane('a'), lane('b')], 2);
  const ends: (() => void)[] = [];
  const lanes: string[] = [];
  const make = (on: Lane) => {
    lanes.push(on.id);
    return new Promise<CrossingRecord>((resolve) => {
      ends.push(() => resolve({ lane: on.id } as CrossingRecord));
    });
  };
  const made = Array.from({ length: 6 }, () => queue.submit(crossing(100), make));
  expect(lanes.toSorted()).toEqual(['a', 'a', 'b', 'b']);
  ends[3]!();
  expect(await made[3]).toEqual({ lane: lanes[3] });
  expect(lanes).toHaveLength(5);
  expect(lanes[4]).toBe(lanes[3]);
  for (let i = 0; i < 6; i++) {
    ends[i]!();
    await made[i];
  }
  expect(lanes).toHaveLength(6);
});

test('a crossing that fails fails alone', async () => {
  const queue = new CrossingQueue([lane('a')], 1);
  const broken = queue.submit(crossing(1), () => Promise.reject(new Error('the lane died')));
  const next = queue.submit(crossing(1), async () => ({ bytes: 1 }) as CrossingRecord);
  await expect(broken).rejects.toThrow('the lane died');
  expect(await next).toEqual({ bytes: 1 });
});
