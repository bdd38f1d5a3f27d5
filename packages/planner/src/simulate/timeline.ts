import type { Profile } from '@bridgekeeper/bridge';
import { FRESH_CHANNEL, type Law, profileLaw } from '@bridgekeeper/bridge';
import type { ModelTables } from '../models/tables.ts';
import type { CrossingBytes, EngineCrossing, Personality } from './personality.ts';
import type { CrossingRate, LaneSpan, StepBreakdown } from './prediction.ts';
import { type StepPricer, type StepWork, totalNs } from './pricing.ts';
import type { Scenario } from './scenario.ts';

/** What a step is besides its work: what decides which copies are made. */
export interface StepFacts {
  readonly work: StepWork;
  /** Scheduled tokens, of rows and prompts. */
  readonly tokens: number;
  readonly newBlocks: number;
  readonly isBatchChanged: boolean;
  readonly hasFinished: boolean;
}

/** When a launched step lets its thread go on, and when its results are there. */
export interface LaunchedStep {
  readonly threadFreeNs: number;
  readonly resultsNs: number;
}

/** Of a step's time, in the order of `StepBreakdown`. */
type Part = Exclude<keyof StepBreakdown, 'steps' | 'stepNs' | 'idleNs'>;
type Waiting = 'tollNs' | 'transferNs' | 'allocationNs' | 'hostNs' | 'launchNs';

/** What the thread did since the GPU's last work, to say what the GPU then waited for. */
interface Span {
  readonly what: Waiting;
  readonly startNs: number;
  readonly endNs: number;
}

/** A kernel that is launched last still takes this. */
const LAST_KERNEL_NS = 3_000;
/** A copy on a stream that nobody waits for keeps the GPU's stream for this beside its bytes. */
const STREAM_COPY_NS = 2_000;

/**
 * One thread that launches, and one GPU: where a step's copies and launches of another engine fall
 * in time, under a law. Copies on the step's stream wait for the work before them, and their thread
 * with them where the law blocks it; a launch waits for its thread.
 */
