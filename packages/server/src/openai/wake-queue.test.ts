import { expect, test } from 'vitest';
import { WakeQueue } from './wake-queue.ts';

/** A clock that moves when it is told to. */
class HandClock {
  #nowNs = 0;
  #sleepers: { wakeNs: number; wake: () => void }[] = [];

  nowNs(): number {
    return this.#nowNs;
  }

  sleepUntilNs(wakeNs: number): Promise<void> {
    return new Promise((wake) => {
      this.#sleepers.push({ wakeNs, wake });
    });
  }

  get sleeping(): number {
    return this.#sleepers.length;
  }

  advance(ns: number): void {
    this.#nowNs += ns;
    const due = this.#sleepers.filter(({ wakeNs }) => wakeNs <= this.#nowNs);
    this.#sleepers = this.#sleepers.filter((sleeper) => !due.includes(sleeper));
    for (const { wake } of due) wake();
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('wakes each listener once a round, and rests as long as the round took', async () => {
  const clock = new HandClock();
  const queue = new WakeQueue(clock);
  let wakes = 0;
  const listener = {
    wake: () => {
      wakes += 1;
      clock.advance(2e6);
    },
  };
  queue.add(listener);
  queue.add(listener);
  await turn();
  expect(wakes).toBe(1);
  queue.add(listener);
  await turn();
  expect([wakes, clock.sleeping]).toEqual([1, 1]);
  clock.advance(2e6);
  await turn();
  expect(wakes).toBe(2);
  clock.advance(2e6);
  queue.add(listener);
  expect(clock.sleeping).toBe(0);
  await turn();
  expect(wakes).toBe(3);
});

test('rests no longer than 4 ms, however long the round took', async () => {
  const clock = new HandClock();
  const queue = new WakeQueue(clock);
  queue.add({ wake: () => clock.advance(50e6) });
  await turn();
  let wakes = 0;
  queue.add({ wake: () => (wakes += 1) });
  clock.advance(4e6 - 1);
  await turn();
  expect(wakes).toBe(0);
  clock.advance(1);
  await turn();
  expect(wakes).toBe(1);
});

test('wakes all in one round, and in the next what came during it', async () => {
  const clock = new HandClock();
  const queue = new WakeQueue(clock);
  const woken: string[] = [];
  const again = { wake: () => woken.push('again') };
  queue.add({
    wake: () => {
      woken.push('first');
      queue.add(again);
    },
  });
  queue.add({ wake: () => woken.push('second') });
  await turn();
  expect(woken).toEqual(['first', 'second']);
  await turn();
  expect(woken).toEqual(['first', 'second', 'again']);
  await turn();
  expect(woken).toHaveLength(3);
});
