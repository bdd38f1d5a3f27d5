import { type Clock, drainAfter, invariant, Later, othersMayRun } from '@bridgekeeper/bridge';
import { EventHeap, type TimedEvent } from './event-heap.ts';

/**
 * Time that moves from event to event, as fast as the machine allows. Between two events, whatever
 * became runnable runs to its end; so the same program makes the same history every time.
 */
export class VirtualClock implements Clock {
  readonly #events = new EventHeap();
  #nowNs = 0;
  #sequence = 0;
  #isRunning = false;
  #eventsFired = 0;
  #runsFreely = false;

  nowNs(): number {
    return this.#nowNs;
  }

  sleepUntilNs(wakeNs: number): Promise<void> {
    return new Promise((resolve) => this.at(wakeNs, resolve));
  }

  resolveAt(wakeNs: number, later: Later<unknown>): void {
    this.#add(wakeNs, later);
  }

  /** Calls `fire` at `atNs`, or at once in the clock's order of events when that has passed. */
  at(atNs: number, fire: () => void): void {
    this.#add(atNs, fire);
  }

  #add(atNs: number, event: TimedEvent): void {
    invariant(!Number.isNaN(atNs), 'an event at no time');
    this.#sequence += 1;
    this.#events.push(Math.max(atNs, this.#nowNs), this.#sequence, event);
    if (this.#runsFreely && !this.#isRunning) void this.run();
  }

  /** From now on time moves by itself whenever something waits for it, without `run`. */
  runFreely(): void {
    this.#runsFreely = true;
    if (!this.#isRunning && this.#events.size > 0) void this.run();
  }

  /** Moves time through all events up to `untilNs`, and to `untilNs` itself where that is given. */
  async run(untilNs = Number.POSITIVE_INFINITY): Promise<void> {
    await this.#runWhile(() => this.#events.nextNs <= untilNs);
    if (untilNs !== Number.POSITIVE_INFINITY) this.#nowNs = Math.max(this.#nowNs, untilNs);
  }

  async advance(byNs: number): Promise<void> {
    await this.run(this.#nowNs + byNs);
  }

  /** Moves time until `work` settles. Throws InvariantError if it waits and no event is left. */
  async runUntil<Result>(work: PromiseLike<Result>): Promise<Result> {
    let isPending = true;
    const settled = () => {
      isPending = false;
    };
    work.then(settled, settled);
    await this.#runWhile(() => isPending);
    invariant(!isPending, `virtual time stands still at ${this.#nowNs} ns: nothing will happen`);
    return work;
  }

  /**
   * Resolves when all microtasks have run, and those that they made: Node runs what waits for the
   * next tick only then. A turn of the event loop does the same, and takes longer.
   */
  #everythingRunnable(): Promise<void> {
    if (this.#eventsFired % EVENTS_PER_TURN === 0) return eventLoopTurn();
    return new Promise((resolve) => process.nextTick(resolve));
  }

  async #runWhile(goesOn: () => boolean): Promise<void> {
    invariant(!this.#isRunning, 'the virtual clock is being run already');
    this.#isRunning = true;
    try {
      await eventLoopTurn();
      while (this.#events.size > 0 && goesOn()) {
        this.#nowNs = this.#events.nextNs;
        const event = this.#events.pop();
        this.#eventsFired += 1;
        // Routines have run to their next wait when this returns; often nobody else has to.
        const isTheirs = event instanceof Later;
        drainAfter(event);
        if (isTheirs && !othersMayRun() && this.#eventsFired % EVENTS_PER_TURN !== 0) continue;
        await this.#everythingRunnable();
      }
    } finally {
      this.#isRunning = false;
    }
  }
}

/** The world outside of this clock gets a turn after so many events. */
const EVENTS_PER_TURN = 256;

function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
