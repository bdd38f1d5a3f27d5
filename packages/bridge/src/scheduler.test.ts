import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Crossing, PURPOSES, type Purpose } from './crossing.ts';
import { aloneNs } from './profile-law.ts';
import { referenceProfile } from './reference-profiles.ts';
import {
  CHUNK_BYTES_MIN,
  chunkBytesWithin,
  createScheduler,
  isUrgent,
  type SchedulerAction,
  step,
  takeLane,
} from './scheduler.ts';

const CHUNK_BYTES = 100;
const STREAK_MAX = 3;
const LEVEL: Record<Purpose, number> = {
  tokens: 0,
  pooled: 0,
  command: 0,
  grammar: 0,
  'kv-restore': 1,
  weights: 2,
  'kv-spill': 2,
  probe: 2,
};

type Carry = Extract<SchedulerAction, { kind: 'carry' }>;

/** The scheduler with lanes whose chunks end when the test says so. */
class Bench {
  readonly state = createScheduler({ chunkBytes: () => CHUNK_BYTES, streakMax: STREAK_MAX });
  readonly crossings = new Map<string, Crossing>();
  /** Chunks under way by lane. */
  readonly busy = new Map<string, Carry>();
  readonly log: Carry[] = [];
  readonly finished: string[] = [];

  constructor(lanes: number) {
    for (let i = 0; i < lanes; i++) this.open(`${i}`);
  }

  open(lane: string): void {
    this.#obey(step(this.state, { kind: 'lane-opened', lane }));
  }

  close(lane: string): void {
    this.#obey(step(this.state, { kind: 'lane-closed', lane }));
  }

  submit(id: string, purpose: Purpose, bytes: number, tenant = 'a'): void {
    const crossing = { direction: 'h2d', bytes, purpose, tenant, memory: 'pinned' } as const;
    this.crossings.set(id, crossing);
    this.#obey(step(this.state, { kind: 'submitted', id, crossing }));
  }

  carried(lane: string): void {
    this.busy.delete(lane);
    this.#obey(step(this.state, { kind: 'carried', lane }));
  }

  /** Ends chunks, the oldest first, until nothing is under way. */
  drain(): void {
    for (let lane = this.#oldest(); lane !== undefined; lane = this.#oldest()) this.carried(lane);
  }

  #oldest(): string | undefined {
    return this.busy.keys().next().value;
  }

  #obey(actions: readonly SchedulerAction[]): void {
    for (const action of actions) {
      if (action.kind === 'finished') {
        this.finished.push(action.id);
      } else {
        expect(action.kind).toBe('carry');
        expect(this.busy.has(action.lane)).toBe(false);
        this.busy.set(action.lane, action);
        this.log.push(action);
      }
    }
  }
}

type Move =
  | { kind: 'submit'; purpose: Purpose; bytes: number; tenant: string }
  | { kind: 'carried'; pick: number };

const anyMove: fc.Arbitrary<Move> = fc.oneof(
  fc.record({
    kind: fc.constant('submit' as const),
    purpose: fc.constantFrom(...PURPOSES),
    bytes: fc.integer({ min: 1, max: 550 }),
    tenant: fc.constantFrom('a', 'b', 'c'),
  }),
  fc.record({ kind: fc.constant('carried' as const), pick: fc.nat(10) }),
);

/** Plays the moves; `check` sees the bench after each. */
function play(lanes: number, moves: readonly Move[], check: (bench: Bench) => void): Bench {
  const bench = new Bench(lanes);
  moves.forEach((move, index) => {
    if (move.kind === 'submit') {
      bench.submit(`${index}`, move.purpose, move.bytes, move.tenant);
    } else if (bench.busy.size > 0) {
      bench.carried([...bench.busy.keys()][move.pick % bench.busy.size]!);
    }
    check(bench);
  });
  return bench;
}

const anyGame = { lanes: fc.integer({ min: 1, max: 3 }), moves: fc.array(anyMove) };

