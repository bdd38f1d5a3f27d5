import { type Profile, referenceProfile } from '@bridgekeeper/bridge';
import { GREEDY } from '@bridgekeeper/engine';
import { ReplicaChoice, type ReplicaLoad } from '@bridgekeeper/engine/replicas';
import {
  PrefixTree,
  type RowResult,
  Scheduler,
  Sequence,
  type StepPlan,
} from '@bridgekeeper/engine/scheduler';
import { PlanError } from '../errors.ts';
import { giveUpNs, LoadObserver, type Watched } from './load.ts';
import type { Personality } from './personality.ts';
import type { CrossingRate, LaneSpan, Prediction, StepBreakdown } from './prediction.ts';
import { StepPricer } from './pricing.ts';
import { noTokens, Prompts } from './prompts.ts';
import type { Scenario } from './scenario.ts';
import { type LaunchedStep, Timeline } from './timeline.ts';

/** A step on its way. */
interface InFlight {
  readonly plan: StepPlan;
  readonly launched: LaunchedStep;
  /** Of whom it brings a token, with their results. */
  readonly rows: readonly Live[];
  readonly results: readonly RowResult[];
}

/** A request that is open. */
interface Live {
  readonly sequence: Sequence;
  readonly outputTokens: number;
  /** While its row has this epoch. */
  result: RowResult | null;
}

/**
 * Another engine: the same scheduler and KV pages, and what crosses and launches as its personality
 * says. Several beside each other are given requests as our own server gives them.
 */
export function simulateForeign(scenario: Scenario, personality: Personality): Prediction {
  return new ForeignLoad(scenario, personality).run();
}

/** What becomes of an engine's requests. */
interface Watcher {
  readonly observer: LoadObserver;
  /** A request has all its tokens. */
  ended(watched: Watched, nowNs: number): void;
}

/** The load, and the engines that take it. */
class ForeignLoad implements Watcher {
  readonly observer: LoadObserver;
  readonly #scenario: Scenario;
  readonly #personality: Personality;
  readonly #engines: readonly ForeignEngine[];
  readonly #choice = new ReplicaChoice();
  readonly #prompts: Prompts;
  readonly #areRead: boolean;
  #next = 0;

