import { type Clock, invariant, noteOthers, type Routine, run } from '@bridgekeeper/bridge';
import type { Device } from '@bridgekeeper/device';
import type { GrammarPool } from './grammar/grammar-pool.ts';
import type { PrefixTree } from './kv/prefix-tree.ts';
import type { OpenTiers } from './mover/open-tiers.ts';
import type { Policy } from './policies/policy.ts';
import { type CheckedRequest, checkRequest } from './request/check-request.ts';
import {
  ASLEEP,
  type EngineCard,
  type EngineClient,
  EngineError,
  type EngineStats,
  type GenerationEvent,
  type GenerationRequest,
  type KvStats,
  NOTED,
  type OnEvent,
  type SleepRequest,
  type TenantPages,
} from './request/request.ts';
import { finishOf, type Scheduler } from './scheduler/scheduler.ts';
import { Sequence } from './scheduler/sequence.ts';
import type { Sleeper } from './sleeper.ts';
import type { CrossingShares } from './traffic/shares.ts';
import type { Traffic } from './traffic/traffic.ts';

export interface EngineParts {
  readonly device: Device;
  readonly scheduler: Scheduler;
  readonly tree: PrefixTree;
  readonly grammars: GrammarPool;
  readonly policy: Policy;
  /** What makes later steps faster, in slices for when nothing runs (see `Runner.refine`). */
  readonly refine: () => Generator<undefined, void>;
  readonly sleeper: Sleeper;
  readonly card: EngineCard;
  /** What is below the device; null: nothing is. */
  readonly tiers: OpenTiers | null;
  readonly traffic: Traffic;
  /** A seed for requests that bring none. */
  readonly drawSeed: () => bigint;
}

const SHUTDOWN_NAP_NS = 50e6;
const MOST_TENANTS_SHOWN = 64;

/** Something to do once no request is open and no launch under way. */
interface Errand {
  readonly kind: 'sleep' | 'wake-up';
  run(): Promise<void>;
  resolve(): void;
  reject(error: EngineError): void;
}

interface OpenRequest {
  readonly sequence: Sequence;
  readonly onEvent: OnEvent;
}

/**
 * The engine in its own thread: takes requests, runs steps while there are any, hands out what each
 * step brought. A failing device ends every open request with `error` and the engine with it:
 * nothing hangs.
 */
