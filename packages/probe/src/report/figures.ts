import { aloneNs, type Direction, type Profile } from '@bridgekeeper/bridge';
import {
  type Axis,
  type ChartSpec,
  drawBars,
  drawChart,
  duration,
  type MeasuredRun,
  rate,
  type Series,
  size,
  threeDigits,
} from '@bridgekeeper/report';
import { operationNs } from '../fit/links.ts';
import { select } from '../runs.ts';
import { MEMORIES } from '../workbench.ts';

/** What is drawn of one machine. */
export interface Drawn {
  readonly runs: readonly MeasuredRun[];
  readonly profile: Profile | null;
}

const SIZE_TICKS = [64, 1_024, 16_384, 262_144, 4_194_304, 67_108_864];
const BYTES: Axis = { title: 'bytes of the copy', isLog: true, text: size, ticks: SIZE_TICKS };
const COST: Axis = { title: 'time on an idle bridge', isLog: true, text: duration };
const RATE: Axis = { title: 'bytes by time', isLog: true, text: rate };
const WHERE = { h2d: 'To the device', d2h: 'From the device' } as const;

/** Cost against size in one direction: what was measured, the fitted law, a reference. */
export function costFigure(
  direction: Direction,
  { runs, profile }: Drawn,
  reference: Profile | null,
  prefix = '',
): ChartSpec {
  return {
    title: `${prefix}${WHERE[direction]}: time by size`,
    x: BYTES,
    y: COST,
    series: curves(direction, { runs, profile }, reference, (_, ns) => ns),
  };
}

/** The same as a rate, the toll included. */
export function rateFigure(
  direction: Direction,
  drawn: Drawn,
  reference: Profile | null,
  prefix = '',
): ChartSpec {
  return {
    title: `${prefix}${WHERE[direction]}: rate by size`,
    x: BYTES,
    y: RATE,
    series: curves(direction, drawn, reference, (bytes, ns) => (bytes * 1e9) / ns),
  };
}

function curves(
  direction: Direction,
  { runs, profile }: Drawn,
  reference: Profile | null,
  yOf: (bytes: number, ns: number) => number,
): Series[] {
  const sizes = select(runs, 'crossing', { direction, memory: 'pinned' }).map(({ parameters }) =>
    Number(parameters.bytes),
  );
  const law = (of: Profile, memory: (typeof MEMORIES)[number]) =>
    sizes.map((bytes) => {
      const ns = aloneNs(of.crossings[direction][memory], bytes);
      return [bytes, yOf(bytes, ns)] as const;
    });
  const measured = MEMORIES.flatMap((memory, colour): Series[] => {
    const found = select(runs, 'crossing', { direction, memory });
    const bytesOf = ({ parameters }: MeasuredRun) => Number(parameters.bytes);
    const marks: Series = {
      name: `${memory}, measured`,
      colour,
      style: 'marks',
      points: found.map((run) => [bytesOf(run), yOf(bytesOf(run), run.metrics.serviceNs!)]),
      whiskers: found.map((run) => {
        const [low, high] = run.spread.serviceNs!;
        return [yOf(bytesOf(run), low), yOf(bytesOf(run), high)];
      }),
    };
    if (profile === null) return [marks];
    const line = { name: `${memory}, fitted law`, colour, style: 'line' } as const;
    return [marks, { ...line, points: law(profile, memory) }];
  });
  if (reference === null || sizes.length === 0) return measured;
  const dashed = { name: `pinned, ${reference.name}`, colour: 2, style: 'dashed' } as const;
  return [...measured, { ...dashed, points: law(reference, 'pinned') }];
}

/** How the rate grows with contexts, and with streams of one context. */
export function contextsFigure({ runs, profile }: Drawn, prefix = ''): ChartSpec | null {
  const rates = profile?.contexts.aggregateRate ?? [];
  if (rates.length < 2) return null;
  const contexts = rates.map(({ contexts: count, factor }) => [count, factor] as const);
  const streams = streamFactors(runs);
  return {
    title: `${prefix}Several at once`,
    x: {
      title: 'copying at once',
      isLog: false,
      text: threeDigits,
      ticks: contexts.map(([count]) => count),
    },
    y: { title: 'rate, of one alone', isLog: false, text: (value) => `${threeDigits(value)}x` },
    series: [
      { name: 'contexts', colour: 0, style: 'line', points: contexts },
      { name: 'contexts, measured', colour: 0, style: 'marks', points: contexts },
      ...(streams.length < 2
        ? []
        : ([{ name: 'streams of one', colour: 1, style: 'marks', points: streams }] as const)),
    ],
    yRange: [0, 2],
  };
}

