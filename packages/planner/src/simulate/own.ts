import { type CrossingRecord, type Profile, profileLaw } from '@bridgekeeper/bridge';
import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import {
  createEngine,
  type Engine,
  type EngineClient,
  EngineError,
  type EngineStats,
  type PolicyName,
} from '@bridgekeeper/engine';
import { ModelError } from '@bridgekeeper/engine/models';
import { PlanError } from '../errors.ts';
import { reachedByOwn, rooflineOf } from '../gpus/gpu.ts';
import type { Workload } from '../workload/workload.ts';
import { driveEngine } from './drive.ts';
import { giveUpNs, LoadObserver } from './load.ts';
import type { CrossingRate, LaneSpan, Prediction, StepBreakdown } from './prediction.ts';
import { StepPricer } from './pricing.ts';
import type { Scenario } from './scenario.ts';
import { WatchedReplicas } from './watched-replicas.ts';

/** The engine itself, with one of its own policies, on a modelled GPU in virtual time. */
export async function simulateOwn(scenario: Scenario, policy: PolicyName): Promise<Prediction> {
  const { flags, law, gpu, model, workload } = scenario;
  const clock = new VirtualClock();
  clock.runFreely();
  const window = new Window(scenario);
  const roofline = rooflineOf(gpu);
  const reached = reachedByOwn(gpu, model.hasExperts);
  const reserved = law === null ? 0 : gpu.reservedBytesUnderCc.value;
  const count = flags.dataParallel;
  const observer = new LoadObserver(scenario);
  const usesPrefixes =
    flags.prefixCaching && workload.requests.some(({ chunks }) => chunks !== null);
  const open = (number: number) => {
    const own = count === 1 ? '' : `engine-${number}/`;
    const device = openModelDevice({
      clock,
      law: law === null ? null : profileLaw(law),
      roofline: { ...roofline, memoryBytes: roofline.memoryBytes - reserved },
      reached,
      ranks: flags.tensorParallel,
      drafts: draftsOf(scenario),
      onWork: (startNs, endNs) => window.work(own, startNs, endNs),
    });
    return createEngine({
      device,
      policy,
      bridge: law,
      burst: { tollNs: tollOf(law), interTokenLimitNs: flags.interTokenLimitMs * 1e6 },
      model: model.name,
      spec: model.spec,
      dummy: true,
      quantization: undefined,
      kvFormat: flags.kvFormat,
      expertParallel: flags.expertParallel,
      speculation: flags.speculation ?? undefined,
      maxModelTokens: Math.min(flags.maxModelTokens, model.spec.maxPositions),
      maxRows: flags.maxRows,
      maxBatchTokens: flags.maxBatchTokens,
      pageTokens: flags.pageTokens,
      memoryUtilization: flags.memoryUtilization,
      kvBytes: undefined,
      prefixCaching: usesPrefixes,
      chunkedPrefill: true,
      maxWaiting: workload.requests.length,
      seed: scenario.seed,
      onCrossing: (record) => window.crossing(own, record),
    }).catch((error: unknown) => {
      throw asPlanError(error);
    });
  };
  const first = await open(0);
  const engines: [Engine, ...Engine[]] = [first];
  while (engines.length < count) engines.push(await open(engines.length));
  const replicas = count === 1 ? null : new WatchedReplicas(engines, clock);
  const engine = replicas ?? first;
  // Which engine a request goes to follows from its prompt.
  const areRead = usesPrefixes || replicas !== null;
  if (scenario.warmup !== undefined) {
    const unseen = new LoadObserver({ warmupRequests: 0, slo: null });
    await driveEngine(engine, clock, scenario.warmup, unseen, 'warm-up', areRead);
  }
  const before = engine.stats();
  window.begin(clock.nowNs());
  replicas?.begin();
  const busyBeforeNs = window.busyNs;
  const startNs = clock.nowNs();
  const neverDrains = await driveUntilLate(engine, clock, workload, observer, areRead);
  const elapsedNs = clock.nowNs() - startNs;
  const after = engine.stats();
  const summary = observer.summary();
  const idleNs = replicas?.idleNs ?? observer.idleNs;
  const { memory } = engine.card;
  await engine.shutdown(0);
  const pricer = new StepPricer(scenario, 0, reached);
  const steps = after.steps - before.steps;
  const rowSteps = rowStepsOf(before, after);
  const busyNs = window.busyNs - busyBeforeNs;
  return {
    engine: scenario.engine,
    model: model.name,
    gpu: gpu.name,
    law: law?.name ?? 'off',
    workload: workload.name,
    requests: workload.requests.length - scenario.warmupRequests,
    neverDrains,
    ...summary,
    rows: {
      mean: rowSteps / Math.max(1, steps),
      max: Math.min(flags.maxRows, replicas?.openMax ?? observer.openMax),
    },
    ...(replicas === null ? {} : { replicas: count }),
    step: breakdown({
      scenario,
      pricer,
      before,
      after,
      busyNs,
      // Of each of them.
      elapsedNs: count * elapsedNs,
      idleNs,
    }),
    crossings: crossingRates(before, after),
    launchesPerStep:
      (after.launches + after.graphLaunches - before.launches - before.graphLaunches) /
      Math.max(1, steps),
    kv: {
      bytes: memory.kvBytes,
      tokens: memory.kvTokens,
      ...kvUse(scenario, memory.kvTokens, rowSteps, steps),
      hitFraction:
        (after.prefixHitTokens - before.prefixHitTokens) /
        Math.max(1, after.prefixQueriedTokens - before.prefixQueriedTokens),
      preemptions: after.preemptions - before.preemptions,
    },
    coldStart: [],
    timeline: window.spans,
    notModelled: [],
    ...draftsFound(before, after),
  };
}

