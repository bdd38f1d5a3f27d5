import {
  ASLEEP,
  type EngineCard,
  type EngineClient,
  EngineError,
  type EngineStats,
  type GenerationEvent,
  type GenerationRequest,
  type SleepRequest,
} from '@bridgekeeper/engine';
import { ReplicaChoice } from './replica-choice.ts';
import type { EngineRestarts, RestartSource } from './restarting-engine.ts';
import { sumOfStats } from './sum-of-stats.ts';

/** One of several engines with the same model. */
export type Replica = EngineClient & RestartSource;

/**
 * Several engines as one: each has the whole model on GPUs of its own, and each request is one
 * engine's (vLLM's data parallelism). While one is started again the others take what comes; one
 * that fails for good ends all of them, as it would alone.
 */
export class ReplicatedEngine implements EngineClient, RestartSource {
  readonly card: EngineCard;
  readonly failed: Promise<EngineError>;
  readonly #replicas: readonly Replica[];
  readonly #choice = new ReplicaChoice();
  /** Where each open request is. */
  readonly #places = new Map<string, number>();
  readonly #open: number[];

  constructor(replicas: readonly [Replica, ...Replica[]]) {
    this.#replicas = replicas;
    this.#open = replicas.map(() => 0);
    const [{ card }] = replicas;
    this.card = { ...card, device: { ...card.device, replicas: replicas.length } };
    this.failed = Promise.race(replicas.map(({ failed }) => failed));
  }

  submit(request: GenerationRequest, onEvent: (event: GenerationEvent) => void): void {
    const { id, tenant, promptTokens } = request;
    if (this.isAsleep) throw new EngineError('asleep', ASLEEP);
    if (this.#places.has(id)) {
      throw new EngineError('bad-request', 'a request with this id is in flight', 'request_id');
    }
    const loads = this.#replicas.map(({ card, restarting }, index) => ({
      isReady: restarting === null,
      open: this.#open[index]!,
      maxRows: card.maxRows,
    }));
    // Where none is ready the first says why.
    const index = this.#choice.choose(tenant, promptTokens, loads) ?? 0;
    const leave = () => {
      if (this.#places.delete(id)) this.#open[index]! -= 1;
    };
    this.#places.set(id, index);
    this.#open[index]! += 1;
    try {
      this.#replicas[index]!.submit(request, (event) => {
        if (event.finish !== undefined) leave();
        onEvent(event);
      });
    } catch (error) {
      leave();
      throw error;
    }
  }

  cancel(id: string): void {
    const index = this.#places.get(id);
    if (index !== undefined) this.#replicas[index]!.cancel(id);
  }

  stats(): EngineStats {
    return sumOfStats(this.#replicas.map((replica) => replica.stats()));
  }

  get isAsleep(): boolean {
    return this.#replicas.some(({ isAsleep }) => isAsleep);
  }

  /** All of them, or none: those that sleep by then are woken if one cannot. */
  async sleep(request: SleepRequest): Promise<void> {
    const results = await Promise.allSettled(this.#replicas.map((each) => each.sleep(request)));
    const refused = results.find((result) => result.status === 'rejected');
    if (refused === undefined) return;
    await Promise.all(
      this.#replicas.filter(({ isAsleep }) => isAsleep).map((each) => each.wakeUp()),
    );
    throw refused.reason;
  }

  async wakeUp(): Promise<void> {
    await Promise.all(this.#replicas.map((each) => each.wakeUp()));
  }

  async shutdown(graceMs: number): Promise<void> {
    await Promise.all(this.#replicas.map((each) => each.shutdown(graceMs)));
  }

  get restarts(): EngineRestarts {
    const all = this.#replicas.map(({ restarts }) => restarts);
    const failures = { ...all[0]!.failures };
    for (const cause of Object.keys(failures) as (keyof typeof failures)[]) {
      failures[cause] = all.reduce((sum, each) => sum + each.failures[cause], 0);
    }
    const lasts = all.flatMap(({ last }) => last ?? []);
    return {
      count: all.reduce((sum, { count }) => sum + count, 0),
      resumed: all.reduce((sum, { resumed }) => sum + resumed, 0),
      failures,
      last: lasts.sort((a, b) => b.failedAt - a.failedAt)[0] ?? null,
    };
  }

  /** Requests are taken while one of them takes some. */
  get restarting(): RestartSource['restarting'] {
    const all = this.#replicas.map(({ restarting }) => restarting);
    return all.includes(null) ? null : all[0]!;
  }

  checkBefore(check: () => Promise<void>): void {
    for (const replica of this.#replicas) replica.checkBefore(check);
  }
}