describe('whatever is submitted', () => {
  test('every byte is carried once, in order, in chunks, and finished once', () => {
    fc.assert(
      fc.property(anyGame.lanes, anyGame.moves, (lanes, moves) => {
        const bench = play(lanes, moves, () => {});
        bench.drain();
        const carriedBytes = new Map<string, number>();
        for (const { id, offsetBytes, bytes } of bench.log) {
          expect(offsetBytes).toBe(carriedBytes.get(id) ?? 0);
          expect(bytes).toBeLessThanOrEqual(CHUNK_BYTES);
          carriedBytes.set(id, offsetBytes + bytes);
        }
        for (const [id, { bytes }] of bench.crossings) expect(carriedBytes.get(id)).toBe(bytes);
        expect([...bench.finished].sort()).toEqual([...bench.crossings.keys()].sort());
        expect(bench.state.unfinishedIds.size).toBe(0);
      }),
    );
  });

  test('within a tenant and a class, first come, first carried', () => {
    fc.assert(
      fc.property(anyGame.lanes, anyGame.moves, (lanes, moves) => {
        const bench = play(lanes, moves, () => {});
        bench.drain();
        const last = new Map<string, number>();
        for (const { id } of bench.log) {
          const { tenant, purpose } = bench.crossings.get(id)!;
          const queue = `${tenant} ${LEVEL[purpose]}`;
          expect(Number(id)).toBeGreaterThanOrEqual(last.get(queue) ?? 0);
          last.set(queue, Number(id));
        }
      }),
    );
  });

  test('no lane idles while something waits', () => {
    fc.assert(
      fc.property(anyGame.lanes, anyGame.moves, (lanes, moves) => {
        play(lanes, moves, (bench) => {
          const started = bench.log.reduce((sum, { bytes }) => sum + bytes, 0);
          let submitted = 0;
          for (const { bytes } of bench.crossings.values()) submitted += bytes;
          if (started < submitted) expect(bench.busy.size).toBe(lanes);
        });
      }),
    );
  });

  test('an urgent crossing alone in its class is next: it waits for one chunk at most', () => {
    fc.assert(
      fc.property(anyGame.lanes, anyGame.moves, (lanes, moves) => {
        const bulk = moves.filter((move) => move.kind !== 'submit' || LEVEL[move.purpose] > 0);
        const bench = play(lanes, bulk, () => {});
        const before = bench.log.length;
        bench.submit('urgent', 'tokens', 10);
        if (bench.log.length === before) bench.carried([...bench.busy.keys()][0]!);
        expect(bench.log[before]!.id).toBe('urgent');
      }),
    );
  });
});

test('under a flood of urgent crossings, bulk has every fourth turn', () => {
  const bench = new Bench(1);
  for (let i = 0; i < 30; i++) bench.submit(`urgent ${i}`, 'tokens', 10);
  bench.submit('restore', 'kv-restore', 1000);
  bench.submit('bulk', 'weights', 1000);
  for (let i = 0; i < 28; i++) bench.carried('0');
  const turns = bench.log.map(({ id }) => LEVEL[bench.crossings.get(id)!.purpose]);
  // The first went before anything lower waited. One of four lower turns is the lowest's.
  expect(turns.slice(1)).toEqual(
    [1, 1, 1, 2].flatMap((lower) => [0, 0, 0, lower]).concat([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]),
  );
});

test('tenants of a class share by bytes, and one that was away is owed nothing', () => {
  const bench = new Bench(1);
  bench.submit('a', 'weights', 2000, 'a');
  for (let i = 0; i < 4; i++) bench.carried('0');
  for (let i = 0; i < 40; i++) bench.submit(`b${i}`, 'kv-spill', 25, 'b');
  for (let i = 0; i < 24; i++) bench.carried('0');
  const bytesOf = (tenant: string) =>
    bench.log
      .slice(5)
      .filter(({ id }) => bench.crossings.get(id)!.tenant === tenant)
      .reduce((sum, { bytes }) => sum + bytes, 0);
  expect(Math.abs(bytesOf('a') - bytesOf('b'))).toBeLessThanOrEqual(CHUNK_BYTES);
});

