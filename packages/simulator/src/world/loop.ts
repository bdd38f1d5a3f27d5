import type { ServerClock } from '@bridgekeeper/server/host-clock';
import type { Random } from './random.ts';

/**
 * A process, for as long as it lives. What it waits for belongs to it: once it has ended, none of
 * it happens, so that no code of it runs any more, wherever it was.
 */
export class Life {
  readonly name: string;
  /** Names the machine whose disk it has. */
  readonly host: string;
  readonly random: Random;
  readonly clock: ServerClock;
  isDead = false;
  /** Of its machine's memory, for what asks how much there is. */
  availableBytes = 64 * 2 ** 30;
  /** It gets no processor time before this. */
  stoppedUntilNs = 0;
  /** Its wall clock against the true one. */
  wallOffSeconds = 0;
  /** Its wall clock stands at this; null: it goes. */
  wallStandsMs: number | null = null;
  readonly #loop: Loop;
  readonly #onDeath: (() => void)[] = [];

  constructor(loop: Loop, name: string, host: string, random: Random) {
    this.name = name;
    this.host = host;
    this.random = random;
    this.#loop = loop;
    this.clock = {
      nowNs: () => loop.nowNs,
      sleepUntilNs: (wakeNs) => new Promise((resolve) => this.at(wakeNs, resolve)),
      unixSeconds: () => Math.floor(this.unixMs() / 1000),
      every: (seconds, action) => this.every(seconds * 1e9, action),
      after: (seconds, action) => this.at(loop.nowNs + seconds * 1e9, action),
    };
  }

  unixMs(): number {
    return this.wallStandsMs ?? this.#goingMs();
  }

  #goingMs(): number {
    return BEGIN_UNIX_MS + Math.floor(this.#loop.nowNs / 1e6) + this.wallOffSeconds * 1000;
  }

  /** Calls `fire` then, unless the process has ended or what this returns was called. */
  at(atNs: number, fire: () => void): () => void {
    return this.#loop.at(atNs, fire, this);
  }

  every(periodNs: number, action: () => void): () => void {
    let end = () => {};
    const next = () => {
      end = this.at(this.#loop.nowNs + periodNs, () => {
        next();
        action();
      });
    };
    next();
    return () => end();
  }

  /** Runs synchronous code as this process. */
  run<T>(action: () => T): T {
    return this.#loop.as(this, action);
  }

  onDeath(action: () => void): void {
    this.#onDeath.push(action);
  }

  /** Ends it between two of its awaits. */
  kill(): void {
    if (this.isDead) return;
    this.isDead = true;
    for (const action of this.#onDeath) action();
  }
}

/** 2026-01-01. */
export const BEGIN_UNIX_MS = 1_767_225_600_000;

interface Event {
  readonly atNs: number;
  readonly sequence: number;
  readonly life: Life | null;
  fire: (() => void) | null;
}

interface NodeProcess {
  _tickCallback(): void;
  _fatalException(error: unknown, isFromPromise: boolean): void;
}

/**
 * Of Node's own, and without documentation: the first runs everything that was made runnable, ticks
 * and microtasks, to its end; the second is what Node does with an exception that nobody caught,
 * after which ticks go on.
 */
const { _tickCallback: drain, _fatalException: fatal } = process as unknown as NodeProcess;

/**
 * Time, and all that happens in it. One event after the other, and between two of them whatever
 * became runnable runs to its end, so that the same program makes the same history. Nothing of the
 * machine comes in between: the loop does not return to Node's own until it is done.
 */
export class Loop {
  nowNs = 0;
  /** Whose code runs; null: the simulation's own. */
  current: Life | null = null;
  /** Events that happened. */
  steps = 0;
  /** Called with what a process threw and nobody caught, which ends it. */
  uncaught: (error: unknown, life: Life | null) => void = () => {};
  /** Called after each event, when nothing runs. */
  afterStep: () => void = () => {};
  readonly #heap: Event[] = [];
  #sequence = 0;

  at(atNs: number, fire: () => void, life: Life | null = this.current): () => void {
    const time = Math.max(Math.round(atNs), this.nowNs);
    if (Number.isNaN(time)) throw new Error('an event at no time');
    this.#sequence += 1;
    const event: Event = { atNs: time, sequence: this.#sequence, life, fire };
    this.#push(event);
    return () => {
      event.fire = null;
    };
  }

  as<T>(life: Life | null, action: () => T): T {
    const before = this.current;
    this.current = life;
    try {
      return action();
    } finally {
      this.current = before;
    }
  }

  /** Until `isDone`, or nothing is left to happen, which returns false. */
  run(isDone: () => boolean): boolean {
    drain();
    while (!isDone()) {
      const event = this.#pop();
      if (event === undefined) return false;
      const { life, fire } = event;
      if (fire === null || life?.isDead === true) continue;
      if (life !== null && life.stoppedUntilNs > event.atNs) {
        this.at(life.stoppedUntilNs, fire, life);
        continue;
      }
      this.nowNs = event.atNs;
      this.current = life;
      this.steps += 1;
      event.fire = null;
      this.#runAll(fire);
      this.current = null;
      this.afterStep();
    }
    return true;
  }

  #runAll(fire: () => void): void {
    for (let next: (() => void) | null = fire; ; next = null) {
      try {
        next?.();
        drain();
        return;
      } catch (error) {
        this.uncaught(error, this.current);
        fatal(error, false);
      }
    }
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let hole = heap.length;
    heap.push(event);
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[hole] = heap[parent]!;
      hole = parent;
    }
    heap[hole] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let hole = 0;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, last)) break;
      heap[hole] = heap[child]!;
      hole = child;
    }
    heap[hole] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atNs < b.atNs || (a.atNs === b.atNs && a.sequence < b.sequence);
}