/** Of a text that is made up. */
function draftsOf({ flags: { speculation }, model }: Scenario) {
  if (speculation === null) return undefined;
  return { chance: speculation.chance, vocabulary: model.spec.vocabularySize };
}

/** Lines of rows that brought a token of their own: a draft that was right brings another. */
function rowStepsOf(before: EngineStats, after: EngineStats): number {
  const accepted = (stats: EngineStats) => stats.speculation?.acceptedTokens ?? 0;
  return after.generatedTokens - before.generatedTokens - accepted(after) + accepted(before);
}

function draftsFound(before: EngineStats, after: EngineStats): Pick<Prediction, 'drafts'> {
  if (after.speculation === undefined || before.speculation === undefined) return {};
  const drafts = after.speculation.drafts - before.speculation.drafts;
  const accepted = after.speculation.acceptedTokens - before.speculation.acceptedTokens;
  const rowSteps = rowStepsOf(before, after);
  return {
    drafts: {
      draftedFraction: drafts / Math.max(1, rowSteps),
      tokensPerRowStep: (rowSteps + accepted) / Math.max(1, rowSteps),
    },
  };
}

/** Why the load was given up; null: it was served. */
async function driveUntilLate(
  engine: EngineClient,
  clock: VirtualClock,
  workload: Workload,
  observer: LoadObserver,
  areRead: boolean,
): Promise<string | null> {
  const served = driveEngine(engine, clock, workload, observer, 'load', areRead);
  const lateNs = giveUpNs(workload);
  if (lateNs === null) return served.then(() => null);
  // What is open when the engine is shut down ends with an error, and nobody waits for it.
  served.catch(() => undefined);
  const startNs = clock.nowNs();
  const late = clock.sleepUntilNs(startNs + lateNs).then(() => 'late' as const);
  if ((await Promise.race([served, late])) !== 'late') return null;
  return observer.whyNot(lateNs, workload.requests.at(-1)!.atNs);
}

/** A crossing that waits for nobody pays this. */
function tollOf(law: Profile | null): number {
  if (law === null) return 0;
  const { idleTollNs, queuedTollNs } = law.crossings.d2h.pinned;
  return idleTollNs + queuedTollNs;
}

function asPlanError(error: unknown): unknown {
  if (error instanceof ModelError) {
    const message = `our own engine: ${error.message}; --engine vllm plans that one alone`;
    return new PlanError('bad-combination', message, { cause: error });
  }
  if (!(error instanceof EngineError)) return error;
  const code = error.code === 'out-of-memory' ? 'does-not-fit' : 'bad-combination';
  return new PlanError(code, error.message, { cause: error });
}

/** What of lanes and GPU is within a scenario's window, and for how long the GPU worked. */
class Window {
  readonly spans: LaneSpan[] = [];
  busyNs = 0;
  readonly #window: Scenario['window'];
  #beginNs = Number.POSITIVE_INFINITY;

  constructor({ window }: Scenario) {
    this.#window = window;
  }

  /** The load begins. */
  begin(nowNs: number): void {
    this.#beginNs = nowNs;
  }

  /** `own` comes before the names of an engine's lanes. */
  work(own: string, startNs: number, endNs: number): void {
    this.busyNs += endNs - startNs;
    this.#add(`${own}GPU`, 'step', startNs, endNs);
  }

