import {
  aloneNs,
  type CrossingCost,
  FORBIDDEN_FEATURES,
  type ForbiddenFeature,
  PROFILE_SCHEMA,
  type Profile,
  parseProfile,
} from '@bridgekeeper/bridge';
import type { MeasuredRun } from '@bridgekeeper/report';
import { metric, select } from '../runs.ts';
import { WAYS, type Way } from '../workbench.ts';
import { type CostPoint, fitIdleCost } from './crossing-cost.ts';
import { fitLinks } from './links.ts';

/** What the profile says of the machine besides what was timed. */
export interface ProfileFacts {
  readonly name: string;
  readonly description: string;
  readonly source: string;
  readonly gpu: string;
  readonly confidential: boolean;
  readonly memoryBytes: number;
}

/** How well one parameter of the law is known. */
export interface ParameterFit {
  /** Its path in the profile. */
  readonly parameter: string;
  readonly value: number;
  /** Least and greatest of what was measured; null where it was worked out from several numbers. */
  readonly spread: readonly [number, number] | null;
  readonly repeats: number;
  /** How far the fitted law is from the measured medians, at worst, relative; null: no curve. */
  readonly residual: number | null;
}

export interface FittedProfile {
  readonly profile: Profile;
  readonly fits: readonly ParameterFit[];
}

/** The law's parameters out of what was measured; null while something it needs is missing. */
export function fitProfile(
  runs: readonly MeasuredRun[],
  facts: ProfileFacts,
): FittedProfile | null {
  const ways = WAYS.map((way) => fitWay(runs, way));
  const submission = fitSubmission(runs);
  const contexts = fitContexts(runs, ways[0]?.cost);
  const local = select(runs, 'local')[0];
  if (submission === null || contexts === null || local === undefined) return null;
  const [h2dPinned, h2dPageable, d2hPinned, d2hPageable] = ways;
  if (!h2dPinned || !h2dPageable || !d2hPinned || !d2hPageable) return null;
  const { copyBytesPerSecond = 0, matmulFlopsPerSecond = 0 } = local.metrics;
  const { kernelNs, ...submissionNs } = submission;
  // What was not tried is forbidden where CC is on.
  const works = (feature: ForbiddenFeature) =>
    select(runs, 'feature', { feature })[0]?.parameters.works ?? !facts.confidential;
  const links = fitLinks(runs, { kernelNs, ...submissionNs });
  const profile = parseProfile({
    schema: PROFILE_SCHEMA,
    name: facts.name,
    description: facts.description,
    source: facts.source,
    gpu: facts.gpu,
    confidential: facts.confidential,
    crossings: {
      h2d: { pinned: h2dPinned.cost, pageable: h2dPageable.cost },
      d2h: { pinned: d2hPinned.cost, pageable: d2hPageable.cost },
    },
    contextSerialises: takesTurns(runs),
    contexts,
    submission: submissionNs,
    forbidden: FORBIDDEN_FEATURES.filter((feature) => !works(feature)),
    keyRotation: null,
    ...(links !== null && { links: links.links }),
    roofline: {
      memoryBytes: facts.memoryBytes,
      copyBytesPerSecond: round(copyBytesPerSecond, 6),
      bf16FlopsPerSecond: round(matmulFlopsPerSecond, 6),
      fp8FlopsPerSecond: round(2 * matmulFlopsPerSecond, 6),
      kernelNs,
    },
  });
  const fits = ways.flatMap((way) => way?.fits ?? []);
  return { profile, fits: [...fits, ...submissionFits(runs, profile), ...(links?.fits ?? [])] };
}

interface WayFit {
  readonly cost: CrossingCost;
  readonly fits: readonly ParameterFit[];
}

/** A thread is taken to be blocked by a queued copy when it waits for more of it than this. */
const BLOCKED_SHARE = 0.5;
/** The crossings of a decode step: what a policy is chosen for. */
const STEP_BYTES = 4_096;
const FRESH_BYTES = 65_536;

function fitWay(runs: readonly MeasuredRun[], way: Way): WayFit | null {
  const crossings = select(runs, 'crossing', { ...way });
  if (crossings.length < 3) return null;
  const points = crossings.map(
    ({ parameters, metrics }): CostPoint => ({
      bytes: Number(parameters.bytes),
      ns: metrics.serviceNs!,
    }),
  );
  const idle = fitIdleCost(points);
  const issue = select(runs, 'issue', { ...way, bytes: STEP_BYTES })[0];
  const fresh = select(runs, 'fresh', { ...way, bytes: FRESH_BYTES })[0];
  const cost: CrossingCost = {
    ...idle,
    queuedTollNs: beyondNoise(issue, 'queuedTollNs', idle.idleTollNs),
    freshTollNs: beyondNoise(fresh, 'addedNs', idle.idleTollNs),
    issuer: issuerOf(issue),
  };
  const path = `crossings.${way.direction}.${way.memory}`;
  const smallest = crossings[0]!;
  const largest = crossings.at(-1)!;
  const last = cost.bandwidth.at(-1)!;
  const rates = largest.spread.serviceNs!.map(
    (ns) => (last.bytes * 1e9) / Math.max(1, ns - idle.idleTollNs),
  );
  const residual = Math.max(
    ...points.map(({ bytes, ns }) => Math.abs(aloneNs(cost, bytes) / ns - 1)),
  );
  return {
    cost,
    fits: [
      {
        parameter: `${path}.idleTollNs`,
        value: cost.idleTollNs,
        spread: smallest.spread.serviceNs!,
        repeats: smallest.repeats,
        residual,
      },
      {
        parameter: `${path}.bandwidth`,
        value: last.bytesPerSecond,
        spread: [Math.min(...rates), Math.max(...rates)],
        repeats: largest.repeats,
        residual,
      },
      ...oneFit(`${path}.queuedTollNs`, cost.queuedTollNs, issue, 'queuedTollNs'),
      ...oneFit(`${path}.freshTollNs`, cost.freshTollNs, fresh, 'addedNs'),
    ],
  };
}

