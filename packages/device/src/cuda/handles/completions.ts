import { CUDA, type Driver } from '@bridgekeeper/native';

interface Waiter {
  readonly event: bigint;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Events of the launching thread, and promises for what they mark. Waiting polls, so that the event
 * loop turns; events carry no times, which confidential computing falsifies.
 */
export class Completions {
  readonly #driver: Driver;
  readonly #spare: bigint[] = [];
  readonly #lent = new Set<bigint>();
  #waiters: Waiter[] = [];

  constructor(driver: Driver) {
    this.#driver = driver;
  }

  /** An event for as long as it is needed. */
  borrow(): bigint {
    const flags = CUDA.EVENT_DISABLE_TIMING;
    const event = this.#spare.pop() ?? this.#driver.read('cuEventCreate', flags).pointer;
    this.#lent.add(event);
    return event;
  }

  giveBack(event: bigint): void {
    if (this.#lent.delete(event)) this.#spare.push(event);
  }

  /** An event that marks the work of `stream` so far. */
  mark(stream: bigint): bigint {
    const event = this.borrow();
    this.#driver.call('cuEventRecord', event, stream);
    return event;
  }

  /** Resolves once what `event` marks is done; rejects with DeviceError when the device failed. */
  wait(event: bigint): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#waiters.length === 0) setImmediate(() => this.#poll());
      this.#waiters.push({ event, resolve, reject });
    });
  }

  /** Resolves once the work of `stream` so far is done. */
  async reach(stream: bigint): Promise<void> {
    const event = this.mark(stream);
    try {
      await this.wait(event);
    } finally {
      this.giveBack(event);
    }
  }

  #poll(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) {
      try {
        if (this.#driver.isEventDone(waiter.event)) waiter.resolve();
        else this.#waiters.push(waiter);
      } catch (error) {
        waiter.reject(error);
      }
    }
    if (this.#waiters.length > 0) setImmediate(() => this.#poll());
  }

  /** Answers whoever waits for work that is done, fails the others, and frees the events. */
  close(error: unknown): void {
    this.#poll();
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters = [];
    for (const event of [...this.#spare, ...this.#lent]) {
      this.#driver.release('cuEventDestroy_v2', event);
    }
    this.#spare.length = 0;
    this.#lent.clear();
  }
}
