/**
 * What a step waits for, without promises where nobody but the house waits. A promise makes those
 * who wait run again in microtasks, several for each `await`; in virtual time, where a step has
 * nothing else to do, that was most of what a step took.
 */

/** A result that comes, to be awaited by routines at little cost, and by anyone as a promise is. */
export class Later<T> implements PromiseLike<T> {
  #state: 'waiting' | 'done' | 'failed' = 'waiting';
  #value: unknown = undefined;
  #first: Waiter | undefined = undefined;
  #others: Waiter[] | undefined = undefined;

  /** One that has failed already. */
  static failed<T>(error: unknown): Later<T> {
    const later = new Later<T>();
    later.reject(error);
    return later;
  }

  get isSettled(): boolean {
    return this.#state !== 'waiting';
  }

  get hasFailed(): boolean {
    return this.#state === 'failed';
  }

  /** What came, or what it failed with; undefined while nothing did. */
  get outcome(): unknown {
    return this.#value;
  }

  /** It is settled once: what comes later is ignored, as with a promise. */
  resolve(value: T): void {
    this.#settle('done', value);
  }

  /** A failure that nobody waits for is no error, other than a promise's. */
  reject(error: unknown): void {
    this.#settle('failed', error);
  }

  /** Calls `waiter.settled` once this is settled, or now: those who wait in their order. */
  tell(waiter: Waiter): void {
    if (this.#state !== 'waiting') waiter.settled(this);
    else if (this.#first === undefined) this.#first = waiter;
    else if (this.#others === undefined) this.#others = [waiter];
    else this.#others.push(waiter);
  }

  // biome-ignore lint/suspicious/noThenProperty: others await it
  then<A = T, B = never>(
    onDone?: ((value: T) => A | PromiseLike<A>) | null,
    onFailed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    const promise = new Promise<T>((resolve, reject) => {
      const settled = () => {
        noteOthers();
        if (this.hasFailed) reject(this.#value);
        else resolve(this.#value as T);
      };
      this.tell({ settled });
    });
    return promise.then(onDone, onFailed);
  }

  #settle(state: 'done' | 'failed', value: unknown): void {
    if (this.#state !== 'waiting') return;
    this.#state = state;
    this.#value = value;
    const first = this.#first;
    if (first === undefined) return;
    const others = this.#others;
    this.#first = undefined;
    this.#others = undefined;
    first.settled(this);
    if (others !== undefined) for (const other of others) other.settled(this);
  }
}

/** Who waits for something that is settled later. */
export interface Waiter {
  /** Must not do more than take note. */
  settled(later: Later<unknown>): void;
}

/** Code with waits in it, as an async function has: `yield* until(...)` is its `await`. */
export type Routine<T> = Generator<PromiseLike<unknown>, T, unknown>;

/** Waits within a routine. Throws what `awaited` fails with. */
export function* until<T>(awaited: PromiseLike<T>): Generator<PromiseLike<T>, T, unknown> {
  return (yield awaited) as T;
}

/** Runs a routine up to its first wait; what this returns is what it comes to. Never throws. */
export function run<T>(routine: Routine<T>): Later<T> {
  const running = new Running(routine);
  running.begin();
  return running;
}

class Running<T> extends Later<T> implements Waiter {
  readonly #routine: Routine<T>;
  #awaited: Later<unknown> | undefined = undefined;

  constructor(routine: Routine<T>) {
    super();
    this.#routine = routine;
  }

  begin(): void {
    this.#goOn(undefined, false);
  }

  settled(later: Later<unknown>): void {
    this.#awaited = later;
    ready[readyCount++] = this;
    if (!isDraining) planDrain();
  }

  /** What was awaited is there. */
  wake(): void {
    const awaited = this.#awaited!;
    this.#awaited = undefined;
    this.#goOn(awaited.outcome, awaited.hasFailed);
  }

  #goOn(outcome: unknown, hasFailed: boolean): void {
    let value = outcome;
    let isThrown = hasFailed;
    for (;;) {
      let step: IteratorResult<PromiseLike<unknown>, T>;
      try {
        step = isThrown ? this.#routine.throw(value) : this.#routine.next(value);
      } catch (error) {
        this.reject(error);
        return;
      }
      if (step.done === true) {
        this.resolve(step.value);
        return;
      }
      const awaited = step.value;
      if (!(awaited instanceof Later)) {
        noteOthers();
        awaited.then(
          (result) => this.#outside(result, false),
          (error: unknown) => this.#outside(error, true),
        );
        return;
      }
      if (!awaited.isSettled) {
        awaited.tell(this);
        return;
      }
      value = awaited.outcome;
      isThrown = awaited.hasFailed;
    }
  }

  /** A promise is settled: this is a microtask. */
  #outside(outcome: unknown, hasFailed: boolean): void {
    drainAfter(() => this.#goOn(outcome, hasFailed));
  }
}

/** When all are; fails as soon as one does. */
export function all<T>(awaited: readonly PromiseLike<T>[]): Later<T[]> {
  const laters = awaited.map(laterOf);
  const { together } = new All<T>(laters);
  if (laters.length === 0) together.resolve([]);
  return together;
}

/** No kind of `Later`: with five of these, V8 takes far longer for each of their fields. */
class All<T> implements Waiter {
  readonly together = new Later<T[]>();
  readonly #laters: readonly Later<T>[];
  #missing: number;

  constructor(laters: readonly Later<T>[]) {
    this.#laters = laters;
    this.#missing = laters.length;
    for (const each of laters) each.tell(this);
  }

  settled(later: Later<unknown>): void {
    this.#missing -= 1;
    if (later.hasFailed) this.together.reject(later.outcome);
    else if (this.#missing === 0) {
      this.together.resolve(this.#laters.map(({ outcome }) => outcome as T));
    }
  }
}

/** What the first of them comes to. */
export function first<T>(awaited: readonly PromiseLike<T>[]): Later<T> {
  const first = new First<T>();
  for (const each of awaited) laterOf(each).tell(first);
  return first.soonest;
}

class First<T> implements Waiter {
  readonly soonest = new Later<T>();

  settled(later: Later<unknown>): void {
    if (later.hasFailed) this.soonest.reject(later.outcome);
    else this.soonest.resolve(later.outcome as T);
  }
}

/** The same, or what a promise comes to. */
function laterOf<T>(awaited: PromiseLike<T>): Later<T> {
  if (awaited instanceof Later) return awaited;
  const later = new Later<T>();
  noteOthers();
  awaited.then(
    (value) => drainAfter(() => later.resolve(value)),
    (error: unknown) => drainAfter(() => later.reject(error)),
  );
  return later;
}

/**
 * Routines that can go on, in the order in which they could: as microtasks are, one after the other
 * and never within each other. Each thread has its own.
 */
const ready: (Running<unknown> | undefined)[] = [];
/** Of `ready`; what is behind them stays empty. */
let readyCount = 0;
let isDraining = false;
let isPlanned = false;
let othersCanRun = false;

function planDrain(): void {
  if (isPlanned) return;
  isPlanned = true;
  noteOthers();
  queueMicrotask(() => {
    isPlanned = false;
    drainAfter(() => undefined);
  });
}

/**
 * Does `action`, or settles what was waited for, and then everything that routines can do because
 * of it, before it returns: for clocks of events, and where promises come in.
 */
export function drainAfter(action: (() => void) | Later<unknown>): void {
  if (isDraining) {
    act(action);
    return;
  }
  isDraining = true;
  try {
    act(action);
  } finally {
    for (let at = 0; at < readyCount; at++) {
      const running = ready[at]!;
      ready[at] = undefined;
      running.wake();
    }
    readyCount = 0;
    isDraining = false;
  }
}

function act(action: (() => void) | Later<unknown>): void {
  if (action instanceof Later) action.resolve(undefined);
  else action();
}

/** Code that is no routine may have something to do now: promises are settled, or handed on. */
export function noteOthers(): void {
  othersCanRun = true;
}

/** Whether there was any since it was asked last. */
export function othersMayRun(): boolean {
  const could = othersCanRun;
  othersCanRun = false;
  return could;
}
