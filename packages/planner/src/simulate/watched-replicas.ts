import type { Clock } from '@bridgekeeper/bridge';
import type { Engine } from '@bridgekeeper/engine';
import { Replicas } from '@bridgekeeper/engine/replicas';

/** Engines as one server has them beside each other, and for how long each had nothing to do. */
export class WatchedReplicas extends Replicas<Engine> {
  readonly #clock: Pick<Clock, 'nowNs'>;
  /** Since when each has no request; null: it has some. */
  readonly #idleSinceNs: (number | null)[];
  #idleNs = 0;
  #openMax = 0;

  constructor(engines: readonly [Engine, ...Engine[]], clock: Pick<Clock, 'nowNs'>) {
    super(engines);
    this.#clock = clock;
    this.#idleSinceNs = engines.map(() => clock.nowNs());
  }

  /** What is told counts from now on. */
  begin(): void {
    const nowNs = this.#clock.nowNs();
    this.#idleNs = 0;
    this.#openMax = 0;
    for (const [index, sinceNs] of this.#idleSinceNs.entries()) {
      if (sinceNs !== null) this.#idleSinceNs[index] = nowNs;
    }
  }

  protected override hasOpen(replica: number, requests: number): void {
    this.#openMax = Math.max(this.#openMax, requests);
    const sinceNs = this.#idleSinceNs[replica]!;
    if (requests > 0 && sinceNs !== null) {
      this.#idleNs += this.#clock.nowNs() - sinceNs;
      this.#idleSinceNs[replica] = null;
    } else if (requests === 0) {
      this.#idleSinceNs[replica] = this.#clock.nowNs();
    }
  }

  /** Of all of them together. */
  get idleNs(): number {
    const nowNs = this.#clock.nowNs();
    return this.#idleSinceNs.reduce(
      (total: number, sinceNs) => total + (sinceNs === null ? 0 : nowNs - sinceNs),
      this.#idleNs,
    );
  }

  /** Requests that one of them had at a time, at most. */
  get openMax(): number {
    return this.#openMax;
  }
}