  constructor(scenario: Scenario, personality: Personality) {
    const { flags, workload, model } = scenario;
    this.observer = new LoadObserver(scenario);
    this.#scenario = scenario;
    this.#personality = personality;
    this.#engines = Array.from({ length: flags.dataParallel }, (_, number) => {
      const own = flags.dataParallel === 1 ? '' : `engine-${number}/`;
      return new ForeignEngine(scenario, personality, this, own);
    });
    this.#prompts = new Prompts(workload, model.spec.vocabularySize);
    // Which engine a request goes to follows from its prompt.
    this.#areRead = usesPrefixes(scenario) || this.#engines.length > 1;
  }

  run(): Prediction {
    const { requests, concurrency } = this.#scenario.workload;
    const lastArrivalNs = requests.at(-1)?.atNs ?? 0;
    const lateNs = giveUpNs(this.#scenario.workload) ?? Number.POSITIVE_INFINITY;
    if (concurrency !== null) {
      while (this.#next < Math.min(concurrency, requests.length)) this.#arrive(0);
    }
    for (;;) {
      const engine = this.#earliest();
      if (engine === undefined) {
        const next = requests[this.#next];
        if (next === undefined) return this.#prediction(null);
        this.#arrive(next.atNs);
        continue;
      }
      // What comes meanwhile may be for an engine that has nothing to do before then.
      if (this.#arriveUpTo(engine.nowNs)) continue;
      if (engine.nowNs > lateNs) {
        return this.#prediction(this.observer.whyNot(engine.nowNs, lastArrivalNs));
      }
      engine.step();
    }
  }

  /** Of those that have something to do, the one whose thread is furthest behind. */
  #earliest(): ForeignEngine | undefined {
    let earliest: ForeignEngine | undefined;
    for (const engine of this.#engines) {
      if (engine.isBusy && (earliest === undefined || engine.nowNs < earliest.nowNs)) {
        earliest = engine;
      }
    }
    return earliest;
  }

  /** Whether any came. */
  #arriveUpTo(nowNs: number): boolean {
    const { requests, concurrency } = this.#scenario.workload;
    if (concurrency !== null) return false;
    const before = this.#next;
    while (this.#next < requests.length && requests[this.#next]!.atNs <= nowNs) {
      this.#arrive(requests[this.#next]!.atNs);
    }
    return this.#next > before;
  }

  #arrive(atNs: number): void {
    const index = this.#next++;
    const { promptTokens, tenant } = this.#scenario.workload.requests[index]!;
    const prompt = this.#areRead ? this.#prompts.tokensOf(index) : noTokens(promptTokens);
    if (index === this.#scenario.warmupRequests) {
      for (const engine of this.#engines) engine.begin(atNs);
    }
    const watched = this.observer.arrived(index, atNs, promptTokens);
    const only = this.#engines.length === 1;
    const number = only ? 0 : this.#choice.choose(tenant, prompt, this.#engines)!;
    this.#engines[number]!.arrive(index, atNs, prompt, watched);
  }

  ended(watched: Watched, nowNs: number): void {
    this.observer.ended(watched, nowNs);
    const { requests, concurrency } = this.#scenario.workload;
    if (concurrency !== null && this.#next < requests.length) this.#arrive(nowNs);
  }

  #prediction(neverDrains: string | null): Prediction {
    const { model, gpu, law, workload, engine, warmupRequests } = this.#scenario;
    const count = this.#engines.length;
    const all = this.#engines.map((each) => each.account());
    const tokens = all.reduce((sum, each) => sum + each.tokens, 0);
    const sum = (of: (account: Account) => number) =>
      all.reduce((total, account) => total + of(account), 0);
    const steps = Math.max(
      1,
      sum((account) => account.step.steps),
    );
    return {
      engine,
      model: model.name,
      gpu: gpu.name,
      law: law?.name ?? 'off',
      workload: workload.name,
      requests: workload.requests.length - warmupRequests,
      neverDrains,
      ...this.observer.summary(),
      rows: {
        mean: sum(({ rowSteps }) => rowSteps) / steps,
        max: Math.max(...all.map(({ rowsMax }) => rowsMax)),
      },
      ...(count === 1 ? {} : { replicas: count }),
      step: meanStep(all.map(({ step }) => step)),
      crossings: sumOfCrossings(this.#engines.map((each) => each.crossings(tokens))),
      launchesPerStep: sum(({ launches }) => launches) / steps,
      kv: {
        bytes: all[0]!.kvBytes,
        tokens: all[0]!.kvTokens,
        meanUsed: sum(({ meanUsed }) => meanUsed) / count,
        peakUsed: Math.max(...all.map(({ peakUsed }) => peakUsed)),
        hitFraction:
          sum(({ hits }) => hits) /
          Math.max(
            1,
            sum(({ queried }) => queried),
          ),
        preemptions: sum(({ preemptions }) => preemptions),
      },
      coldStart: [],
      timeline: this.#engines.flatMap(({ timeline }) => timeline),
      notModelled: [
        ...this.#personality.notes,
        ...(count === 1 ? [] : replicaNotes(this.#scenario)),
      ],
    };
  }
}

function usesPrefixes({ flags, workload }: Scenario): boolean {
  return flags.prefixCaching && workload.requests.some(({ chunks }) => chunks !== null);
}

function replicaNotes({ engine, model }: Scenario): string[] {
  const hasExperts = model.spec.layerKinds.some(({ feedForward }) => feedForward.kind !== 'dense');
  return [
    'How it gives requests to its engines: they get them as ours would.',
    ...(hasExperts && engine.startsWith('vllm-')
      ? ['That it shares experts out over the GPUs of all its engines: each has the whole model.']
      : []),
  ];
}

/** What one engine did since the load's warm-up. */
interface Account {
  readonly step: StepBreakdown;
  readonly launches: number;
  readonly tokens: number;
  readonly rowSteps: number;
  readonly rowsMax: number;
  readonly kvBytes: number;
  readonly kvTokens: number;
  readonly meanUsed: number;
  readonly peakUsed: number;
  readonly hits: number;
  readonly queried: number;
  readonly preemptions: number;
}

/** Of several engines' steps. */
function meanStep(all: readonly StepBreakdown[]): StepBreakdown {
  const [first, ...others] = all as [StepBreakdown, ...StepBreakdown[]];
  if (others.length === 0) return first;
  const steps = all.reduce((sum, each) => sum + each.steps, 0);
  const mean = Object.fromEntries(
    Object.keys(first).map((part) => [
      part,
      all.reduce((sum, each) => sum + each.steps * each[part as keyof StepBreakdown], 0) /
        Math.max(1, steps),
    ]),
  ) as Record<keyof StepBreakdown, number>;
  return { ...mean, steps };
}

function sumOfCrossings(all: readonly (readonly CrossingRate[])[]): CrossingRate[] {
  const sums = new Map<string, CrossingRate>();
  for (const one of all.flat()) {
    const key = `${one.direction} ${one.name}`;
    const known = sums.get(key);
    const add = (part: 'crossings' | 'bytes' | 'crossingsPerToken' | 'bytesPerToken') =>
      (known?.[part] ?? 0) + one[part];
    sums.set(key, {
      name: one.name,
      direction: one.direction,
      crossings: add('crossings'),
      bytes: add('bytes'),
      crossingsPerToken: add('crossingsPerToken'),
      bytesPerToken: add('bytesPerToken'),
    });
  }
  return [...sums.values()];
}

/** One of the engines, on a thread of its own. */
class ForeignEngine implements ReplicaLoad {
  readonly isReady = true;
  readonly maxRows: number;
  /** When its thread goes on. */
  nowNs = 0;
  readonly #scenario: Scenario;
  readonly #personality: Personality;
  readonly #watcher: Watcher;
  readonly #pool: PrefixTree;
  readonly #scheduler: Scheduler;
  readonly #timeline: Timeline;
  /** By ids of requests. */
  readonly #watched = new Map<string, Watched>();
  readonly #kvBytes: number;
  readonly #live = new Map<Sequence, Live>();
  readonly #inFlight: InFlight[] = [];
  #open = 0;
  #isChanged = true;
  #hasFinished = false;
  #lastCommitNs = 0;
  #beginNs = 0;
  #tokensBefore = 0;
  #heldNs = 0;
  #heldMax = 0;
  #rowSteps = 0;
  #rowsMax = 0;

  /** `own` comes before the names of its lanes. */
  constructor(scenario: Scenario, personality: Personality, watcher: Watcher, own: string) {
    const { flags } = scenario;
    this.maxRows = flags.maxRows;
    this.#scenario = scenario;
    this.#personality = personality;
    this.#watcher = watcher;
    const { pages, kvBytes } = kvPages(scenario);
    this.#kvBytes = kvBytes;
    const isEnabled = usesPrefixes(scenario);
    this.#pool = new PrefixTree({ pages, pageTokens: flags.pageTokens, isEnabled });
    this.#scheduler = new Scheduler(
      {
        maxRows: flags.maxRows,
        maxBatchTokens: flags.maxBatchTokens,
        pageTokens: flags.pageTokens,
        maxLines: flags.maxRows,
        maxCountTokens: Number.MAX_SAFE_INTEGER,
        chunkedPrefill: true,
      },
      this.#pool,
    );
    const profile = scenario.law ?? nativeProfile(scenario);
    const pricer = new StepPricer(scenario, personality.extraKernelsPerLayer);
    this.#timeline = new Timeline(scenario, personality, profile, pricer, own);
  }

  get open(): number {
    return this.#open;
  }

  get isBusy(): boolean {
    return this.#scheduler.busy || this.#inFlight.length > 0;
  }

  get timeline(): readonly LaneSpan[] {
    return this.#timeline.timeline;
  }

  arrive(index: number, atNs: number, prompt: Uint32Array, watched: Watched): void {
    const { outputTokens, tenant } = this.#scenario.workload.requests[index]!;
    const sampling = { ...GREEDY, maxTokens: outputTokens };
    const request = { id: String(index), tenant, promptTokens: prompt, sampling };
    const sequence = new Sequence(request, 0n, index, atNs);
    if (!this.isBusy) this.nowNs = Math.max(this.nowNs, atNs);
    this.#open += 1;
    this.#live.set(sequence, { sequence, outputTokens, result: null });
    this.#watched.set(request.id, watched);
    this.#scheduler.add(sequence);
  }

  /** The first request that counts arrives. */
  begin(nowNs: number): void {
    this.#timeline.begin();
    this.#beginNs = nowNs;
    this.#tokensBefore = this.#scheduler.counters.generatedTokens;
    this.#lastCommitNs = Math.max(this.#lastCommitNs, nowNs);
    this.#heldNs = 0;
    this.#rowSteps = 0;
  }

  /** Plans and launches a step, or takes one in. */
  step(): void {
    const { nowNs } = this;
    const { maxBatchTokens } = this.#scenario.flags;
    const plan = this.#scheduler.plan(nowNs, 1, maxBatchTokens);
    if (plan.decode.length + plan.prefill.length === 0) {
      this.#commit(nowNs);
      return;
    }
    const chunks = plan.prefill.map(({ start, length }) => ({ start, length }));
    const lengths = plan.decode.map((sequence) => sequence.computed);
    const ended = plan.prefill.filter(({ last }) => last).map(({ sequence }) => sequence);
    if (chunks.length > 0) this.#isChanged = true;
    const launched = this.#launch(nowNs, lengths, chunks, ended.length);
    const rows = [...plan.decode, ...ended].map((sequence) => this.#live.get(sequence)!);
    const results = rows.map((live) => resultOf(live));
    this.#inFlight.push({ plan, launched, rows, results });
    if (this.#personality.runsAhead && this.#inFlight.length < 2) {
      this.nowNs = launched.threadFreeNs;
      return;
    }
    this.#commit(launched.threadFreeNs);
  }

  #launch(
    nowNs: number,
    lengths: readonly number[],
    chunks: readonly { readonly start: number; readonly length: number }[],
    endedPrompts: number,
  ): LaunchedStep {
    const { pageTokens } = this.#scenario.flags;
    let newBlocks = 0;
    for (const length of lengths) if (length % pageTokens === 1) newBlocks += 1;
    let tokens = lengths.length;
    for (const { length } of chunks) {
      tokens += length;
      newBlocks += Math.ceil(length / pageTokens);
    }
    const launched = this.#timeline.launch(nowNs, {
      work: { lengths, chunks, lines: lengths.length + endedPrompts },
      tokens,
      newBlocks,
      isBatchChanged: this.#isChanged,
      hasFinished: this.#hasFinished,
    });
    this.#isChanged = false;
    this.#hasFinished = false;
    this.#rowSteps += lengths.length;
    this.#rowsMax = Math.max(this.#rowsMax, lengths.length + chunks.length);
    return launched;
  }

  /** Takes in the oldest step. */
  #commit(nowNs: number): void {
    const oldest = this.#inFlight.shift()!;
    const { plan, launched, rows, results } = oldest;
    this.nowNs = Math.max(nowNs, launched.resultsNs);
    const ends = rows.map(({ sequence, outputTokens }, at) =>
      sequence.generated + 1 >= outputTokens
        ? { ...results[at]!, finish: 'length' as const }
        : results[at]!,
    );
    const events = this.#scheduler.commit(
      plan,
      { rows: ends, promptLogprobs: [] },
      launched.resultsNs,
    );
    this.#sample(launched.resultsNs);
    for (const { id, tokens, finish } of events) {
      const watched = this.#watched.get(id)!;
      const { observer } = this.#watcher;
      if (tokens.length > 0) observer.tokens(watched, launched.resultsNs, tokens.length);
      if (finish === undefined) continue;
      this.#watched.delete(id);
      this.#end(watched, launched.resultsNs);
    }
    for (const { sequence } of rows) if (sequence.phase === 'finished') this.#live.delete(sequence);
  }

  #end(watched: Watched, nowNs: number): void {
    this.#open -= 1;
    this.#isChanged = true;
    this.#hasFinished = true;
    this.#watcher.ended(watched, nowNs);
  }

  /** The time-weighted use of KV. */
  #sample(nowNs: number): void {
    this.#heldNs += this.#pool.held * (nowNs - this.#lastCommitNs);
    this.#heldMax = Math.max(this.#heldMax, this.#pool.held);
    this.#lastCommitNs = nowNs;
  }

  account(): Account {
    const { counters } = this.#scheduler;
    const elapsedNs = Math.max(1, this.#lastCommitNs - this.#beginNs);
    const { pages } = this.#pool;
    return {
      step: this.#timeline.breakdown(elapsedNs),
      launches: this.#timeline.launches,
      tokens: counters.generatedTokens - this.#tokensBefore,
      rowSteps: this.#rowSteps,
      rowsMax: this.#rowsMax,
      kvBytes: this.#kvBytes,
      kvTokens: pages * this.#scenario.flags.pageTokens,
      meanUsed: this.#heldNs / elapsedNs / pages,
      peakUsed: this.#heldMax / pages,
      hits: counters.prefixHitTokens,
      queried: counters.prefixQueriedTokens,
      preemptions: counters.preemptions,
    };
  }

  /** By the tokens that all engines made. */
  crossings(tokens: number): CrossingRate[] {
    return this.#timeline.crossings(tokens);
  }
}

