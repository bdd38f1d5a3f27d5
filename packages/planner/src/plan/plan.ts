import type { Profile } from '@bridgekeeper/bridge';
import type { Gpu } from '../gpus/gpu.ts';
import type { PlannedModel } from '../models/model.ts';
import { type Fleet, fleetFor } from '../recommend/fleet.ts';
import { type Recommendation, recommend } from '../recommend/recommend.ts';
import { coldStart, type Guest } from '../simulate/cold-start.ts';
import { type Prediction, taxOf } from '../simulate/prediction.ts';
import {
  type EngineFlags,
  type EngineName,
  gpusOf,
  type Scenario,
  type Slo,
} from '../simulate/scenario.ts';
import { summariseWorkload, type Workload, type WorkloadSummary } from '../workload/workload.ts';
import { type Capacity, capacitiesOf } from './capacity.ts';
import { checkFits, type Fit, fitOf } from './fit.ts';
import { atConcurrency, atRate } from './variation.ts';

/** Everything that a plan is asked for. */
export interface PlanRequest {
  readonly model: PlannedModel;
  readonly gpu: Gpu;
  /** null: confidential computing is off. Law off is always predicted, to compare with. */
  readonly laws: readonly (Profile | null)[];
  readonly engines: readonly EngineName[];
  readonly flags: EngineFlags;
  readonly workload: Workload;
  readonly slo: Slo | null;
  readonly guest: Guest;
  /** What else to look at: loads of the same lengths. */
  readonly concurrencies: readonly number[];
  readonly requestsPerSecond: readonly number[];
  /** What a fleet has to take; null: no fleet is planned. */
  readonly fleetRequestsPerSecond: number | null;
  readonly recommends: boolean;
  readonly window: Scenario['window'];
  /** What kernels take of the roofline's time: fitted to a run, or 1. */
  readonly stepFactor: number;
  /** What `plan observe` found of an engine's host; null: nothing was observed. */
  readonly observed: { readonly engine: EngineName; readonly hostFactor: number } | null;
  readonly seed: number;
}

/** One load of a sweep. */
export interface Point {
  readonly kind: 'concurrency' | 'rate';
  readonly value: number;
  readonly prediction: Prediction;
  /** What the law takes against law off at the same load (`lossOf`); null: it is law off. */
  readonly tax: number | null;
}

/** What a replica takes within the SLO, and how many the fleet needs. */
export interface PlannedCapacity extends Capacity {
  readonly fleet: Fleet | null;
}

/** What a plan comes to. Plain data. */
export interface Plan {
  readonly model: Omit<PlannedModel, 'spec'>;
  readonly gpu: Gpu;
  readonly laws: readonly string[];
  readonly flags: EngineFlags;
  readonly fit: Fit;
  readonly workload: {
    readonly name: string;
    readonly concurrency: number | null;
  } & WorkloadSummary;
  readonly slo: Slo | null;
  /** Of the load itself, by law and engine, law off first; tax as `Point` has it. */
  readonly predictions: readonly { readonly prediction: Prediction; readonly tax: number | null }[];
  readonly points: readonly Point[];
  readonly capacities: readonly PlannedCapacity[];
  readonly recommendations: readonly Recommendation[];
  readonly observed: PlanRequest['observed'];
  readonly seed: number;
}

/** Runs scenarios, perhaps several at a time; tells of each that is done. */
export type RunAll = (
  scenarios: readonly Scenario[],
  onDone: () => void,
) => Promise<readonly Prediction[]>;

/** How far a plan is: of its present stage, as more follow from what comes out. */
export interface Progress {
  readonly stage: 'loads' | 'capacity' | 'recommendations';
  readonly done: number;
  readonly total: number;
}

/** Of a load's requests, those that warm up and are not measured. */
const WARMUP_PART = 0.1;

/**
 * Predicts the load and its sweeps for each law and engine, looks for the rate at which the SLO
 * breaks, and tries what may be changed. Throws PlanError where the model does not fit or a
 * scenario cannot be.
 */