  crossing(own: string, { lane, purpose, startedNs, completedNs }: CrossingRecord): void {
    this.#add(`lane ${own}${lane}`, purpose, startedNs, completedNs);
  }

  #add(lane: string, name: string, startNs: number, endNs: number): void {
    if (this.#window === null) return;
    const [from, to] = [startNs - this.#beginNs, endNs - this.#beginNs];
    if (to < this.#window.fromNs || from > this.#window.toNs) return;
    this.spans.push({ lane, name, startNs: from, endNs: to });
  }
}

interface Measured {
  readonly scenario: Scenario;
  readonly pricer: StepPricer;
  readonly before: EngineStats;
  readonly after: EngineStats;
  readonly busyNs: number;
  readonly elapsedNs: number;
  readonly idleNs: number;
}

/**
 * The GPU's time is divided as the roofline divides a step of average size; what it waits for while
 * requests are open is launches, as far as they take time, and crossings.
 */
function breakdown(measured: Measured): StepBreakdown {
  const { scenario, pricer, before, after, busyNs, elapsedNs, idleNs } = measured;
  const steps = Math.max(1, after.steps - before.steps);
  const tokens = rowStepsOf(before, after);
  const { requests } = scenario.workload;
  const length = Math.round(
    requests.reduce((sum, each) => sum + each.promptTokens + each.outputTokens / 2, 0) /
      Math.max(1, requests.length),
  );
  const rows = Math.max(1, Math.round(tokens / steps));
  const prompt = Math.round((after.promptTokens - before.promptTokens) / steps);
  const times = pricer.price({
    lengths: new Array<number>(rows).fill(length),
    chunks: prompt === 0 ? [] : [{ start: 0, length: prompt }],
    lines: rows,
  });
  const priced = times.memoryNs + times.computeNs + times.kernelNs;
  const of = (ns: number) => (busyNs / steps) * (ns / priced);
  const waitingNs = Math.max(0, elapsedNs - busyNs - idleNs) / steps;
  const { submission } = scenario.law ?? { submission: null };
  const launches = after.launches - before.launches;
  const graphs = after.graphLaunches - before.graphLaunches;
  const launchingNs =
    submission === null
      ? 0
      : (scenario.flags.tensorParallel *
          (launches * submission.launchNs + graphs * submission.graphLaunchNs)) /
        steps;
  const launchNs = Math.min(waitingNs, launchingNs);
  return {
    steps,
    stepNs: elapsedNs / steps,
    memoryNs: of(times.memoryNs),
    computeNs: of(times.computeNs),
    kernelNs: of(times.kernelNs),
    collectiveNs: 0,
    tollNs: waitingNs - launchNs,
    transferNs: 0,
    allocationNs: 0,
    blockedNs: 0,
    launchNs,
    hostNs: 0,
    idleNs: Math.min(idleNs, Math.max(0, elapsedNs - busyNs)) / steps,
  };
}

function crossingRates(before: EngineStats, after: EngineStats): CrossingRate[] {
  const tokens = Math.max(1, after.generatedTokens - before.generatedTokens);
  return after.bridge.totals.flatMap(({ purpose, direction, crossings, bytes }) => {
    const earlier = before.bridge.totals.find(
      (each) => each.purpose === purpose && each.direction === direction,
    );
    const made = crossings - (earlier?.crossings ?? 0);
    const moved = bytes - (earlier?.bytes ?? 0);
    if (made === 0) return [];
    return [
      {
        name: purpose,
        direction: direction === 'h2d' ? ('h2d' as const) : ('d2h' as const),
        crossings: made,
        bytes: moved,
        crossingsPerToken: made / tokens,
        bytesPerToken: moved / tokens,
      },
    ];
  });
}

/** Of KV, by the rows of an average step at their average length. */
function kvUse({ workload }: Scenario, kvTokens: number, tokens: number, steps: number) {
  const { requests } = workload;
  const held = requests.reduce((sum, each) => sum + each.promptTokens + each.outputTokens / 2, 0);
  const rows = tokens / Math.max(1, steps);
  const mean = (rows * held) / Math.max(1, requests.length) / kvTokens;
  const most = requests.reduce(
    (max, each) => Math.max(max, each.promptTokens + each.outputTokens),
    0,
  );
  return {
    meanUsed: Math.min(1, mean),
    peakUsed: Math.min(1, Math.max(mean, (rows * most) / kvTokens)),
  };
}
