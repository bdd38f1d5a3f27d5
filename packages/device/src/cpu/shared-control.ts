import { DeviceError } from '../errors.ts';

/**
 * Words of the control block, shared by the launching thread, the compute workers and the lanes.
 */
const CELL = {
  /** Rises when there is something new for the compute workers. */
  DOORBELL: 0,
  /** The last submission whose work is done. */
  COMPLETED: 1,
  /** One of LIFE. */
  LIFE: 2,
  /** One of HEALTH. Once an operation failed, what was launched later is skipped. */
  HEALTH: 3,
  FAILURE_BYTES: 4,
  BARRIER_ARRIVED: 5,
  BARRIER_ROUND: 6,
  /** From here on, one per lane: the last of its copies that is done. */
  COPIED: 8, // Even, so that the counters behind it are aligned.
} as const;

const LIFE = { RUNNING: 0, CLOSED: 1, DEAD: 2 } as const;
/** REPORTING: the failure's text is being written. */
const HEALTH = { SOUND: 0, REPORTING: 1, FAILED: 2 } as const;

/** Lanes that one device can have. */
export const MAX_LANES = 64;

const CELLS = CELL.COPIED + MAX_LANES;
const COUNTERS = { h2d: 0, d2h: 1, copies: 2 } as const;
const FAILURE_CAPACITY = 1024;
const COUNTERS_START = CELLS * 4;
const FAILURE_START = COUNTERS_START + 3 * 8;

/** No wait lasts longer than this without looking whether the device is still alive. */
const LOOK_AGAIN_MS = 100;
/** Turns of a loop before a barrier sleeps: about the time that a wake-up would take. */
const BARRIER_SPINS = 5_000;

/** A copy: the slot of its lane and its number there. */
export type CopyMark = readonly [lane: number, copy: number];

/** What a piece of work waits for: a submission, and copies. */
export interface WorkMark {
  readonly ticket: number;
  readonly copies: readonly CopyMark[];
}

/** `count` has come to `goal` or past it. Counts wrap after 2^31. */
function hasReached(count: number, goal: number): boolean {
  return ((count - goal) | 0) >= 0;
}

/** The device's shared state: how threads that cannot call each other find out what is done. */
export class SharedControl {
  readonly memory: SharedArrayBuffer;
  readonly #cells: Int32Array;
  readonly #counters: BigInt64Array;
  readonly #failure: Uint8Array;

  constructor(memory = new SharedArrayBuffer(FAILURE_START + FAILURE_CAPACITY)) {
    this.memory = memory;
    this.#cells = new Int32Array(memory, 0, CELLS);
    this.#counters = new BigInt64Array(memory, COUNTERS_START, 3);
    this.#failure = new Uint8Array(memory, FAILURE_START, FAILURE_CAPACITY);
  }

  // --- The doorbell of the compute workers.