export class Engine implements EngineClient {
  readonly card: EngineCard;
  readonly failed: Promise<EngineError>;
  readonly #parts: EngineParts;
  readonly #clock: Clock;
  readonly #shares: CrossingShares<Sequence>;
  readonly #open = new Map<string, OpenRequest>();
  readonly #ended: Promise<void>;
  #fail!: (error: EngineError) => void;
  #state: 'running' | 'draining' | 'ended' = 'running';
  #wake: (() => void) | undefined;
  #arrivals = 0;
  #refining: Generator<undefined, void>;
  /** In the order in which they were asked for. */
  readonly #errands: Errand[] = [];

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#refining = parts.refine();
    this.card = parts.card;
    this.#clock = parts.device.clock;
    this.#shares = parts.traffic.openShares();
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
    this.#ended = this.#run();
  }

  submit(request: GenerationRequest, onEvent: OnEvent): void {
    this.admit(checkRequest(request, this.card, this.#open), onEvent);
  }

  /**
   * As `submit`, for a request that was checked already: on another thread, whose sender would
   * otherwise wait for this one to hear of a mistake.
   */
  admit(request: CheckedRequest, onEvent: OnEvent): void {
    if (this.#state !== 'running') {
      throw new EngineError('shutting-down', 'the engine is shutting down');
    }
    if (this.isAsleep) throw new EngineError('asleep', ASLEEP);
    invariant(!this.#open.has(request.id), 'a checked request has an id of its own');
    const sequence = new Sequence(
      request,
      request.sampling.seed ?? this.#parts.drawSeed(),
      this.#arrivals++,
      this.#clock.nowNs(),
    );
    this.#open.set(request.id, { sequence, onEvent });
    this.#parts.scheduler.add(sequence);
    this.#shares.arrived(sequence);
    this.#parts.policy.hurry();
    this.#wake?.();
  }

  cancel(id: string): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    open.sequence.cancelled = true;
    this.#parts.policy.hurry();
    this.#wake?.();
  }

  get isAsleep(): boolean {
    return this.#parts.sleeper.level > 0 || this.#errands.some(({ kind }) => kind === 'sleep');
  }

  sleep(request: SleepRequest): Promise<void> {
    const { sleeper } = this.#parts;
    if (request.mode === 'abort') {
      for (const { sequence } of this.#open.values()) sequence.cancelled = true;
    }
    return this.#whenIdle('sleep', async () => {
      if (sleeper.level === 0) await sleeper.sleep(request);
    });
  }

  wakeUp(): Promise<void> {
    const { sleeper } = this.#parts;
    return this.#whenIdle('wake-up', async () => {
      if (sleeper.level > 0) await sleeper.wakeUp();
    });
  }

  #whenIdle(kind: Errand['kind'], run: () => Promise<void>): Promise<void> {
    if (this.#state !== 'running') {
      const message = 'the engine is shutting down';
      return Promise.reject(new EngineError('shutting-down', message));
    }
    return new Promise((resolve, reject) => {
      this.#errands.push({ kind, run, resolve, reject });
      this.#wake?.();
    });
  }

  stats(): EngineStats {
    const { scheduler, tree, grammars, device, policy } = this.#parts;
    const { launches, graphLaunches } = device.counters();
    const { steps, reason } = policy.stepsPerLaunch();
    const chunk = policy.chunk();
    return {
      running: scheduler.running,
      waiting: scheduler.waiting,
      kvUsage: Math.max(tree.held / tree.pages, tree.window?.reservedFraction ?? 0),
      ...countersOf(scheduler),
      stepsPerLaunch: steps,
      stepsReason: reason,
      chunkTokens: chunk.tokens,
      chunkReason: chunk.reason,
      speculation: this.#speculation(),
      launches,
      graphLaunches,
      grammars: {
        held: grammars.held,
        heldBytes: grammars.heldWords * 4,
        ...grammars.counters,
      },
      kv: this.#kvStats(),
      snapshots: {
        held: tree.snapshots?.held ?? 0,
        places: tree.snapshots?.places ?? 0,
        ...(tree.snapshots?.counters ?? { taken: 0, used: 0, evicted: 0 }),
      },
      bridge: this.#parts.traffic.snapshot(),
    };
  }

  #speculation(): EngineStats['speculation'] {
    const now = this.#parts.policy.drafts();
    if (now === null) return undefined;
    const { drafts, draftTokens, acceptedTokens } = this.#parts.scheduler.counters;
    const counters = { drafts, draftTokens, acceptedTokens };
    return { draftsPerStep: now.drafts, reason: now.reason, ...counters };
  }

  #kvStats(): KvStats {
    const { tree, tiers, card, device } = this.#parts;
    const { accounts } = tree;
    // Of all ranks: each has its part of a page.
    const ofAll = (bytes: number) => bytes * device.ranks.length;
    const { kvBytes, kvPages, window } = card.memory;
    const queue = tiers?.mover.queue() ?? { spillNs: 0, restoreNs: 0, diskNs: 0 };
    const pagesOf = ({ counters }: TenantPages) =>
      counters.resident.reduce((sum, pages) => sum + pages, 0);
    const tenants = [...accounts.tenants()].map(([tenant, counters]) => ({ tenant, counters }));
    tenants.sort((a, b) => pagesOf(b) - pagesOf(a));
    return {
      pageBytes: ofAll((kvBytes - (window?.bytes ?? 0)) / kvPages),
      window: window && {
        tokens: window.tokens,
        pageBytes: ofAll(window.bytes / window.pages),
        pages: window.pages,
        held: tree.window!.held,
      },
      places: card.kvParts[0]!.places,
      parts: card.kvParts.map((places) => {
        const { part } = places;
        const moved = part === 'context' ? null : structuredClone(accounts.parts[part]);
        return { ...places, bytes: ofAll(places.bytes), moved };
      }),
      hostReadyBytes: tiers?.host.readyBytes ?? 0,
      spillQueueNs: queue.spillNs,
      restoreQueueNs: queue.restoreNs,
      total: structuredClone(accounts.total),
      tenants: structuredClone(tenants.slice(0, MOST_TENANTS_SHOWN)),
    };
  }

  async shutdown(graceMs: number): Promise<void> {
    if (this.#state === 'running') {
      this.#state = 'draining';
      this.#wake?.();
      await this.#drained(this.#clock.nowNs() + graceMs * 1e6);
      this.#state = 'ended';
      this.#wake?.();
    }
    await this.#ended;
    await this.#parts.tiers?.close();
    await this.#parts.device.close();
  }

  /**
   * Waits for the last request or for `untilNs`, in naps: a sleep cannot be cancelled and would
   * keep the thread.
   */
  async #drained(untilNs: number): Promise<void> {
    let ended = false;
    const noteEnd = this.#ended.then(() => {
      ended = true;
    });
    while (!ended && this.#clock.nowNs() < untilNs) {
      const napNs = Math.min(untilNs, this.#clock.nowNs() + SHUTDOWN_NAP_NS);
      await Promise.race([noteEnd, this.#clock.sleepUntilNs(napNs)]);
    }
  }

  async #run(): Promise<void> {
    try {
      await run(this.#serve());
      this.#refining.return();
      this.#endOpen('the engine shut down before this request was done');
    } catch (cause) {
      this.#state = 'ended';
      const reason = cause instanceof Error ? cause.message : String(cause);
      const error = new EngineError('engine-failed', `the engine failed: ${reason}`, undefined, {
        cause,
      });
      this.#endOpen('the engine failed', { isLost: true });
      this.#fail(error);
    }
  }

  *#serve(): Routine<void> {
    const { scheduler, policy, device } = this.#parts;
    while (this.#state !== 'ended') {
      this.#deliver(scheduler.retireCancelled(this.#clock.nowNs()));
      if (scheduler.busy) {
        const events = yield* policy.step();
        this.#shares.divide();
        this.#deliver(events);
        yield device.breathe();
        continue;
      }
      // Launches that ran ahead of the last request's end are still on their way.
      yield policy.settle();
      this.#shares.divide();
      if (scheduler.busy) continue;
      const errand = this.#errands[0];
      if (errand !== undefined) {
        yield this.#do(errand);
        continue;
      }
      // A shutdown that came meanwhile found nothing to wake.
      if (this.#state !== 'running') return;
      yield this.#idle();
    }
    yield policy.settle();
  }

  /** Puts the model to sleep or wakes it up. What cannot be done leaves everything as it was. */
  async #do(errand: Errand): Promise<void> {
    this.#refining.return();
    await this.#parts.tiers?.mover.idle();
    try {
      await errand.run();
    } catch (cause) {
      this.#errands.shift();
      const isRefusal = cause instanceof EngineError && cause.code === 'sleep-refused';
      if (!isRefusal) {
        const message = `the engine failed: ${errand.kind} did not come to its end`;
        errand.reject(new EngineError('engine-failed', message, undefined, { cause }));
        throw cause;
      }
      errand.reject(cause);
      return;
    }
    this.#errands.shift();
    // Nobody pays for what crossed, and what was timed was elsewhere in memory.
    this.#shares.divide();
    this.#refining = this.#parts.refine();
    errand.resolve();
  }

  /** Waits for something to do. Nothing runs meanwhile, so that steps can be made faster. */
  async #idle(): Promise<void> {
    const { sleeper, device } = this.#parts;
    const woken = this.#nextWake();
    // Pages that move are work on other streams, which timing must not meet.
    const isQuiet = () => this.#parts.tiers?.mover.isIdle !== false;
    if (sleeper.level === 0) {
      while (this.#wake !== undefined && isQuiet() && this.#refining.next().done !== true) {
        await device.breathe();
      }
    }
    await woken;
  }

  #nextWake(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }

  #deliver(events: readonly GenerationEvent[]): void {
    for (const event of events) {
      const open = this.#open.get(event.id);
      invariant(open !== undefined, 'events are for open requests');
      if (event.finish === undefined) {
        if (open.onEvent(event) !== NOTED) noteOthers();
        continue;
      }
      this.#open.delete(event.id);
      const crossings = this.#shares.take(open.sequence);
      // A client that left does not hear it.
      const isAborted = event.finish.reason === 'cancelled' && this.isAsleep;
      const aborted = isAborted ? ({ reason: 'error', message: ASLEEP } as const) : {};
      const finish = { ...event.finish, crossings, ...aborted };
      if (open.onEvent({ ...event, finish }) !== NOTED) noteOthers();
    }
  }

  #endOpen(message: string, how: { readonly isLost?: true } = {}): void {
    const nowNs = this.#clock.nowNs();
    for (const { reject } of this.#errands.splice(0)) {
      reject(new EngineError('shutting-down', 'the engine ended before this was done'));
    }
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const { sequence, onEvent } of open) {
      const finish = finishOf(sequence, { reason: 'error', message }, nowNs);
      const crossings = this.#shares.take(sequence);
      onEvent({ id: sequence.request.id, tokens: [], finish: { ...finish, crossings, ...how } });
    }
  }
}

/** Of a scheduler, those that every engine has. */
function countersOf({ counters }: Scheduler) {
  const { drafts, draftTokens, acceptedTokens, ...common } = counters;
  return common;
}
