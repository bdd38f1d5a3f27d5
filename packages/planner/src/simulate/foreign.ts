import { type Profile, referenceProfile } from '@bridgekeeper/bridge';
import { GREEDY } from '@bridgekeeper/engine';
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
import type { Prediction } from './prediction.ts';
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
 * says.
 */
export function simulateForeign(scenario: Scenario, personality: Personality): Prediction {
  return new ForeignEngine(scenario, personality).run();
}

class ForeignEngine {
  readonly #scenario: Scenario;
  readonly #personality: Personality;
  readonly #pool: PrefixTree;
  readonly #scheduler: Scheduler;
  readonly #timeline: Timeline;
  readonly #observer: LoadObserver;
  /** By ids of requests. */
  readonly #watched = new Map<string, Watched>();
  readonly #prompts: Prompts;
  readonly #usesPrefixes: boolean;
  readonly #kvBytes: number;
  readonly #live = new Map<Sequence, Live>();
  readonly #inFlight: InFlight[] = [];
  #next = 0;
  #isChanged = true;
  #hasFinished = false;
  #lastCommitNs = 0;
  #beginNs = 0;
  #tokensBefore = 0;
  #heldNs = 0;
  #heldMax = 0;
  #rowSteps = 0;
  #rowsMax = 0;

  constructor(scenario: Scenario, personality: Personality) {
    const { flags, workload, model } = scenario;
    this.#scenario = scenario;
    this.#personality = personality;
    const { pages, kvBytes } = kvPages(scenario);
    this.#kvBytes = kvBytes;
    this.#usesPrefixes =
      flags.prefixCaching && workload.requests.some(({ chunks }) => chunks !== null);
    const isEnabled = this.#usesPrefixes;
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
    this.#timeline = new Timeline(scenario, personality, profile, pricer);
    this.#observer = new LoadObserver(scenario);
    this.#prompts = new Prompts(workload, model.spec.vocabularySize);
  }