test('a tenant that submits one crossing at a time gains nothing by it', () => {
  const bench = new Bench(1);
  bench.submit('a', 'weights', 5000, 'a');
  let submitted = 0;
  for (let i = 0; i < 40; i++) {
    if (bench.finished.length === submitted) {
      submitted += 1;
      bench.submit(`b${submitted}`, 'weights', CHUNK_BYTES, 'b');
    }
    bench.carried('0');
  }
  const ofB = bench.log.filter(({ id }) => id.startsWith('b')).length;
  expect(ofB).toBeGreaterThanOrEqual(19);
  expect(ofB).toBeLessThanOrEqual(21);
});

test('one that submits while its last crossing is under way gains nothing either', () => {
  const bench = new Bench(1);
  bench.submit('a', 'weights', 1000, 'a');
  bench.submit('b0', 'weights', CHUNK_BYTES, 'b');
  for (let i = 1; i <= 6; i++) {
    bench.carried('0');
    if (bench.busy.get('0')!.id.startsWith('b')) bench.submit(`b${i}`, 'weights', CHUNK_BYTES, 'b');
  }
  expect(bench.log.map(({ id }) => id[0])).toEqual([...'abababa']);
});

test('one that was away for a moment is owed nothing', () => {
  const bench = new Bench(1);
  bench.submit('a', 'weights', 1000, 'a');
  bench.submit('b0', 'weights', CHUNK_BYTES / 2, 'b');
  bench.carried('0');
  bench.carried('0');
  // While a's second chunk is under way b is behind a by more than a chunk, but was not waiting.
  bench.submit('b1', 'weights', 1000, 'b');
  for (let i = 0; i < 5; i++) bench.carried('0');
  expect(bench.log.map(({ id }) => id[0])).toEqual([...'ababababa'].slice(0, bench.log.length));
});

test('a lead is kept while others wait: the bytes of large and small crossings are even', () => {
  const bench = new Bench(1);
  for (let i = 0; i < 14; i++) bench.submit(`a${i}`, 'weights', 10, 'a');
  bench.submit('b0', 'weights', CHUNK_BYTES, 'b');
  for (let i = 0; i < 4; i++) bench.carried('0');
  bench.submit('b1', 'weights', CHUNK_BYTES, 'b');
  bench.drain();
  // The first went before anything waited. a had 10 bytes when b began: to be even with b it takes
  // nine more, and being even it goes first.
  expect(bench.log.map(({ id }) => id[0]).join('')).toBe(`aab${'a'.repeat(10)}baa`);
});

test('of tenants that had the same, the one that came first goes first', () => {
  const bench = new Bench(1);
  for (const tenant of ['d', 'a', 'c', 'b']) bench.submit(tenant, 'kv-restore', 300, tenant);
  bench.drain();
  expect(bench.log.map(({ id }) => id).join('')).toBe('dacbdacbdacb');
});

test('tenants that are gone are forgotten, however many there were', () => {
  const bench = new Bench(1);
  const remembered = () => bench.state.classes.reduce((sum, { tenants }) => sum + tenants.size, 0);
  for (let i = 0; i < 100; i++) {
    bench.submit(`alone ${i}`, 'weights', 10, `tenant ${i}`);
    bench.drain();
    expect(remembered()).toBeLessThanOrEqual(1);
  }
  bench.submit('a', 'weights', 100_000, 'a');
  for (let i = 0; i < 100; i++) {
    bench.submit(`beside a ${i}`, 'weights', CHUNK_BYTES, `other ${i}`);
    bench.carried('0');
    bench.carried('0');
    expect(remembered()).toBeLessThanOrEqual(3);
  }
});