export class Timeline {
  readonly #law: Law;
  readonly #profile: Profile;
  readonly #isConfidential: boolean;
  readonly #personality: Personality;
  readonly #pricer: StepPricer;
  readonly #scenario: Scenario;
  readonly #layers: number;
  readonly #tables: ModelTables;
  readonly #rowBlocks: number;
  readonly #own: string;
  readonly #crossings = new Map<
    string,
    { direction: 'h2d' | 'd2h'; count: number; bytes: number }
  >();
  readonly #sums: Record<Part, number> = {
    memoryNs: 0,
    computeNs: 0,
    kernelNs: 0,
    collectiveNs: 0,
    tollNs: 0,
    transferNs: 0,
    allocationNs: 0,
    blockedNs: 0,
    launchNs: 0,
    hostNs: 0,
  };
  readonly timeline: LaneSpan[] = [];
  #spans: Span[] = [];
  #threadNs = 0;
  #gpuFreeNs = 0;
  steps = 0;
  launches = 0;

  /** `own` comes before the names of its lanes. */
  constructor(
    scenario: Scenario,
    personality: Personality,
    profile: Profile,
    pricer: StepPricer,
    own: string,
  ) {
    this.#own = own;
    const { model, flags } = scenario;
    this.#scenario = scenario;
    this.#profile = profile;
    this.#law = profileLaw(profile);
    this.#isConfidential = profile.confidential;
    this.#personality = personality;
    this.#pricer = pricer;
    this.#layers = model.spec.layers;
    this.#tables = model.tables;
    // vLLM rounds rows of its block table up to 128 tokens.
    this.#rowBlocks = (Math.ceil(flags.maxModelTokens / 128) * 128) / flags.pageTokens;
  }

  /** What came before was the load's warm-up: accounts begin now. */
  begin(): void {
    for (const part of Object.keys(this.#sums) as Part[]) this.#sums[part] = 0;
    this.#crossings.clear();
    this.steps = 0;
    this.launches = 0;
  }

  /** Launches a step that its thread begins with at `nowNs`. */
  launch(nowNs: number, facts: StepFacts): LaunchedStep {
    const { h2d, host, launches, d2h } = this.#personality;
    const { hostFactor = 1 } = this.#scenario;
    const rows = facts.work.lengths.length + facts.work.chunks.length;
    const busyBeforeNs = this.#gpuFreeNs;
    this.#threadNs = Math.max(this.#threadNs, nowNs);
    this.#spend('hostNs', hostFactor * (host.beforeNs.fixed + rows * host.beforeNs.perRow));
    for (const crossing of h2d) {
      if (!this.#isMade(crossing, facts)) continue;
      const { count = 1 } = crossing;
      const copies = typeof count === 'number' ? count : this.#tables[count];
      const bytes = this.#bytesOf(crossing.bytes, facts);
      for (let i = 0; i < copies; i++) this.#upload(crossing, bytes);
    }
    this.#spend('hostNs', hostFactor * (host.afterNs.fixed + rows * host.afterNs.perRow));
    this.#launchKernels(launches.before);
    const times = this.#pricer.price(facts.work);
    const workNs = totalNs(times);
    const pieces = this.#pieces(facts.work.chunks.length > 0);
    const { launchNs, graphLaunchNs } = this.#profile.submission;
    const pieceNs = pieces === 1 ? graphLaunchNs : launchNs + host.pieceNs;
    this.#spend('launchNs', pieceNs);
    const startNs = Math.max(this.#gpuFreeNs, this.#threadNs);
    this.#explainGap(busyBeforeNs, startNs);
    this.#spend('launchNs', (pieces - 1) * pieceNs);
    let endNs = Math.max(startNs + workNs, this.#threadNs + workNs / pieces);
    this.launches += pieces;
    this.#launchKernels(launches.after);
    endNs = Math.round(Math.max(endNs, this.#threadNs + LAST_KERNEL_NS));
    this.#sums.memoryNs += times.memoryNs;
    this.#sums.computeNs += times.computeNs;
    this.#sums.kernelNs += times.kernelNs;
    this.#sums.collectiveNs += times.collectiveNs;
    this.#sums.launchNs += endNs - startNs - workNs;
    this.#gpuFreeNs = endNs;
    this.#show('GPU', facts.work.chunks.length > 0 ? 'prompts' : 'step', startNs, endNs);
    this.#spans = [];
    this.steps += 1;
    let resultsNs = endNs;
    for (const crossing of d2h) {
      resultsNs = this.#download(crossing, this.#bytesOf(crossing.bytes, facts), resultsNs);
    }
    return { threadFreeNs: this.#threadNs, resultsNs };
  }

  #isMade({ when }: EngineCrossing, facts: StepFacts): boolean {
    if (when === 'step') return true;
    if (when === 'batch-changed') return facts.isBatchChanged;
    if (when === 'admission') return facts.work.chunks.length > 0;
    return when === 'finish' ? facts.hasFinished : facts.newBlocks > 0;
  }

  #bytesOf(bytes: CrossingBytes, { work, tokens, newBlocks }: StepFacts): number {
    const rows = work.lengths.length + work.chunks.length;
    const { fixed = 0, maxRows = 0, rowBlocks = 0 } = bytes;
    return (
      fixed +
      (bytes.rows ?? 0) * rows +
      (bytes.tokens ?? 0) * tokens +
      rowBlocks * rows * this.#rowBlocks +
      (bytes.newBlocks ?? 0) * newBlocks +
      maxRows * this.#scenario.flags.maxRows
    );
  }

  #pieces(hasPrompts: boolean): number {
    const { piecesPerLayer, piecesPerLinearLayer, eagerPerLayer } = this.#personality.launches;
    const { graphs } = this.#scenario.flags;
    if (graphs === 'eager') return eagerPerLayer * this.#layers + 1;
    if (graphs === 'full' && !hasPrompts) return 1;
    const { linearLayers } = this.#tables;
    return piecesPerLayer * (this.#layers - linearLayers) + piecesPerLinearLayer * linearLayers + 1;
  }

  /** The thread's own time. */
  #spend(what: Waiting, ns: number): void {
    if (ns <= 0) return;
    const startNs = this.#threadNs;
    this.#threadNs += Math.round(ns);
    this.#spans.push({ what, startNs, endNs: this.#threadNs });
    if (what === 'hostNs') this.#show('thread', 'host', startNs, this.#threadNs);
  }

  #launchKernels(count: number): void {
    this.launches += count;
    this.#spend('launchNs', count * this.#profile.submission.launchNs);
  }

  #allocate(allocates: boolean | undefined): void {
    if (allocates === true) this.#spend('allocationNs', this.#profile.pinnedAllocationNs ?? 0);
  }

  #upload({ name, memory: usual, allocates, stream }: EngineCrossing, bytes: number): void {
    const memory = this.#isConfidential ? (this.#personality.underCc?.memory ?? usual) : usual;
    if (memory === 'pinned') this.#allocate(allocates);
    const crossing = { direction: 'h2d', bytes, purpose: 'command', tenant: '', memory } as const;
    const streamReadyNs = stream === 'compute' ? this.#gpuFreeNs : 0;
    const { startedNs, completedNs, issuerFreeNs } = this.#law.schedule(crossing, {
      issuedNs: this.#threadNs,
      streamReadyNs,
      channel: FRESH_CHANNEL,
      contexts: 1,
    });
    const toll = this.#profile.crossings.h2d[memory].idleTollNs;
    this.#count(name, 'h2d', bytes);
    this.#show('copies', name, startedNs, completedNs);
    if (issuerFreeNs >= completedNs) {
      this.#spans.push({ what: 'tollNs', startNs: startedNs, endNs: startedNs + toll });
      this.#spans.push({ what: 'transferNs', startNs: startedNs + toll, endNs: completedNs });
      this.#threadNs = completedNs;
      if (stream === 'compute') this.#gpuFreeNs = Math.max(this.#gpuFreeNs, completedNs);
      return;
    }
    this.#spend('tollNs', issuerFreeNs - this.#threadNs);
    if (stream !== 'compute') return;
    const onStreamNs = completedNs - startedNs - Math.max(0, toll - STREAM_COPY_NS);
    this.#gpuFreeNs = Math.max(this.#gpuFreeNs, issuerFreeNs) + onStreamNs;
  }

  /** When it is there: behind `readyNs`. */
  #download(
    { name, allocates }: Personality['d2h'][number],
    bytes: number,
    readyNs: number,
  ): number {
    const readback = this.#isConfidential
      ? (this.#personality.underCc?.readback ?? this.#personality.readback)
      : this.#personality.readback;
    const isHelped = readback === 'helper';
    if (!isHelped) this.#allocate(allocates);
    const memory = 'pinned';
    const crossing = { direction: 'd2h', bytes, purpose: 'tokens', tenant: '', memory } as const;
    const issuedNs = isHelped ? readyNs : this.#threadNs;
    const { startedNs, completedNs, issuerFreeNs } = this.#law.schedule(crossing, {
      issuedNs,
      streamReadyNs: readyNs,
      channel: FRESH_CHANNEL,
      contexts: 1,
    });
    this.#count(name, 'd2h', bytes);
    this.#show(isHelped ? 'readbacks' : 'copies', name, startedNs, completedNs);
    // The synchronous engine waits for what it reads in any case.
    const isWaited = !isHelped && (issuerFreeNs >= completedNs || !this.#personality.runsAhead);
    if (isWaited) {
      this.#spans.push({ what: 'tollNs', startNs: startedNs, endNs: completedNs });
      this.#threadNs = Math.max(this.#threadNs, completedNs);
    } else if (!isHelped) {
      this.#spend('tollNs', issuerFreeNs - issuedNs);
    }
    return completedNs;
  }

  #count(name: string, direction: 'h2d' | 'd2h', bytes: number): void {
    const key = `${direction} ${name}`;
    const known = this.#crossings.get(key);
    if (known === undefined) this.#crossings.set(key, { direction, count: 1, bytes });
    else {
      known.count += 1;
      known.bytes += bytes;
    }
  }

  /** What the GPU waited for between two steps: what its thread did meanwhile. */
  #explainGap(fromNs: number, toNs: number): void {
    if (toNs <= fromNs) return;
    // Where a thread that would run ahead was blocked, its own work is exposed by that.
    const isExposed = this.#isConfidential && this.#personality.runsAhead;
    for (const { what, startNs, endNs } of this.#spans) {
      const ns = Math.min(endNs, toNs) - Math.max(startNs, fromNs);
      if (ns <= 0) continue;
      this.#sums[what === 'hostNs' && isExposed ? 'blockedNs' : what] += ns;
    }
  }

  #show(lane: string, name: string, startNs: number, endNs: number): void {
    const { window } = this.#scenario;
    if (window === null || endNs < window.fromNs || startNs > window.toNs) return;
    this.timeline.push({ lane: `${this.#own}${lane}`, name, startNs, endNs });
  }

  breakdown(elapsedNs: number): StepBreakdown {
    const steps = Math.max(1, this.steps);
    const each = Object.fromEntries(
      Object.entries(this.#sums).map(([name, ns]) => [name, ns / steps]),
    ) as Record<Part, number>;
    const explained = Object.values(each).reduce((sum, ns) => sum + ns, 0);
    const stepNs = elapsedNs / steps;
    return { steps: this.steps, stepNs, ...each, idleNs: Math.max(0, stepNs - explained) };
  }

  crossings(outputTokens: number): CrossingRate[] {
    const tokens = Math.max(1, outputTokens);
    return [...this.#crossings].map(([key, { direction, count, bytes }]) => ({
      name: key.slice(4),
      direction,
      crossings: count,
      bytes,
      crossingsPerToken: count / tokens,
      bytesPerToken: bytes / tokens,
    }));
  }
}