function resultOf(live: Live): RowResult {
  const { row, epoch } = live.sequence;
  if (live.result === null || live.result.epoch !== epoch) {
    live.result = { row, epoch, token: 1, finish: undefined, logprobs: undefined };
  }
  return live.result;
}

/** A line of activations is some ten vectors of the hidden size, in bf16. */
const ACTIVATION_BYTES_PER_HIDDEN = 20;
const LOGIT_BYTES = 4;

/** Pages of KV beside weights, activations, and what requests keep whatever their length. */
function kvPages({ model, gpu, law, flags }: Scenario): { pages: number; kvBytes: number } {
  const { tensorParallel, pageTokens, maxRows, maxBatchTokens, maxModelTokens } = flags;
  const { hiddenSize, vocabularySize } = model.spec;
  const reserved = law?.confidential === true ? gpu.reservedBytesUnderCc.value : 0;
  const allowed = (gpu.memoryBytes.value - reserved) * flags.memoryUtilization;
  const activations =
    maxBatchTokens * hiddenSize * ACTIVATION_BYTES_PER_HIDDEN +
    maxRows * vocabularySize * LOGIT_BYTES;
  const part = (flags.kvFormat === 'element' ? 1 : 0.5) / (model.isKvDivided ? tensorParallel : 1);
  const left = allowed - model.weightBytes / tensorParallel - activations;
  const state = Math.min(maxRows * model.stateBytesPerRequest * part, left / 2);
  const pageBytes = model.kvBytesPerToken * part * pageTokens;
  const pages = Math.floor(Math.max(0, left - state) / pageBytes);
  if (pages * pageTokens < maxModelTokens) {
    const message =
      `${model.name} does not fit ${tensorParallel} x ${gpu.title}: beside its weights there is ` +
      `room for ${pages * pageTokens} tokens of KV, and one request may have ${maxModelTokens}. ` +
      'Lower --max-model-len, raise --tensor-parallel-size, or use --kv-cache-dtype fp8';
    throw new PlanError('does-not-fit', message);
  }
  return { pages, kvBytes: pages * pageBytes };
}

/** What a GPU's bridge does without confidential computing. */
function nativeProfile({ gpu }: Scenario): Profile {
  if (gpu.name.startsWith('h')) return referenceProfile('h100-native');
  return referenceProfile(gpu.name.includes('b200') ? 'b200-native' : 'b300-native');
}