function streamFactors(runs: readonly MeasuredRun[]): (readonly [number, number])[] {
  const one = select(runs, 'streams', { streams: 1 })[0]?.metrics.bytesPerSecond;
  if (one === undefined) return [];
  return select(runs, 'streams').map(({ parameters, metrics }) => [
    Number(parameters.streams),
    metrics.bytesPerSecond! / one,
  ]);
}

const SUM_TICKS = [4_096, 65_536, 1_048_576, 16_777_216, 67_108_864];
const SUM_BYTES: Axis = { title: 'bytes on each GPU', isLog: true, text: size, ticks: SUM_TICKS };
const SUM_TIME: Axis = { title: 'time in a captured graph', isLog: true, text: duration };
const COLLECTIVES = [
  ['all-reduce', 'sums'],
  ['all-gather', 'gathers'],
] as const;

/** Collectives by size, as times and as rates; none where there is one GPU. */
export function collectiveFigures({ runs, profile }: Drawn, prefix = ''): ChartSpec[] {
  const links = profile?.links;
  const found = select(runs, 'collective');
  if (found.length === 0) return [];
  const seriesOf = (yOf: (bytes: number, ns: number) => number) =>
    COLLECTIVES.flatMap(([name, what], colour): Series[] => {
      const measured = select(runs, 'collective', { name });
      const bytesOf = ({ parameters }: MeasuredRun) => Number(parameters.bytes);
      const marks: Series = {
        name: `${what}, measured`,
        colour,
        style: 'marks',
        points: measured.map((run) => [bytesOf(run), yOf(bytesOf(run), run.metrics.operationNs!)]),
        whiskers: measured.map((run) => {
          const [low, high] = run.spread.operationNs!;
          return [yOf(bytesOf(run), low), yOf(bytesOf(run), high)];
        }),
      };
      if (links === undefined || profile === null) return [marks];
      const law = measured.map((run) => {
        const bytes = bytesOf(run);
        return [bytes, yOf(bytes, operationNs(profile, links, name, bytes))] as const;
      });
      return [marks, { name: `${what}, fitted law`, colour, style: 'line', points: law }];
    });
  const title = `${prefix}${found[0]!.parameters.gpus} GPUs together`;
  return [
    { title: `${title}: time by size`, x: SUM_BYTES, y: SUM_TIME, series: seriesOf((_, ns) => ns) },
    {
      title: `${title}: rate by size`,
      x: SUM_BYTES,
      y: RATE,
      series: seriesOf((bytes, ns) => (bytes * 1e9) / ns),
    },
  ];
}

const SMALL_BYTES = 4_096;

/** How long the issuing thread is blocked, and what queued work adds to a copy. */
export function issueFigures({ runs }: Drawn, prefix = ''): string[] {
  const found = select(runs, 'issue', { bytes: SMALL_BYTES });
  if (found.length === 0) return [];
  const barsOf = (part: string, whole: (metrics: MeasuredRun['metrics']) => number) =>
    found.map(({ parameters: { memory, direction }, metrics }) => ({
      name: `${memory}, ${String(direction).toUpperCase()}`,
      part: metrics[part]!,
      whole: whole(metrics),
    }));
  const copy = `${prefix}A copy of ${size(SMALL_BYTES)}`;
  return [
    drawBars(
      `${copy} behind queued work: who waits`,
      ['its thread was blocked', 'until the copy was done'],
      barsOf('queuedBlockedNs', ({ queuedDoneNs }) => queuedDoneNs!),
      duration,
    ),
    drawBars(
      `${copy}: what it takes, the wait for earlier work left out`,
      ['on an idle stream', 'behind queued work'],
      barsOf('laneNs', ({ laneNs, queuedTollNs }) => laneNs! + Math.max(0, queuedTollNs!)),
      duration,
    ),
  ];
}

/** Draws specs on y axes that cover the same range. */
export function drawAlike(specs: readonly ChartSpec[]): string[] {
  const ys = specs.flatMap(({ series }) =>
    series.flatMap(({ points, whiskers }) => [
      ...points.map(([, y]) => y),
      ...(whiskers ?? []).flat(),
    ]),
  );
  const usable = ys.filter((y) => y > 0);
  const yRange = [Math.min(...usable), Math.max(...usable)] as const;
  return specs.map((spec) => drawChart({ ...spec, yRange }));
}
