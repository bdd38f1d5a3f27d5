import type { EngineName } from './scenario.ts';

/** Of a distribution; all 0 where there was nothing. */
export interface Percentiles {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** Where the time of an average step goes. The parts add up to `stepNs`. */
export interface StepBreakdown {
  readonly steps: number;
  readonly stepNs: number;
  /** Kernels that are bound by memory, by arithmetic, and by their own least time. */
  readonly memoryNs: number;
  readonly computeNs: number;
  readonly kernelNs: number;
  readonly collectiveNs: number;
  /** The GPU waits: for tolls and bytes of crossings. */
  readonly tollNs: number;
  readonly transferNs: number;
  /** For host memory that is allocated and pinned for a crossing. */
  readonly allocationNs: number;
  /** For the host's own work, where its thread was blocked instead of doing it meanwhile. */
  readonly blockedNs: number;
  /** For kernels that are launched one by one. */
  readonly launchNs: number;
  /** For the host's own work. */
  readonly hostNs: number;
  /** Nothing to do. */
  readonly idleNs: number;
}

export interface CrossingRate {
  /** A purpose of the ledger, or another engine's name for what crosses. */
  readonly name: string;
  readonly direction: 'h2d' | 'd2h';
  readonly crossings: number;
  readonly bytes: number;
  readonly crossingsPerToken: number;
  readonly bytesPerToken: number;
}

export interface ColdPhase {
  readonly phase: 'reset' | 'memory' | 'boot' | 'attestation' | 'load' | 'kernels';
  readonly seconds: number;
  readonly basis: 'measured' | 'documented' | 'inferred';
  readonly source: string;
}

/** A span of one lane or thread in the scenario's window. */
export interface LaneSpan {
  readonly lane: string;
  readonly name: string;
  readonly startNs: number;
  readonly endNs: number;
}

/** What a scenario comes to. Plain data, bit for bit the same for the same scenario. */
export interface Prediction {
  readonly engine: EngineName;
  readonly model: string;
  readonly gpu: string;
  /** A profile's name, or `off`. */
  readonly law: string;
  readonly workload: string;
  readonly requests: number;
  /** Requests that had ended when the simulation did; fewer than `requests`: it never drains. */
  readonly completed: number;
  /** Why it was given up; null: everything ended. */
  readonly neverDrains: string | null;
  readonly seconds: number;
  readonly requestsPerSecond: number;
  readonly outputTokensPerSecond: number;
  readonly totalTokensPerSecond: number;
  readonly ttftMs: Percentiles;
  /** Between two tokens of a request; tokens that arrive together share their gap. */
  readonly itlMs: Percentiles;
  /** Of each request, the mean time between its tokens. */
  readonly tpotMs: Percentiles;
  readonly e2eMs: Percentiles;
  readonly rows: { readonly mean: number; readonly max: number };
  readonly step: StepBreakdown;
  readonly crossings: readonly CrossingRate[];
  readonly launchesPerStep: number;
  /**
   * Engines beside each other; absent: one. Rows, steps, launches and KV are those of one of them,
   * on average; all else is what they do together.
   */
  readonly replicas?: number;
  readonly kv: {
    readonly bytes: number;
    readonly tokens: number;
    readonly meanUsed: number;
    readonly peakUsed: number;
    readonly hitFraction: number;
    readonly preemptions: number;
  };
  /** As far as it was asked for. */
  readonly coldStart: readonly ColdPhase[];
  /** Parts of the requests that break each limit of the SLO, and any; null: there is none. */
  readonly slo: {
    readonly ttft: number;
    readonly itl: number;
    readonly e2e: number;
    readonly any: number;
  } | null;
  readonly timeline: readonly LaneSpan[];
  /** Absent: nothing was to be drafted. */
  readonly drafts?: {
    /** Of rows' steps, those that drafted something. */
    readonly draftedFraction: number;
    readonly tokensPerRowStep: number;
  };
  /** In sentences. */
  readonly notModelled: readonly string[];
}

/** What confidential computing takes of a load: 0.05 is 5 %. */
export function taxOf(on: Prediction, off: Prediction): number {
  return 1 - on.outputTokensPerSecond / off.outputTokensPerSecond;
}