function oneFit(
  parameter: string,
  value: number,
  run: MeasuredRun | undefined,
  name: string,
): ParameterFit[] {
  if (run === undefined) return [];
  return [
    { parameter, value, spread: run.spread[name] ?? null, repeats: run.repeats, residual: null },
  ];
}

/** Less than this part of the toll is no toll of its own. */
const NOISE_OF_TOLL = 0.05;

/** A difference of two measurements, or 0 where it may as well be noise. */
function beyondNoise(run: MeasuredRun | undefined, name: string, tollNs: number): number {
  const added = run?.metrics[name] ?? 0;
  const [low = 0] = run?.spread[name] ?? [];
  // What is added every time is there; what is now added and now taken away is noise.
  const isSteady = low > 0 || added > tollNs;
  return added > NOISE_OF_TOLL * tollNs && isSteady ? Math.round(added) : 0;
}

function issuerOf(issue: MeasuredRun | undefined): CrossingCost['issuer'] {
  const { blockedShare = 1, idleBlockedNs = 0 } = issue?.metrics ?? {};
  return blockedShare > BLOCKED_SHARE
    ? { blockedUntil: 'done' }
    : { blockedUntil: 'issued', issueNs: Math.round(idleBlockedNs) };
}

/** Both at once take as long as one after the other, rather than as long as the longer one. */
function takesTurns(runs: readonly MeasuredRun[]): boolean {
  const { upNs = 0, downNs = 0, bothNs = 0 } = select(runs, 'directions')[0]?.metrics ?? {};
  return bothNs > (upNs + downNs + Math.max(upNs, downNs)) / 2;
}

function fitContexts(runs: readonly MeasuredRun[], cost: CrossingCost | undefined) {
  const opened = metric(runs, 'context-limit', 'opened');
  const alone = select(runs, 'context-lifecycle', { together: 1 })[0];
  if (cost === undefined || alone === undefined || opened === undefined) return null;
  const { openNs = 0, closeNs = 0 } = alone.metrics;
  const races = select(runs, 'contexts').map(({ parameters, metrics }) => ({
    contexts: Number(parameters.contexts),
    bytesNs: metrics.serviceNs! - cost.idleTollNs,
  }));
  const first = races.find(({ contexts }) => contexts === 1);
  if (first === undefined) return null;
  return {
    max: opened,
    createNs: Math.round(metric(runs, 'context', 'createNs') ?? openNs),
    destroyNs: Math.round(metric(runs, 'context', 'destroyNs') ?? closeNs),
    // What n of them carry together: n times what each of them has left of its rate.
    aggregateRate: races.map(({ contexts, bytesNs }) => ({
      contexts,
      factor: contexts === 1 ? 1 : round((contexts * first.bytesNs) / Math.max(1, bytesNs), 4),
    })),
  };
}

const round = (value: number, digits: number) => Number(value.toPrecision(digits));

function fitSubmission(runs: readonly MeasuredRun[]) {
  const run = select(runs, 'submission')[0];
  if (run === undefined) return null;
  const { launchNs = 0, graphLaunchNs = 0, launchAndWaitNs = 0, nodeNs = 0 } = run.metrics;
  const kernelAndStartNs = Math.max(0, nodeNs);
  const startNs = metric(runs, 'nodes', 'startNs') ?? kernelAndStartNs;
  const graphNodeNs = Math.min(Math.max(0, startNs), kernelAndStartNs);
  const roundedNs = Math.round(launchNs);
  return {
    launchNs: roundedNs,
    // An empty kernel's round trip: ours is not empty, and its own time is known from the graph.
    launchWithWaitNs: Math.max(roundedNs, Math.round(launchAndWaitNs - kernelAndStartNs)),
    graphLaunchNs: Math.round(graphLaunchNs),
    graphNodeNs: Math.round(graphNodeNs),
    kernelNs: Math.round(kernelAndStartNs - graphNodeNs),
  };
}

function submissionFits(runs: readonly MeasuredRun[], { submission }: Profile): ParameterFit[] {
  const run = select(runs, 'submission')[0];
  return [
    ...oneFit('submission.launchNs', submission.launchNs, run, 'launchNs'),
    ...oneFit('submission.graphLaunchNs', submission.graphLaunchNs, run, 'graphLaunchNs'),
    ...oneFit(
      'submission.graphNodeNs',
      submission.graphNodeNs,
      select(runs, 'nodes')[0],
      'startNs',
    ),
  ];
}
