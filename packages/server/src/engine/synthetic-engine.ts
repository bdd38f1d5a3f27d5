import {
  ASLEEP,
  checkRequest,
  type EngineCard,
  type EngineClient,
  EngineError,
  type EngineStats,
  type FinishReason,
  type GenerationEvent,
  type GenerationRequest,
  noPages,
  type SleepRequest,
  type TokenLogprobs,
} from '@bridgekeeper/engine';
import { HOST_CLOCK } from '../host-clock.ts';
import type { StartedEngine } from './started-engine.ts';

export interface SyntheticEngineOptions {
  /** The token at `at` of a request's output; by default the prompt over and over. */
  readonly script?: (request: GenerationRequest, at: number) => number;
  /** Tokens of one event. */
  readonly tokensPerStep?: number;
  /**
   * How steps come: whenever there is work, this many nanoseconds apart, or only when `step` is
   * called.
   */
  readonly pace?: 'free' | 'by-hand' | number;
  readonly card?: Partial<EngineCard>;
  /** What it says of drafts; absent: it has none. */
  readonly speculation?: EngineStats['speculation'];
}

interface Running {
  readonly request: GenerationRequest;
  readonly onEvent: (event: GenerationEvent) => void;
  produced: number;
}

const CARD: EngineCard = {
  modelPath: 'storyteller',
  sealRoot: null,
  architecture: 'LlamaForCausalLM',
  task: 'generate',
  hiddenSize: 8,
  vocabularySize: 4096,
  maxModelTokens: 512,
  maxRows: 64,
  maxWaiting: 1024,
  grammarBytes: 0,
  device: { kind: 'synthetic' },
  policy: 'drain-first',
  law: 'off',
  kvPages: 2048,
  pageTokens: 16,
  memory: {
    deviceBytes: 2 ** 30,
    utilization: 0.9,
    weightBytes: 0,
    activationBytes: 0,
    workspaceBytes: 0,
    stateBytes: 0,
    kvFormat: 'element',
    kvBytes: 2 ** 20,
    kvPages: 2048,
    kvTokens: 2048 * 16,
    snapshots: 0,
    snapshotBytes: 0,
    window: null,
    kvLimit: 'rows',
    maxModelTokens: 512,
    concurrency: 64,
  },
  kvParts: [{ part: 'context', bytes: 512, places: [2048, 0, 0] }],
  notes: [],
  weightBytes: 0,
  loadSeconds: 0,
  prepareSeconds: 0,
};

const TIMING = { queuedNs: 1e6, prefillNs: 2e6, decodeNs: 3e6, preemptions: 0 };

/**
 * An engine without a model: it emits made-up tokens at a set pace, and honours everything else of
 * the contract: rows and queue, limits of tokens, stop ids, cancelling, failing and shutting down.
 * `bench sse` measures the server alone with it, and the tests of the server run over it.
 */
export class SyntheticEngine implements EngineClient {
  readonly card: EngineCard;
  readonly failed: Promise<EngineError>;
  readonly #script: (request: GenerationRequest, at: number) => number;
  readonly #tokensPerStep: number;
  readonly #pace: 'free' | 'by-hand' | number;
  readonly #speculation: EngineStats['speculation'];
  #nextStepNs = 0;
  /** In order of arrival: the first `maxRows` run, the others wait. */
  readonly #open = new Map<string, Running>();
  readonly #counters = { promptTokens: 0, generatedTokens: 0, steps: 0 };
  #fail!: (error: EngineError) => void;
  #state: 'running' | 'draining' | 'ended' = 'running';
  #scheduled = false;
  #isAsleep = false;
  #drained: (() => void) | undefined;