  run(): Prediction {
    const { requests, concurrency } = this.#scenario.workload;
    const lastArrivalNs = requests.at(-1)?.atNs ?? 0;
    const lateNs = giveUpNs(this.#scenario.workload) ?? Number.POSITIVE_INFINITY;
    let nowNs = 0;
    if (concurrency !== null) {
      while (this.#next < Math.min(concurrency, requests.length)) this.#arrive(0);
    }
    let neverDrains: string | null = null;
    for (;;) {
      this.#arriveUpTo(nowNs);
      if (nowNs > lateNs) {
        neverDrains = this.#observer.whyNot(nowNs, lastArrivalNs);
        break;
      }
      if (!this.#scheduler.busy && this.#inFlight.length === 0) {
        const next = requests[this.#next];
        if (next === undefined) break;
        nowNs = Math.max(nowNs, next.atNs);
        continue;
      }
      nowNs = this.#step(nowNs);
    }
    return this.#prediction(neverDrains);
  }

  #arriveUpTo(nowNs: number): void {
    const { requests, concurrency } = this.#scenario.workload;
    if (concurrency !== null) return;
    while (this.#next < requests.length && requests[this.#next]!.atNs <= nowNs) {
      this.#arrive(requests[this.#next]!.atNs);
    }
  }

  #arrive(atNs: number): void {
    const index = this.#next++;
    const { promptTokens, outputTokens, tenant } = this.#scenario.workload.requests[index]!;
    const sampling = { ...GREEDY, maxTokens: outputTokens };
    const prompt = this.#usesPrefixes ? this.#prompts.tokensOf(index) : noTokens(promptTokens);
    const request = { id: String(index), tenant, promptTokens: prompt, sampling };
    const sequence = new Sequence(request, 0n, index, atNs);
    if (index === this.#scenario.warmupRequests) this.#begin(atNs);
    this.#live.set(sequence, { sequence, outputTokens, result: null });
    this.#watched.set(request.id, this.#observer.arrived(index, atNs, promptTokens));
    this.#scheduler.add(sequence);
  }

  /** The first request that counts arrives. */
  #begin(nowNs: number): void {
    this.#timeline.begin();
    this.#beginNs = nowNs;
    this.#tokensBefore = this.#scheduler.counters.generatedTokens;
    this.#lastCommitNs = Math.max(this.#lastCommitNs, nowNs);
    this.#heldNs = 0;
    this.#rowSteps = 0;
  }

  /** Plans and launches a step, or takes one in; when its thread goes on. */
  #step(nowNs: number): number {
    const { maxBatchTokens } = this.#scenario.flags;
    const plan = this.#scheduler.plan(nowNs, 1, maxBatchTokens);
    if (plan.decode.length + plan.prefill.length === 0) return this.#commit(nowNs);
    const chunks = plan.prefill.map(({ start, length }) => ({ start, length }));
    const lengths = plan.decode.map((sequence) => sequence.computed);
    const ended = plan.prefill.filter(({ last }) => last).map(({ sequence }) => sequence);
    if (chunks.length > 0) this.#isChanged = true;
    const launched = this.#launch(nowNs, lengths, chunks, ended.length);
    const rows = [...plan.decode, ...ended].map((sequence) => this.#live.get(sequence)!);
    const results = rows.map((live) => resultOf(live));
    this.#inFlight.push({ plan, launched, rows, results });
    if (this.#personality.runsAhead && this.#inFlight.length < 2) return launched.threadFreeNs;
    return this.#commit(launched.threadFreeNs);
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

  /** Takes in the oldest step; when the thread that waited for it goes on. */
  #commit(nowNs: number): number {
    const oldest = this.#inFlight.shift()!;
    const { plan, launched, rows, results } = oldest;
    const atNs = Math.max(nowNs, launched.resultsNs);
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
      if (tokens.length > 0) this.#observer.tokens(watched, launched.resultsNs, tokens.length);
      if (finish === undefined) continue;
      this.#watched.delete(id);
      this.#end(watched, launched.resultsNs);
    }
    for (const { sequence } of rows) if (sequence.phase === 'finished') this.#live.delete(sequence);
    return atNs;
  }

  #end(watched: Watched, nowNs: number): void {
    this.#observer.ended(watched, nowNs);
    this.#isChanged = true;
    this.#hasFinished = true;
    const { requests, concurrency } = this.#scenario.workload;
    if (concurrency !== null && this.#next < requests.length) this.#arrive(nowNs);
  }

  /** The time-weighted use of KV. */
  #sample(nowNs: number): void {
    this.#heldNs += this.#pool.held * (nowNs - this.#lastCommitNs);
    this.#heldMax = Math.max(this.#heldMax, this.#pool.held);
    this.#lastCommitNs = nowNs;
  }

  #prediction(neverDrains: string | null): Prediction {
    const { model, gpu, law, workload, engine, warmupRequests, flags } = this.#scenario;
    const { prefixHitTokens, prefixQueriedTokens, preemptions, generatedTokens } =
      this.#scheduler.counters;
    const elapsedNs = Math.max(1, this.#lastCommitNs - this.#beginNs);
    const pages = this.#pool.pages;
    return {
      engine,
      model: model.name,
      gpu: gpu.name,
      law: law?.name ?? 'off',
      workload: workload.name,
      requests: workload.requests.length - warmupRequests,
      neverDrains,
      ...this.#observer.summary(),
      rows: { mean: this.#rowSteps / Math.max(1, this.#timeline.steps), max: this.#rowsMax },
      step: this.#timeline.breakdown(elapsedNs),
      crossings: this.#timeline.crossings(generatedTokens - this.#tokensBefore),
      launchesPerStep: this.#timeline.launches / Math.max(1, this.#timeline.steps),
      kv: {
        bytes: this.#kvBytes,
        tokens: pages * flags.pageTokens,
        meanUsed: this.#heldNs / elapsedNs / pages,
        peakUsed: this.#heldMax / pages,
        hitFraction: prefixHitTokens / Math.max(1, prefixQueriedTokens),
        preemptions,
      },
      coldStart: [],
      timeline: this.#timeline.timeline,
      notModelled: this.#personality.notes,
    };
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
  const part = (flags.kvFormat === 'element' ? 1 : 0.5) / tensorParallel;
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
