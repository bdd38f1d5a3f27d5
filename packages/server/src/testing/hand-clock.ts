import { HOST_CLOCK, type ServerClock } from '../host-clock.ts';

interface Repeated {
  readonly seconds: number;
  readonly action: () => void;
}

/** A clock that goes when it is told to; only sleeping takes its time by itself, and none else. */
export class HandClock implements ServerClock {
  readonly #repeated = new Set<Repeated>();
  #nowNs = 0;
  /** What `unixSeconds` says: set freely, as a host can. */
  unix = 0;

  nowNs(): number {
    return this.#nowNs;
  }

  async sleepUntilNs(wakeNs: number): Promise<void> {
    this.#nowNs = Math.max(this.#nowNs, wakeNs);
    // Others run meanwhile.
    await new Promise((resolve) => setImmediate(resolve));
  }

  unixSeconds(): number {
    return this.unix;
  }

  every(seconds: number, action: () => void): () => void {
    const repeated = { seconds, action };
    this.#repeated.add(repeated);
    return () => this.#repeated.delete(repeated);
  }

  after(seconds: number, action: () => void): () => void {
    return HOST_CLOCK.after(seconds, action);
  }

  /** How many actions are repeated. */
  get repeats(): number {
    return this.#repeated.size;
  }

  /** Runs once what is done every `seconds`. */
  tick(seconds: number): void {
    for (const repeated of this.#repeated) if (repeated.seconds === seconds) repeated.action();
  }
}