test('a streak begins with the first chunk that a lower class waits for', () => {
  const bench = new Bench(0);
  bench.submit('bulk', 'weights', 1000);
  for (let i = 0; i < 6; i++) bench.submit(`urgent ${i}`, 'command', 10);
  bench.open('0');
  for (let i = 0; i < 7; i++) bench.carried('0');
  expect(bench.log.map(({ id }) => id[0]).join('')).toBe('uuubuuub');
});

test('a lane that is closed is given nothing, and the others go on; it may open again', () => {
  const bench = new Bench(3);
  bench.close('0');
  for (let i = 0; i < 3; i++) bench.submit(`${i}`, 'weights', 10);
  expect([...bench.busy.keys()]).toEqual(['1', '2']);
  bench.open('0');
  expect(bench.busy.get('0')!.id).toBe('2');
  bench.drain();
  expect(bench.finished).toEqual(['0', '1', '2']);
});

test('results, commands and grammars are urgent, and nothing else', () => {
  expect(PURPOSES.filter(isUrgent).sort()).toEqual(['command', 'grammar', 'pooled', 'tokens']);
});

test('misuse is a broken promise', () => {
  const bench = new Bench(1);
  expect(() => bench.open('0')).toThrow('open already');
  expect(() => bench.close('7')).toThrow('busy or unknown');
  expect(() => bench.carried('0')).toThrow('not given');
  expect(() => bench.submit('empty', 'weights', 0)).toThrow('no bytes');
  bench.submit('twice', 'weights', 10);
  expect(() => bench.submit('twice', 'weights', 10)).toThrow('submitted twice');
  expect(() => bench.open('0')).toThrow('open already');
  expect(() => bench.close('0')).toThrow('busy or unknown');
  bench.carried('0');
  expect(() => bench.carried('0')).toThrow('not given');
  bench.submit('twice', 'weights', 10);
  bench.drain();
  expect(bench.finished).toEqual(['twice', 'twice']);
  expect(() => createScheduler({ chunkBytes: () => 1, streakMax: 0 })).toThrow('streak of 1');
});

test('chunks may be single bytes, and streaks single chunks, but neither is nothing', () => {
  const crossing = { direction: 'h2d', purpose: 'weights', tenant: 'a', memory: 'pinned' } as const;
  for (const chunkBytes of [0, 1]) {
    const state = createScheduler({ chunkBytes: () => chunkBytes, streakMax: 1 });
    step(state, { kind: 'lane-opened', lane: '0' });
    const submit = () =>
      step(state, { kind: 'submitted', id: 'x', crossing: { ...crossing, bytes: 2 } });
    if (chunkBytes === 0) expect(submit).toThrow('cut into nothing');
    else expect(submit()).toMatchObject([{ kind: 'carry', offsetBytes: 0, bytes: 1 }]);
  }
});

test.each(['b300-cc', 'b200-cc', 'h100-native'] as const)(
  'chunks of %s keep to the budget',
  (name) => {
    const profile = referenceProfile(name);
    for (const budgetNs of [100_000, 500_000, 5_000_000]) {
      const bytes = chunkBytesWithin(profile, 'h2d', 'pinned', budgetNs);
      expect(bytes % CHUNK_BYTES_MIN).toBe(0);
      expect(aloneNs(profile.crossings.h2d.pinned, bytes)).toBeLessThanOrEqual(budgetNs);
      const more = bytes + CHUNK_BYTES_MIN;
      expect(aloneNs(profile.crossings.h2d.pinned, more)).toBeGreaterThan(budgetNs);
    }
    expect(() => chunkBytesWithin(profile, 'h2d', 'pinned', 1_000)).toThrow(RangeError);
  },
);

