import { expect, test } from 'vitest';
import { DiskMeter } from './disk-meter.ts';

const MIB = 2 ** 20;

function opened() {
  const clock = { ns: 5e9 };
  const meter = new DiskMeter(() => clock.ns);
  /** The thread does so much for so long, with nothing before it. */
  const does = (work: 'read' | 'write', tookNs: number, isDone = true) => {
    const end = meter.begin(work, MIB);
    clock.ns += tookNs;
    end(isDone);
  };
  return { clock, meter, does };
}

test('reading and writing have prices of their own, which follow what they take', () => {
  const { meter, does } = opened();
  for (let i = 0; i < 40; i++) {
    does('read', 4e6);
    does('write', 9e6);
  }
  expect(meter.price('read', MIB) / 4e6).toBeCloseTo(1, 1);
  expect(meter.price('write', 2 * MIB) / 18e6).toBeCloseTo(1, 1);
  // What failed took no time that says anything.
  const before = meter.price('read', MIB);
  does('read', 1, false);
  expect(meter.price('read', MIB) / before).toBeCloseTo(1, 3);
});

test('what waited for others took no longer than it was worked on', () => {
  const { clock, meter } = opened();
  for (let round = 0; round < 40; round++) {
    const ends = Array.from({ length: 5 }, () => meter.begin('read', MIB));
    for (const end of ends) {
      clock.ns += 3e6;
      end(true);
    }
  }
  expect(meter.price('read', MIB) / 3e6).toBeCloseTo(1, 1);
});

test('the queue is all that the thread was given and has not ended', () => {
  const { meter, does } = opened();
  for (let i = 0; i < 40; i++) does('read', 4e6);
  expect(meter.queueNs).toBe(0);
  const ends = [meter.begin('read', MIB), meter.begin('read', 3 * MIB), meter.begin('write', MIB)];
  const expected = meter.price('read', 4 * MIB) + meter.price('write', MIB);
  expect(meter.queueNs).toBeCloseTo(expected, 0);
  for (const end of ends) end(false);
  expect(meter.queueNs).toBe(0);
});

test('a disk that stood still once, and is let be since, is tried again', () => {
  const { clock, meter, does } = opened();
  const unknown = meter.price('write', MIB);
  for (let i = 0; i < 20; i++) does('write', 1e9);
  expect(meter.price('write', MIB)).toBeGreaterThan(20 * unknown);
  clock.ns += 1200e9;
  expect(meter.price('write', MIB)).toBeLessThan(1.01 * unknown);
});
