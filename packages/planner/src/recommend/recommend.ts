import type { Prediction } from '../simulate/prediction.ts';
import type { Scenario } from '../simulate/scenario.ts';
import {
  type Change,
  changesFor,
  DELIVERED,
  FAMILIES,
  type Family,
  familyOf,
  withChanges,
} from './change.ts';
import { type StartLine, startLine } from './command.ts';

/** What a change brings, as parts of what was before: 0.1 is a tenth more, or a tenth sooner. */
export interface Gain {
  readonly throughput: number;
  readonly ttft: number;
  readonly itl: number;
  readonly e2e: number;
}

export interface TriedChange {
  readonly change: Change;
  readonly gain: Gain;
  readonly isTaken: boolean;
}

/** How an engine is best started for a load under a law. */
export interface Recommendation {
  readonly family: Family;
  /** A profile's name, or `off`. */
  readonly law: string;
  readonly before: Prediction;
  /** Of every change by itself, most useful first. */
  readonly tried: readonly TriedChange[];
  /** With what needs no other build. */
  readonly start: StartLine;
  readonly after: Prediction;
  readonly gain: Gain;
  /** The same with the best build that there is; null: none would be better. */
  readonly patched: { readonly change: Change; readonly prediction: Prediction } | null;
}

export type Run = (scenarios: readonly Scenario[]) => Promise<readonly Prediction[]>;

/** Less than this is within what a simulation can tell. */
const WORTH = 0.005;

export function gainOf(before: Prediction, after: Prediction): Gain {
  const more = (read: (prediction: Prediction) => number) =>
    read(before) === 0 ? 0 : read(after) / read(before) - 1;
  const sooner = (read: (prediction: Prediction) => number) =>
    read(before) === 0 ? 0 : 1 - read(after) / read(before);
  return {
    throughput: more((prediction) => prediction.outputTokensPerSecond),
    ttft: sooner((prediction) => prediction.ttftMs.p50),
    itl: sooner((prediction) => prediction.tpotMs.p50),
    e2e: sooner((prediction) => prediction.e2eMs.p50),
  };
}

/** What a load is judged by: a closed loop by its throughput, an open one by how long it takes. */
function worthOf(gain: Gain, { workload }: Pick<Scenario, 'workload'>): number {
  return workload.concurrency === null ? gain.e2e : gain.throughput;
}

/**
 * Tries every change by itself and then what was useful together, for each family that `scenarios`
 * have an engine of and for each of their laws. `modelName` is what command lines call the model.
 */
export async function recommend(
  scenarios: readonly Scenario[],
  run: Run,
): Promise<readonly Recommendation[]> {
  const starts = startsOf(scenarios);
  const trials = starts.map((before) => ({ before, changes: changesFor(before) }));
  const flat = trials.flatMap(({ before, changes }) => [
    before,
    ...changes.map((change) => withChanges(before, [change])),
  ]);
  const results = await run(flat);
  let at = 0;
  const judged = trials.map(({ before, changes }) => {
    const first = results[at]!;
    const after = changes.map((_, index) => results[at + 1 + index]!);
    at += 1 + changes.length;
    return judge(before, first, changes, after);
  });
  const together = await run(judged.map(({ whole }) => whole));
  return judged.map(({ scenario, before, tried, taken, whole, patch }, index) => {
    const after = together[index]!;
    return {
      family: familyOf(scenario.engine),
      law: scenario.law?.name ?? 'off',
      before,
      tried,
      start: startLine(whole, taken),
      after,
      gain: gainOf(before, after),
      patched:
        patch !== null && worthOf(gainOf(after, patch.prediction), scenario) > WORTH ? patch : null,
    };
  });
}

/** Each family as it is delivered, under each law. */
function startsOf(scenarios: readonly Scenario[]): readonly Scenario[] {
  const starts = new Map<string, Scenario>();
  for (const scenario of scenarios) {
    const family = familyOf(scenario.engine);
    const key = `${FAMILIES.indexOf(family)} ${scenario.law?.name ?? 'off'}`;
    if (!starts.has(key)) {
      starts.set(key, { ...scenario, engine: DELIVERED[family], window: null });
    }
  }
  return [...starts.values()];
}

function judge(
  scenario: Scenario,
  before: Prediction,
  changes: readonly Change[],
  results: readonly Prediction[],
) {
  const ranked = changes
    .map((change, index) => {
      const prediction = results[index]!;
      const gain = gainOf(before, prediction);
      return { change, prediction, gain, worth: worthOf(gain, scenario) };
    })
    .sort((a, b) => b.worth - a.worth);
  const taken: Change[] = [];
  for (const { change, worth } of ranked) {
    const isOpen = !taken.some(({ excludes }) => excludes === change.excludes);
    // KV in FP8 changes answers: it is shown, and for people to take.
    if (worth > WORTH && isOpen && !change.needsPatch && change.id !== 'kv-fp8') taken.push(change);
  }
  const tried = ranked.map(({ change, gain }): TriedChange => {
    return { change, gain, isTaken: taken.includes(change) };
  });
  const patch = ranked.find(({ change }) => change.needsPatch) ?? null;
  return { scenario, before, tried, taken, whole: withChanges(scenario, taken), patch };
}
