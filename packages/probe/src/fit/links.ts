import { type MeetingCost, meetingNs, type Profile } from '@bridgekeeper/bridge';
import { arrivingBytes, type CollectiveName, type Meeting, meetingOf } from '@bridgekeeper/device';
import type { MeasuredRun } from '@bridgekeeper/report';
import { select } from '../runs.ts';
import { type CostPoint, fitIdleCost } from './crossing-cost.ts';
import type { ParameterFit } from './profile.ts';

type Links = NonNullable<Profile['links']>;
/** What a kernel takes that has nothing to do is known by these. */
export type KernelTerms = Pick<Profile['roofline'], 'kernelNs'> &
  Pick<Profile['submission'], 'graphNodeNs'>;

export interface FittedLinks {
  readonly links: Links;
  readonly fits: readonly ParameterFit[];
}

const MEETINGS = ['pushed', 'pulled', 'gathered'] as const;
/** A curve needs so many. */
const POINTS_MIN = 3;
/** A difference of two measurements may come out as less than nothing. */
const LEAST_NS = 1;

/** One collective as measured. */
interface Point extends CostPoint {
  readonly run: MeasuredRun;
}

/**
 * What collectives take beside the start of a kernel, out of what they took; null where none were
 * measured, or too few. A modelled GPU with the profile then takes for them what was measured.
 */
export function fitLinks(runs: readonly MeasuredRun[], terms: KernelTerms): FittedLinks | null {
  const measured = select(runs, 'collective');
  const gpus = Number(measured[0]?.parameters.gpus ?? 1);
  const startNs = terms.kernelNs + terms.graphNodeNs;
  const costs = {} as Record<Meeting, MeetingCost>;
  const fits: ParameterFit[] = [];
  for (const meeting of MEETINGS) {
    const points = pointsOf(measured, meeting, gpus, startNs);
    if (points.length < POINTS_MIN) return null;
    const { idleTollNs: tollNs, bandwidth } = fitIdleCost(points);
    const cost = { tollNs, bandwidth };
    costs[meeting] = cost;
    fits.push(...fitsOf(meeting, cost, points, startNs));
  }
  const copies = select(runs, 'peer').map(({ metrics }) => metrics.bytesPerSecond!);
  const copyBytesPerSecond = copies.length === 0 ? undefined : Math.round(Math.min(...copies));
  const links = { gpus, ...(copyBytesPerSecond && { copyBytesPerSecond }), ...costs };
  return { links, fits };
}

function pointsOf(
  runs: readonly MeasuredRun[],
  wanted: Meeting,
  gpus: number,
  startNs: number,
): Point[] {
  return runs.flatMap((run) => {
    const name = run.parameters.name as CollectiveName;
    const bytes = Number(run.parameters.bytes);
    const meeting = meetingOf(name, gpus, bytes);
    if (meeting !== wanted) return [];
    const ns = Math.max(LEAST_NS, run.metrics.operationNs! - startNs);
    return [{ bytes: arrivingBytes(meeting, gpus, bytes), ns, run }];
  });
}

/** What a collective takes in a graph by a profile, the start of its kernel included. */
export function operationNs(
  { roofline: { kernelNs }, submission: { graphNodeNs } }: Profile,
  links: Links,
  name: CollectiveName,
  bytes: number,
): number {
  const { gpus } = links;
  const meeting = meetingOf(name, gpus, bytes);
  const arriving = arrivingBytes(meeting, gpus, bytes);
  return meetingNs(links[meeting], arriving) + kernelNs + graphNodeNs;
}

function fitsOf(
  meeting: Meeting,
  cost: MeetingCost,
  points: readonly Point[],
  startNs: number,
): ParameterFit[] {
  const residual = Math.max(
    ...points.map(({ bytes, run }) =>
      Math.abs((meetingNs(cost, bytes) + startNs) / run.metrics.operationNs! - 1),
    ),
  );
  const [first, last] = [points[0]!, points.at(-1)!];
  const beside = ({ run }: Point, alsoNs: number) =>
    run.spread.operationNs!.map((ns) => Math.max(LEAST_NS, ns - startNs - alsoNs)) as [
      number,
      number,
    ];
  const [shortNs, longNs] = beside(last, cost.tollNs);
  return [
    {
      parameter: `links.${meeting}.tollNs`,
      value: cost.tollNs,
      // Of large sums the smallest is mostly its bytes.
      spread: meeting === 'pulled' ? null : beside(first, 0),
      repeats: first.run.repeats,
      residual,
    },
    {
      parameter: `links.${meeting}.bandwidth`,
      value: cost.bandwidth.at(-1)!.bytesPerSecond,
      spread: [(last.bytes * 1e9) / longNs, (last.bytes * 1e9) / shortNs],
      repeats: last.run.repeats,
      residual,
    },
  ];
}