  ring(): void {
    Atomics.add(this.#cells, CELL.DOORBELL, 1);
    Atomics.notify(this.#cells, CELL.DOORBELL);
  }

  /** Sleeps until the bell rang since it read `heard`; returns what it reads now. */
  awaitRing(heard: number): number {
    Atomics.wait(this.#cells, CELL.DOORBELL, heard);
    return Atomics.load(this.#cells, CELL.DOORBELL);
  }

  // --- What is done.

  complete(ticket: number): void {
    this.#set(CELL.COMPLETED, ticket);
  }

  completeCopy(lane: number, copy: number): void {
    this.#set(CELL.COPIED + lane, copy);
  }

  #set(cell: number, value: number): void {
    Atomics.store(this.#cells, cell, value);
    Atomics.notify(this.#cells, cell);
  }

  isDone(mark: WorkMark): boolean {
    return goalsOf(mark).every(([cell, goal]) => this.#isReached(cell, goal));
  }

  isCopied([lane, copy]: CopyMark): boolean {
    return this.#isReached(CELL.COPIED + lane, copy);
  }

  #isReached(cell: number, goal: number): boolean {
    return hasReached(Atomics.load(this.#cells, cell), goal);
  }

  /** Stands still until `mark` is done. Throws DeviceError when the device ends before that. */
  blockUntilDone(mark: WorkMark): void {
    for (const [cell, goal] of goalsOf(mark)) this.#blockUntil(cell, goal);
  }

  /** The same for copies alone. */
  blockUntilCopied(copies: readonly CopyMark[]): void {
    for (const [lane, copy] of copies) this.#blockUntil(CELL.COPIED + lane, copy);
  }

  #blockUntil(cell: number, goal: number): void {
    for (;;) {
      const value = Atomics.load(this.#cells, cell);
      if (hasReached(value, goal)) return;
      this.assertAlive();
      Atomics.wait(this.#cells, cell, value, LOOK_AGAIN_MS);
    }
  }

  /** Resolves when `mark` is done. Rejects with DeviceError when the device ends before that. */
  async untilDone(mark: WorkMark): Promise<void> {
    for (const [cell, goal] of goalsOf(mark)) {
      for (;;) {
        const value = Atomics.load(this.#cells, cell);
        if (hasReached(value, goal)) break;
        this.assertAlive();
        const wait = Atomics.waitAsync(this.#cells, cell, value, LOOK_AGAIN_MS);
        if (wait.async) await wait.value;
      }
    }
  }

  // --- The barrier of the compute workers.

  /** Returns when all `parts` workers have come here. */
  barrier(parts: number): void {
    const round = Atomics.load(this.#cells, CELL.BARRIER_ROUND);
    if (Atomics.add(this.#cells, CELL.BARRIER_ARRIVED, 1) + 1 === parts) {
      Atomics.store(this.#cells, CELL.BARRIER_ARRIVED, 0);
      this.#set(CELL.BARRIER_ROUND, (round + 1) | 0);
      return;
    }
    for (let spin = 0; spin < BARRIER_SPINS; spin++) {
      if (Atomics.load(this.#cells, CELL.BARRIER_ROUND) !== round) return;
    }
    while (Atomics.load(this.#cells, CELL.BARRIER_ROUND) === round) {
      this.assertAlive();
      Atomics.wait(this.#cells, CELL.BARRIER_ROUND, round, LOOK_AGAIN_MS);
    }
  }

  // --- Life and failure.

  /**
   * Nothing more will be done. `closed`: because the device was closed; `dead`: a thread of it
   * ended.
   */
  end(how: 'closed' | 'dead'): void {
    const life = how === 'closed' ? LIFE.CLOSED : LIFE.DEAD;
    Atomics.compareExchange(this.#cells, CELL.LIFE, LIFE.RUNNING, life);
    for (let cell = 0; cell < CELLS; cell++) Atomics.notify(this.#cells, cell);
    this.ring();
  }

  get isAlive(): boolean {
    return Atomics.load(this.#cells, CELL.LIFE) === LIFE.RUNNING;
  }

  /** Throws DeviceError `closed` or `launch-failed` once the device has ended. */
  assertAlive(): void {
    const life = Atomics.load(this.#cells, CELL.LIFE);
    if (life === LIFE.CLOSED) throw new DeviceError('closed', 'the cpu device was closed');
    if (life === LIFE.DEAD) throw new DeviceError('launch-failed', this.#failureText());
  }

  /** Remembers the first failure. Later work is skipped, and whoever waits for it hears of this. */
  fail(message: string): void {
    const { SOUND, REPORTING, FAILED } = HEALTH;
    if (Atomics.compareExchange(this.#cells, CELL.HEALTH, SOUND, REPORTING) !== SOUND) return;
    const { written } = new TextEncoder().encodeInto(message, this.#failure);
    Atomics.store(this.#cells, CELL.FAILURE_BYTES, written);
    Atomics.store(this.#cells, CELL.HEALTH, FAILED);
  }

  get hasFailed(): boolean {
    return Atomics.load(this.#cells, CELL.HEALTH) === HEALTH.FAILED;
  }

  /** Throws DeviceError `launch-failed` once an operation failed. */
  assertSound(): void {
    if (this.hasFailed) throw new DeviceError('launch-failed', this.#failureText());
  }

  #failureText(): string {
    const bytes = Atomics.load(this.#cells, CELL.FAILURE_BYTES);
    // TextDecoder does not read shared memory.
    const text = new TextDecoder().decode(this.#failure.slice(0, bytes));
    return text === '' ? 'a thread of the cpu device ended unexpectedly' : text;
  }

  // --- What moved.

  countCopy(direction: 'h2d' | 'd2h', bytes: number): void {
    Atomics.add(this.#counters, COUNTERS[direction], BigInt(bytes));
    Atomics.add(this.#counters, COUNTERS.copies, 1n);
  }

  copyCounters(): { h2dBytes: number; d2hBytes: number; copies: number } {
    const read = (index: number) => Number(Atomics.load(this.#counters, index));
    return {
      h2dBytes: read(COUNTERS.h2d),
      d2hBytes: read(COUNTERS.d2h),
      copies: read(COUNTERS.copies),
    };
  }
}

function goalsOf({ ticket, copies }: WorkMark): (readonly [cell: number, goal: number])[] {
  return [
    [CELL.COMPLETED, ticket],
    ...copies.map(([lane, copy]) => [CELL.COPIED + lane, copy] as const),
  ];
}
