import {
  ASLEEP,
  type EngineCard,
  type EngineClient,
  EngineError,
  type EngineStats,
  type GenerationRequest,
  type OnEvent,
  type SleepRequest,
} from '../request/request.ts';
import { ReplicaChoice } from './replica-choice.ts';
import { sumOfStats } from './sum-of-stats.ts';

/**
 * Several engines as one: each has the whole model on GPUs of its own, and each request is one
 * engine's (vLLM's data parallelism).
 */
export class Replicas<Replica extends EngineClient> implements EngineClient {
  readonly card: EngineCard;
  readonly failed: Promise<EngineError>;
  protected readonly replicas: readonly Replica[];
  readonly #choice = new ReplicaChoice();
  /** Where each open request is. */
  readonly #places = new Map<string, number>();
  readonly #open: number[];

  constructor(replicas: readonly [Replica, ...Replica[]]) {
    this.replicas = replicas;
    this.#open = replicas.map(() => 0);
    const [{ card }] = replicas;
    this.card = { ...card, device: { ...card.device, replicas: replicas.length } };
    this.failed = Promise.race(replicas.map(({ failed }) => failed));
  }

  /** Whether one takes requests now. */
  protected isReady(_: Replica): boolean {
    return true;
  }

  /** Told how many requests one has, whenever that changes. */
  protected hasOpen(_replica: number, _requests: number): void {}

  submit(request: GenerationRequest, onEvent: OnEvent): void {
    const { id, tenant, promptTokens } = request;
    if (this.isAsleep) throw new EngineError('asleep', ASLEEP);
    if (this.#places.has(id)) {
      throw new EngineError('bad-request', 'a request with this id is in flight', 'request_id');
    }
    const loads = this.replicas.map((replica, index) => ({
      isReady: this.isReady(replica),
      open: this.#open[index]!,
      maxRows: replica.card.maxRows,
    }));
    // Where none is ready the first says why.
    const index = this.#choice.choose(tenant, promptTokens, loads) ?? 0;
    const leave = () => {
      if (this.#places.delete(id)) this.#count(index, -1);
    };
    this.#places.set(id, index);
    this.#count(index, 1);
    try {
      this.replicas[index]!.submit(request, (event) => {
        if (event.finish !== undefined) leave();
        return onEvent(event);
      });
    } catch (error) {
      leave();
      throw error;
    }
  }

  #count(index: number, change: 1 | -1): void {
    this.#open[index]! += change;
    this.hasOpen(index, this.#open[index]!);
  }

  cancel(id: string): void {
    const index = this.#places.get(id);
    if (index !== undefined) this.replicas[index]!.cancel(id);
  }

  stats(): EngineStats {
    return sumOfStats(this.replicas.map((replica) => replica.stats()));
  }

  get isAsleep(): boolean {
    return this.replicas.some(({ isAsleep }) => isAsleep);
  }

  /** All of them, or none: those that sleep by then are woken if one cannot. */
  async sleep(request: SleepRequest): Promise<void> {
    const results = await Promise.allSettled(this.replicas.map((each) => each.sleep(request)));
    const refused = results.find((result) => result.status === 'rejected');
    if (refused === undefined) return;
    await Promise.all(
      this.replicas.filter(({ isAsleep }) => isAsleep).map((each) => each.wakeUp()),
    );
    throw refused.reason;
  }

  async wakeUp(): Promise<void> {
    await Promise.all(this.replicas.map((each) => each.wakeUp()));
  }

  async shutdown(graceMs: number): Promise<void> {
    await Promise.all(this.replicas.map((each) => each.shutdown(graceMs)));
  }
}