export async function makePlan(
  request: PlanRequest,
  runAll: RunAll,
  onProgress: (progress: Progress) => void,
): Promise<Plan> {
  const { model, gpu, flags, workload, slo, guest } = request;
  const isConfidential = request.laws.some((law) => law?.confidential === true);
  const question = { model, gpu, flags, isConfidential };
  checkFits(question);
  const laws = [null, ...request.laws.filter((law) => law !== null)];
  // The load as it is comes up again when changes are tried.
  const known = new Map<string, Prediction>();
  const run = async (stage: Progress['stage'], scenarios: readonly Scenario[]) => {
    const missing = scenarios.filter((scenario) => !known.has(keyOf(scenario)));
    let done = 0;
    const tell = () => onProgress({ stage, done, total: missing.length });
    tell();
    const results = await runAll(missing, () => {
      done += 1;
      tell();
    });
    missing.forEach((scenario, index) => {
      const phases = coldStart(scenario, guest);
      known.set(keyOf(scenario), { ...results[index]!, coldStart: phases });
    });
    return scenarios.map((scenario) => known.get(keyOf(scenario))!);
  };
  const bases = laws.flatMap((law) =>
    request.engines.map((engine) => baseOf(request, law, engine)),
  );
  const loads = loadsOf(request);
  const scenarios = [
    ...bases,
    ...loads.flatMap(({ load }) => bases.map((base) => withLoad(base, load))),
  ];
  const results = await run('loads', scenarios);
  const count = bases.length;
  const taxAt = (index: number) => {
    const first = index - (index % count);
    const isOff = bases[index % count]!.law === null;
    // Law off comes first, with the engines in the same order.
    const off = results[first + (index % request.engines.length)]!;
    const isOpen = scenarios[index]!.workload.concurrency === null;
    return isOff ? null : lossOf(results[index]!, off, isOpen);
  };
  const points = loads.flatMap(({ kind, value }, load) =>
    bases.map((_, base): Point => {
      const index = count * (1 + load) + base;
      return { kind, value, prediction: results[index]!, tax: taxAt(index) };
    }),
  );
  const capacities =
    slo === null
      ? []
      : await capacitiesOf(
          bases.map((base) => ({ ...base, slo })),
          await fullRates(request, bases, (full) => run('capacity', full)),
          (each) => run('capacity', each),
        );
  const asked = bases.filter(({ law }) => law !== null || request.laws.includes(null));
  const recommendations = request.recommends
    ? await recommend(asked, (each) => run('recommendations', each))
    : [];
  const { spec: _, ...sizes } = model;
  const target = request.fleetRequestsPerSecond;
  return {
    model: sizes,
    gpu,
    laws: laws.map((law) => law?.name ?? 'off'),
    flags,
    fit: fitOf(question),
    workload: {
      name: workload.name,
      concurrency: workload.concurrency,
      ...summariseWorkload(workload),
    },
    slo,
    predictions: bases.map((_, index) => ({ prediction: results[index]!, tax: taxAt(index) })),
    points,
    capacities: capacities.map((capacity) => {
      const { requestsPerSecond } = capacity;
      const fleet = target === null ? null : fleetFor(target, requestsPerSecond, gpusOf(flags));
      return { ...capacity, fleet };
    }),
    recommendations,
    observed: request.observed,
    seed: request.seed,
  };
}

/**
 * What the law takes: of a closed loop its throughput; of an open one, which is served either way,
 * time, as the part by which it is longer between tokens.
 */
function lossOf(on: Prediction, off: Prediction, isOpen: boolean): number {
  if (!isOpen) return taxOf(on, off);
  return off.tpotMs.p50 === 0 ? 0 : on.tpotMs.p50 / off.tpotMs.p50 - 1;
}

/** Scenarios of one plan that come to the same; a window only adds a picture. */
function keyOf({ law, engine, flags, workload }: Scenario): string {
  return JSON.stringify([law?.name ?? null, engine, flags, workload.name]);
}

function baseOf(request: PlanRequest, law: Profile | null, engine: EngineName): Scenario {
  const { model, gpu, flags, workload, slo, stepFactor, observed, window, seed } = request;
  const warmupRequests = warmupOf(workload);
  const load = { workload, slo, stepFactor, warmupRequests, window, seed };
  const hostFactor = observed?.engine === engine ? observed.hostFactor : 1;
  return { model, gpu, law, engine, flags, hostFactor, ...load };
}

/** A closed loop's first turn is alike in all its requests; an open load finds an empty GPU. */
function warmupOf({ concurrency, requests }: Workload): number {
  const part = Math.floor(requests.length * WARMUP_PART);
  return Math.min(Math.floor(requests.length / 2), Math.max(concurrency ?? 0, part));
}

function withLoad(base: Scenario, workload: Workload): Scenario {
  return { ...base, workload, warmupRequests: warmupOf(workload), window: null };
}

interface LoadPoint {
  readonly kind: Point['kind'];
  readonly value: number;
  readonly load: Workload;
}

function loadsOf({ workload, concurrencies, requestsPerSecond, seed }: PlanRequest): LoadPoint[] {
  return [
    ...concurrencies.map((value): LoadPoint => {
      return { kind: 'concurrency', value, load: atConcurrency(workload, value) };
    }),
    ...requestsPerSecond.map((value): LoadPoint => {
      return { kind: 'rate', value, load: atRate(workload, value, seed) };
    }),
  ];
}

/** Requests a second of each base when all of its rows are taken. */
async function fullRates(
  { workload, flags }: PlanRequest,
  bases: readonly Scenario[],
  run: (scenarios: readonly Scenario[]) => Promise<readonly Prediction[]>,
): Promise<readonly number[]> {
  const load = atConcurrency(workload, flags.dataParallel * Math.min(flags.maxRows, FULL_ROWS_MAX));
  const results = await run(bases.map((base) => withLoad(base, load)));
  return results.map(({ requestsPerSecond }) => requestsPerSecond);
}

/** More rows than this bring little, and each is simulated. */
const FULL_ROWS_MAX = 256;