  constructor(options: SyntheticEngineOptions = {}) {
    this.card = { ...CARD, ...options.card };
    this.#script =
      options.script ?? (({ promptTokens }, at) => promptTokens[at % promptTokens.length]!);
    this.#tokensPerStep = options.tokensPerStep ?? 1;
    this.#pace = options.pace ?? 'free';
    this.#speculation = options.speculation;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  /** Ids of the requests in flight. */
  get openIds(): readonly string[] {
    return [...this.#open.keys()];
  }

  /** The request in flight with this position in order of arrival. */
  requestAt(position: number): GenerationRequest | undefined {
    return [...this.#open.values()][position]?.request;
  }

  submit(request: GenerationRequest, onEvent: (event: GenerationEvent) => void): void {
    if (this.#state !== 'running') throw new EngineError('shutting-down', 'shutting down');
    if (this.#isAsleep) throw new EngineError('asleep', ASLEEP);
    const checked = checkRequest(request, this.card, this.#open);
    this.#open.set(request.id, { request: checked, onEvent, produced: 0 });
    this.#counters.promptTokens += request.promptTokens.length;
    this.#schedule();
  }

  cancel(id: string): void {
    const running = this.#open.get(id);
    if (running === undefined) return;
    setImmediate(() => this.#end(running, [], 'cancelled'));
  }

  stats(): EngineStats {
    const running = Math.min(this.#open.size, this.card.maxRows);
    const bytes = this.#counters.generatedTokens * 16;
    return {
      running,
      waiting: this.#open.size - running,
      kvUsage: running / this.card.maxRows,
      prefixQueriedTokens: this.#counters.promptTokens,
      prefixHitTokens: 0,
      preemptions: 0,
      ...this.#counters,
      grammars: { held: 0, heldBytes: 0, uploads: 0, hits: 0, evictions: 0 },
      kv: {
        pageBytes: 0,
        window: null,
        places: [0, 0, 0],
        parts: this.card.kvParts.map((part) => ({ ...part, places: [0, 0, 0], moved: null })),
        hostReadyBytes: 0,
        spillQueueNs: 0,
        restoreQueueNs: 0,
        total: noPages(),
        tenants: [],
      },
      snapshots: { held: 0, places: 0, taken: 0, used: 0, evicted: 0 },
      stepsPerLaunch: 1,
      stepsReason: 'this engine has no device',
      chunkTokens: 0,
      chunkReason: 'this engine has no device',
      speculation: this.#speculation,
      launches: this.#counters.steps,
      graphLaunches: 0,
      bridge: {
        law: this.card.law,
        totals: [
          {
            purpose: 'tokens',
            direction: 'd2h',
            crossings: this.#counters.steps,
            bytes,
            busyNs: this.#counters.steps * 1000,
            blockedNs: 0,
          },
        ],
        lanes: [
          {
            id: 'synthetic',
            kind: 'inline',
            crossings: this.#counters.steps,
            bytes,
            busyNs: this.#counters.steps * 1000,
            blockedNs: 0,
          },
        ],
        uptimeNs: 1e9,
      },
    };
  }

  get isAsleep(): boolean {
    return this.#isAsleep;
  }

  async sleep({ mode }: SleepRequest): Promise<void> {
    this.#isAsleep = true;
    if (mode === 'abort') {
      for (const running of [...this.#open.values()]) this.#end(running, [], 'error');
      return;
    }
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#drained = resolve;
    });
  }

  async wakeUp(): Promise<void> {
    this.#isAsleep = false;
  }

  async shutdown(graceMs: number): Promise<void> {
    if (this.#state === 'running') {
      this.#state = 'draining';
      const idle = new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
      const grace = HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + graceMs * 1e6);
      if (this.#open.size > 0 && graceMs > 0) await Promise.race([idle, grace]);
      this.#state = 'ended';
    }
    for (const running of [...this.#open.values()]) this.#end(running, [], 'error');
  }

  /** Everything stops at once, as when the engine's thread dies. */
  fail(message: string): void {
    this.#state = 'ended';
    this.#open.clear();
    this.#fail(new EngineError('engine-failed', message));
  }

  /** One step: every running request gets its next tokens. */
  step(): void {
    this.#counters.steps += 1;
    let rows = this.card.maxRows;
    for (const running of this.#open.values()) {
      if (rows-- === 0) break;
      this.#advance(running);
    }
  }

  #schedule(): void {
    if (this.#pace === 'by-hand' || this.#scheduled || this.#open.size === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#state === 'ended') return;
      if (this.#pace === 'free') this.step();
      else this.#stepsDue(this.#pace as number);
      this.#schedule();
    });
  }

  /** Catches up with the clock, so that a busy event loop does not slow the engine down. */
  #stepsDue(paceNs: number): void {
    const nowNs = HOST_CLOCK.nowNs();
    if (nowNs - this.#nextStepNs > 1e9) this.#nextStepNs = nowNs;
    for (; this.#nextStepNs <= nowNs; this.#nextStepNs += paceNs) this.step();
  }

  #advance(running: Running): void {
    const { request } = running;
    if (request.pooling !== undefined) {
      this.#end(running, [], 'stop');
      return;
    }
    const { maxTokens, minTokens, stopTokenIds } = request.sampling;
    const room = Math.min(maxTokens, this.card.maxModelTokens - request.promptTokens.length);
    const tokens: number[] = [];
    let finish: FinishReason | undefined;
    while (tokens.length < this.#tokensPerStep && finish === undefined) {
      const token = this.#script(request, running.produced);
      tokens.push(token);
      running.produced += 1;
      if (running.produced > minTokens && stopTokenIds.includes(token)) finish = 'stop';
      else if (running.produced >= room) finish = 'length';
    }
    this.#counters.generatedTokens += tokens.length;
    if (finish !== undefined) this.#end(running, tokens, finish);
    else running.onEvent({ id: request.id, tokens, ...this.#logprobs(running, tokens) });
  }

  #end(running: Running, tokens: readonly number[], reason: FinishReason): void {
    const { id } = running.request;
    if (!this.#open.delete(id)) return;
    const last = tokens[tokens.length - 1];
    running.onEvent({
      id,
      tokens,
      ...this.#logprobs(running, tokens),
      ...(reason === 'stop' ? this.#pooled(running) : {}),
      finish: {
        reason,
        ...(reason === 'stop' && last !== undefined ? { stopToken: last } : {}),
        ...(reason === 'error' ? { message: 'the engine shut down first' } : {}),
        cachedTokens: 0,
        timing: TIMING,
      },
    });
    if (this.#open.size === 0) this.#drained?.();
  }

  /** Of the first tokens alone: texts that begin alike come to the same. */
  #pooled({ request }: Running): Pick<GenerationEvent, 'pooled'> {
    const { pooling, promptTokens } = request;
    if (pooling === undefined) return {};
    if (pooling.task === 'score') return { pooled: Float32Array.of(1 / promptTokens.length) };
    const vector = Float32Array.from(
      { length: this.card.hiddenSize },
      (_, i) => promptTokens[i] ?? 1,
    );
    const length = Math.hypot(...vector);
    return { pooled: vector.map((value) => value / length) };
  }

  #logprobs(
    { request, produced }: Running,
    tokens: readonly number[],
  ): Pick<GenerationEvent, 'logprobs' | 'promptLogprobs'> {
    const { logprobs, promptLogprobs } = request.sampling;
    const first = produced === tokens.length && tokens.length > 0;
    return {
      ...(logprobs === undefined ? {} : { logprobs: tokens.map((t) => scripted(t, logprobs)) }),
      ...(promptLogprobs === undefined || !first
        ? {}
        : {
            promptLogprobs: Array.from(request.promptTokens.subarray(1), (token) =>
              scripted(token, promptLogprobs),
            ),
          }),
    };
  }
}

/** The token itself first, then its neighbours, each half as likely. */
function scripted(token: number, count: number): TokenLogprobs {
  const top = Array.from({ length: count }, (_, at) => ({
    token: (token + at) % CARD.vocabularySize,
    logprob: -(at + 1) * Math.LN2,
  }));
  return { logprob: -Math.LN2, rank: 1, top };
}

/** A synthetic engine as one that was started. */
export function syntheticStart(engine: SyntheticEngine): StartedEngine {
  return {
    engine,
    law: { value: 'off', reason: 'a synthetic engine has no bridge' },
    policy: { value: 'drain-first', reason: 'a synthetic engine has no steps' },
    bridge: { value: 'none', reason: 'a synthetic engine crosses nothing' },
    profile: null,
  };
}