test('chunks are multiples of 64 KiB, a GiB at most, and may take all of the budget', () => {
  const profile = referenceProfile('b300-cc');
  const cost = profile.crossings.h2d.pinned;
  const within = (budgetNs: number) => chunkBytesWithin(profile, 'h2d', 'pinned', budgetNs);
  for (const units of [1, 2, 3, 1000]) {
    expect(within(aloneNs(cost, units * 65_536))).toBe(units * 65_536);
  }
  expect(within(1e15)).toBe(2 ** 30);
  expect(within(aloneNs(cost, 2 ** 30))).toBe(2 ** 30);
  expect(within(aloneNs(cost, 2 ** 30) - 1)).toBe(2 ** 30 - 65_536);
  const least = Math.ceil(aloneNs(cost, 65_536));
  expect(() => within(1_000)).toThrow(`takes ${least} ns on b300-cc, more than the 1000 ns`);
});

test('a crossing that is given a lane at once changes nothing for those that are submitted', () => {
  const purpose = fc.constantFrom(...PURPOSES);
  const arrival = fc.record({
    purpose,
    bytes: fc.integer({ min: 1, max: 3 * CHUNK_BYTES }),
    tenant: fc.constantFrom('a', 'b', 'c'),
    carriedBefore: fc.nat(3),
  });
  /** What is carried when, where crossings are given their lane if they can be, or never. */
  const carriedBy = (
    lanes: number,
    arrivals: readonly (typeof arrival extends fc.Arbitrary<infer A> ? A : never)[],
    takes: boolean,
  ) => {
    const state = createScheduler({ chunkBytes: () => CHUNK_BYTES, streakMax: STREAK_MAX });
    const busy: { lane: string; id: string; isTaken: boolean }[] = [];
    const log: string[] = [];
    const obey = (actions: readonly SchedulerAction[]) => {
      for (const action of actions) {
        if (action.kind !== 'carry') continue;
        busy.push({ lane: action.lane, id: action.id, isTaken: false });
        log.push(`${action.id} on ${action.lane} ${action.offsetBytes}+${action.bytes}`);
      }
    };
    const carry = () => {
      const done = busy.shift();
      if (done === undefined) return;
      const { lane, isTaken } = done;
      obey(step(state, isTaken ? { kind: 'lane-back', lane } : { kind: 'carried', lane }));
    };
    for (let lane = 0; lane < lanes; lane++) {
      obey(step(state, { kind: 'lane-opened', lane: `${lane}` }));
    }
    for (const [at, { carriedBefore, ...rest }] of arrivals.entries()) {
      for (let n = 0; n < carriedBefore; n++) carry();
      const crossing = { direction: 'h2d', memory: 'pinned', ...rest } as const;
      const id = `${at}`;
      const lane = takes ? takeLane(state, crossing) : undefined;
      if (lane === undefined) {
        obey(step(state, { kind: 'submitted', id, crossing }));
        continue;
      }
      busy.push({ lane, id, isTaken: true });
      log.push(`${id} on ${lane} 0+${rest.bytes}`);
    }
    while (busy.length > 0) carry();
    return log;
  };
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3 }),
      fc.array(arrival, { maxLength: 30 }),
      (lanes, all) => {
        expect(carriedBy(lanes, all, true)).toEqual(carriedBy(lanes, all, false));
      },
    ),
  );
});

test('a lane is taken where one is idle, for what is made in one piece', () => {
  const { state } = new Bench(2);
  const crossing = (bytes: number) =>
    ({ direction: 'h2d', bytes, purpose: 'tokens', tenant: 'a', memory: 'pinned' }) as const;
  expect(takeLane(state, crossing(CHUNK_BYTES + 1))).toBeUndefined();
  expect(takeLane(state, crossing(CHUNK_BYTES))).toBe('0');
  expect(takeLane(state, crossing(1))).toBe('1');
  expect(takeLane(state, crossing(1))).toBeUndefined();
  expect(step(state, { kind: 'lane-back', lane: '1' })).toEqual([]);
  expect(takeLane(state, crossing(1))).toBe('1');
});
