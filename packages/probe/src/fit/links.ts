import { type MeetingCost, meetingNs, type Profile } from '@bridgekeeper/bridge';
import { arrivingBytes, type CollectiveName, type Meeting, meetingOf } from '@bridgekeeper/device';
import type { MeasuredRun } from '@bridgekeeper/report';
import { select } from '../runs.ts';
import { type CostPoint, fitIdleCost } from './crossing-cost.ts';
import type { ParameterFit } from './profile.ts';

type Links = NonNullable<Profile['links']>;
/** What a kernel takes in its own GPU's memory is known by these. */
export type KernelTerms = Pick<Profile['roofline'], 'copyBytesPerSecond' | 'kernelNs'> &
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
  readonly ownNs: number;
}

/**
 * What collectives take beside their kernels' own work, out of what they took; null where none were
 * measured, or too few. A modelled GPU with the profile then takes for them what was measured.
 */
export function fitLinks(runs: readonly MeasuredRun[], terms: KernelTerms): FittedLinks | null {
  const measured = select(runs, 'collective');
  const gpus = Number(measured[0]?.parameters.gpus ?? 1);
  const costs = {} as Record<Meeting, MeetingCost>;
  const fits: ParameterFit[] = [];
  for (const meeting of MEETINGS) {
    const points = pointsOf(measured, meeting, gpus, terms);
    if (points.length < POINTS_MIN) return null;
    const { idleTollNs: tollNs, bandwidth } = fitIdleCost(points);
    const cost = { tollNs, bandwidth };
    costs[meeting] = cost;
    fits.push(...fitsOf(meeting, cost, points));
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
  terms: KernelTerms,
): Point[] {
  return runs.flatMap((run) => {
    const name = run.parameters.name as CollectiveName;
    const bytes = Number(run.parameters.bytes);
    const meeting = meetingOf(name, gpus, bytes);
    if (meeting !== wanted) return [];
    const ownNs = kernelNs(bytes, terms);
    const ns = Math.max(LEAST_NS, run.metrics.operationNs! - ownNs);
    return [{ bytes: arrivingBytes(meeting, gpus, bytes), ns, run, ownNs }];
  });
}

/** What a collective takes in a graph by a profile, the kernel's own work included. */
export function operationNs(
  { roofline, submission }: Profile,
  links: Links,
  name: CollectiveName,
  bytes: number,
): number {
  const { gpus } = links;
  const meeting = meetingOf(name, gpus, bytes);
  const beside = meetingNs(links[meeting], arrivingBytes(meeting, gpus, bytes));
  return beside + kernelNs(bytes, { ...roofline, ...submission });
}

/** What is read and written once by a kernel in a graph, as a modelled GPU has it. */
function kernelNs(bytes: number, terms: KernelTerms): number {
  const { copyBytesPerSecond, kernelNs: leastNs, graphNodeNs } = terms;
  return Math.max((2 * bytes * 1e9) / copyBytesPerSecond, leastNs) + graphNodeNs;
}

function fitsOf(meeting: Meeting, cost: MeetingCost, points: readonly Point[]): ParameterFit[] {
  const residual = Math.max(
    ...points.map(({ bytes, run, ownNs }) =>
      Math.abs((meetingNs(cost, bytes) + ownNs) / run.metrics.operationNs! - 1),
    ),
  );
  const [first, last] = [points[0]!, points.at(-1)!];
  const beside = ({ run, ownNs }: Point, extraNs: number) =>
    run.spread.operationNs!.map((ns) => Math.max(LEAST_NS, ns - ownNs - extraNs)) as [
      number,
      number,
    ];
  const [longNs, shortNs] = beside(last, cost.tollNs).toReversed() as [number, number];
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
