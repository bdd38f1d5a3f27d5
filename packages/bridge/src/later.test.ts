import { expect, test } from 'vitest';
import { all, drainAfter, first, Later, othersMayRun, type Routine, run, until } from './later.ts';

const failure = new Error('of the work');

test('a routine runs at once up to its first wait, and on when that is there', async () => {
  const log: string[] = [];
  const came = new Later<number>();
  function* routine(): Routine<number> {
    log.push('began');
    const value = yield* until(came);
    log.push(`got ${value}`);
    return value + 1;
  }
  const running = run(routine());
  expect([log, running.isSettled]).toEqual([['began'], false]);
  drainAfter(() => came.resolve(4));
  expect([log, running.outcome]).toEqual([['began', 'got 4'], 5]);
  expect(await running).toBe(5);
});

test('what is there already is not waited for', () => {
  function* routine(): Routine<string> {
    const done = new Later<string>();
    done.resolve('there');
    return yield* until(done);
  }
  expect(run(routine()).outcome).toBe('there');
});

test.each([
  ['a later', () => Later.failed<number>(failure)],
  ['a promise', () => Promise.reject<number>(failure)],
])('the failure of %s is thrown where it is waited for', async (_, awaited) => {
  const caught: unknown[] = [];
  function* routine(): Routine<void> {
    try {
      yield* until(awaited());
    } catch (error) {
      caught.push(error);
      throw error;
    } finally {
      caught.push('finally');
    }
  }
  await expect(run(routine())).rejects.toBe(failure);
  expect(caught).toEqual([failure, 'finally']);
});

test('who waits goes on in the order of waiting, after what settled it, never within', () => {
  const log: string[] = [];
  const came = new Later<void>();
  const next = new Later<void>();
  function* waiter(name: string, awaited: Later<void>): Routine<void> {
    yield awaited;
    log.push(name);
    next.resolve();
    log.push(`${name} goes on`);
  }
  for (const name of ['a', 'b', 'c']) run(waiter(name, came));
  run(waiter('d', next));
  drainAfter(() => {
    came.resolve();
    log.push('settled');
  });
  const inTurn = ['a', 'b', 'c', 'd'].flatMap((name) => [name, `${name} goes on`]);
  expect(log).toEqual(['settled', ...inTurn]);
});

test('what a routine brings about goes on after it, also where it is a clock that does it', () => {
  const log: string[] = [];
  const [came, next] = [new Later<void>(), new Later<void>()];
  function* clock(): Routine<void> {
    yield came;
    drainAfter(next);
    log.push('the clock goes on');
  }
  function* waiter(): Routine<void> {
    yield next;
    log.push('then who waited');
  }
  run(clock());
  run(waiter());
  drainAfter(came);
  expect(log).toEqual(['the clock goes on', 'then who waited']);
});

test('a promise is waited for as well, and goes on with what it comes to', async () => {
  function* routine(): Routine<number> {
    return 1 + (yield* until(Promise.resolve(4)));
  }
  expect(await run(routine())).toBe(5);
});

test('outside of a clock routines go on in a microtask', async () => {
  const came = new Later<void>();
  function* routine(): Routine<string> {
    yield came;
    return 'done';
  }
  const running = run(routine());
  came.resolve();
  expect(running.isSettled).toBe(false);
  await Promise.resolve();
  expect(running.outcome).toBe('done');
});

test('it is settled once', async () => {
  const later = new Later<number>();
  later.resolve(1);
  later.resolve(2);
  later.reject(failure);
  expect(await later).toBe(1);
  const failed = Later.failed<number>(failure);
  failed.resolve(1);
  await expect(failed).rejects.toBe(failure);
});

test('all come in their order; the first failure is theirs', async () => {
  const [one, two] = [new Later<number>(), new Later<number>()];
  const together = all<number>([one, Promise.resolve(7), two]);
  two.resolve(2);
  one.resolve(1);
  expect(await together).toEqual([1, 7, 2]);
  expect(await all([])).toEqual([]);
  await expect(all([Promise.reject(failure), one])).rejects.toBe(failure);
  await expect(all([new Later<number>(), Later.failed<number>(failure)])).rejects.toBe(failure);
});

test('what routines alone wait for is there as soon as it is settled', () => {
  const [one, two] = [new Later<number>(), new Later<number>()];
  const [together, soonest] = [all([one, two]), first([two, one])];
  one.resolve(1);
  expect([together.isSettled, soonest.outcome]).toEqual([false, 1]);
  two.resolve(2);
  expect(together.outcome).toEqual([1, 2]);
});

test('the first that comes is taken, whatever the others do', async () => {
  const slow = new Later<string>();
  expect(await first([slow, Promise.resolve('soon')])).toBe('soon');
  slow.reject(failure);
  await expect(first([new Later<string>(), Later.failed<string>(failure)])).rejects.toBe(failure);
});

test('a clock is told when code that is no routine may have something to do', async () => {
  othersMayRun();
  const came = new Later<void>();
  const promised = came.then(() => 'heard');
  expect(othersMayRun()).toBe(false);
  drainAfter(came);
  expect([othersMayRun(), othersMayRun()]).toEqual([true, false]);
  expect(await promised).toBe('heard');
});

test('a clock is not told where routines alone go on', () => {
  const came = new Later<void>();
  function* routine(): Routine<void> {
    yield came;
  }
  const running = run(routine());
  othersMayRun();
  drainAfter(came);
  expect([running.isSettled, othersMayRun()]).toEqual([true, false]);
});

test.each<[string, () => void]>([
  ['a routine', () => run(waitFor(Promise.resolve()))],
  ['several waits at once', () => all([Promise.resolve(), new Later()])],
  ['the first of them', () => first([Promise.resolve(), new Later()])],
])('a clock is told where %s waits for a promise', (_, wait) => {
  othersMayRun();
  wait();
  expect(othersMayRun()).toBe(true);
});

test('a clock is told where routines go on in a microtask', () => {
  const came = new Later<void>();
  run(waitFor(came));
  othersMayRun();
  came.resolve();
  expect(othersMayRun()).toBe(true);
});

function* waitFor(awaited: PromiseLike<unknown>): Routine<void> {
  yield awaited;
}
