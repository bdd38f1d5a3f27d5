import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { faultsOf } from './history.ts';
import { isLinearizable, type RegisterCall } from './linearizable.ts';

const call = (
  kind: 'write' | 'read',
  value: string,
  invokedMs: number,
  returnedMs: number | null,
): RegisterCall => ({ kind, value, invokedMs, returnedMs });

describe('one register', () => {
  it.each<[string, readonly RegisterCall[], boolean]>([
    ['a read of what was there', [call('read', 'a', 0, 1)], true],
    ['a read of what was never written', [call('read', 'b', 0, 1)], false],
    [
      'a read of what was written before',
      [call('write', 'b', 0, 1), call('read', 'b', 2, 3)],
      true,
    ],
    ['an old read after the write', [call('write', 'b', 0, 1), call('read', 'a', 2, 3)], false],
    ['an old read beside the write', [call('write', 'b', 0, 9), call('read', 'a', 2, 3)], true],
    [
      'old after new, beside one write',
      [call('write', 'b', 0, 9), call('read', 'b', 1, 2), call('read', 'a', 3, 4)],
      false,
    ],
    [
      'a write without an answer that came about late',
      [call('write', 'b', 0, null), call('read', 'a', 1, 2), call('read', 'b', 3, 4)],
      true,
    ],
    [
      'a write without an answer, undone',
      [call('write', 'b', 0, null), call('read', 'b', 1, 2), call('read', 'a', 3, 4)],
      false,
    ],
    [
      'two writes at once, seen in two orders',
      [
        ...[call('write', 'b', 0, 2), call('write', 'c', 0, 2)],
        ...[call('read', 'b', 3, 4), call('read', 'c', 5, 6)],
      ],
      false,
    ],
  ])('%s', (_, calls, holds) => {
    expect(isLinearizable('a', calls)).toBe(holds);
  });

  it('takes whatever one register did, called by many', () => {
    // Each call happens at a moment between its begin and its end.
    const calls = fc.array(
      fc.record({
        write: fc.boolean(),
        value: fc.constantFrom('a', 'b', 'c'),
        atMs: fc.nat(1000),
        before: fc.nat(40),
        after: fc.nat(40),
        isLost: fc.boolean(),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(calls, (drawn) => {
        let now = 'a';
        const seen = drawn
          .toSorted((one, other) => one.atMs - other.atMs)
          .map(({ write, value, atMs, before, after, isLost }, index) => {
            // No two at one moment.
            const when = atMs * 100 + index;
            if (write) now = value;
            const returnedMs = write && isLost ? null : when + after * 100;
            return call(write ? 'write' : 'read', now, when - before * 100, returnedMs);
          });
        expect(isLinearizable('a', seen)).toBe(true);
      }),
    );
  });
});

describe('a history of events', () => {
  const replica = (sequence: number, id: string, version: number, modules: number[] | null) => ({
    sequence,
    kind: 'replica',
    id,
    version,
    row: modules && { host: 'left', modules },
  });
  const good = [replica(1, 'one', 1, [1, 2]), replica(2, 'one', 2, null)];

  it('holds where GPUs go from one to the next', () => {
    expect(faultsOf([...good, replica(3, 'two', 1, [2])], [])).toEqual([]);
  });

  it.each([
    ['a GPU of two', [good[0]!, replica(2, 'two', 1, [2, 3])], 'left/2 is of one and of two'],
    ['an event twice', [good[0]!, good[0]!], 'event 1 is the 2th'],
    ['an event that is missing', [good[0]!, replica(3, 'one', 2, null)], 'event 3 is the 2th'],
    ['a version that is missing', [good[0]!, replica(2, 'one', 3, [1, 2])], 'version 3 follows 1'],
  ])('does not with %s', (_, history, fault) => {
    expect(faultsOf(history, []).join()).toContain(fault);
  });

  it('has all that was acknowledged', () => {
    const one = { kind: 'replica', id: 'one', version: 1 };
    expect(faultsOf(good, [one])).toEqual([]);
    expect(faultsOf(good, [{ ...one, version: 7 }])[0]).toContain('never came');
  });
});
