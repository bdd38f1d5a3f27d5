import {
  type Axis,
  type ChartSpec,
  drawChart,
  drawStacks,
  drawTimeline,
  duration,
  type Series,
  type Track,
  threeDigits,
} from '@bridgekeeper/report';
import type { Plan, Point } from '../plan/plan.ts';
import type { Prediction, StepBreakdown } from '../simulate/prediction.ts';

const LATENCY: Axis = {
  title: 'mean time between tokens, at the median request',
  isLog: false,
  text: (ms) => `${threeDigits(ms)} ms`,
};
const TOKENS: Axis = { title: 'output tokens/s', isLog: false, text: threeDigits };
const TAX: Axis = {
  title: 'throughput lost to confidential computing',
  isLog: false,
  text: (percent) => `${threeDigits(percent)} %`,
};

const nameOf = ({ engine, law }: Prediction) => `${engine}, ${law === 'off' ? 'law off' : law}`;

/** What is drawn in one line: an engine under a law, in the order of its loads. */
function linesOf(points: readonly Point[]): readonly (readonly Point[])[] {
  const lines = new Map<string, Point[]>();
  for (const point of points) {
    const name = nameOf(point.prediction);
    lines.set(name, [...(lines.get(name) ?? []), point]);
  }
  return [...lines.values()].map((line) => line.sort((a, b) => a.value - b.value));
}

/** The same colour for an engine in every picture. */
function colourIn({ predictions }: Plan): (prediction: Prediction) => number {
  const engines = [...new Set(predictions.map(({ prediction }) => prediction.engine))];
  return ({ engine }) => engines.indexOf(engine);
}

/** Throughput against latency over the loads of a sweep; null without one. */
export function throughputFigure(plan: Plan, kind: Point['kind']): string | null {
  const points = plan.points.filter((point) => point.kind === kind);
  if (points.length === 0) return null;
  const colourOf = colourIn(plan);
  const series = linesOf(points).map((line): Series => {
    const { prediction } = line[0]!;
    return {
      name: nameOf(prediction),
      colour: colourOf(prediction),
      style: prediction.law === 'off' ? 'dashed' : 'marked line',
      points: line.map(({ prediction: at }) => [at.tpotMs.p50, at.outputTokensPerSecond] as const),
    };
  });
  const loads = [...new Set(points.map(({ value }) => value))].join(', ');
  const what = kind === 'concurrency' ? `${loads} at a time` : `${loads} req/s`;
  return drawChart({ title: `Throughput against latency: ${what}`, x: LATENCY, y: TOKENS, series });
}

/** What each law takes by how many requests there are at a time; null without a sweep. */
export function taxFigure(plan: Plan, kind: Point['kind']): string | null {
  const points = plan.points.filter((point) => point.kind === kind && point.tax !== null);
  if (points.length === 0) return null;
  const colourOf = colourIn(plan);
  const series = linesOf(points).map((line): Series => {
    return {
      name: nameOf(line[0]!.prediction),
      colour: colourOf(line[0]!.prediction),
      style: 'marked line',
      points: line.map(({ value, tax }) => [value, Math.max(0, 100 * tax!)] as const),
    };
  });
  const loads = [...new Set(points.map(({ value }) => value))];
  const x: Axis =
    kind === 'concurrency'
      ? { title: 'requests at a time', isLog: true, text: String, ticks: loads }
      : { title: 'requests a second', isLog: false, text: threeDigits };
  const spec: ChartSpec = { title: 'What the bridge takes, by load', x, y: TAX, series };
  return drawChart({ ...spec, yRange: [0, 1] });
}

/** Parts of a step, in the order in which they lie. */
export const STEP_PARTS = [
  ['memoryNs', 'memory'],
  ['computeNs', 'arithmetic'],
  ['kernelNs', 'kernels’ own time'],
  ['collectiveNs', 'collectives'],
  ['tollNs', 'tolls'],
  ['transferNs', 'bytes crossing'],
  ['allocationNs', 'allocation'],
  ['blockedNs', 'blocked threads'],
  ['launchNs', 'launches'],
  ['hostNs', 'host'],
  ['idleNs', 'nothing to do'],
] as const satisfies readonly (readonly [keyof StepBreakdown, string])[];

/** Where an average step's time goes, for each engine and law; without parts that none has. */
export function stepFigure({ predictions }: Plan): string {
  const steps = predictions.map(({ prediction }) => prediction);
  const parts = STEP_PARTS.filter(([part]) => steps.some(({ step }) => step[part] > 0));
  return drawStacks({
    title: 'Where the time of a step goes',
    parts: parts.map(([, title]) => title),
    bars: steps.map((prediction) => {
      return {
        name: nameOf(prediction),
        values: parts.map(([part]) => prediction.step[part]),
      };
    }),
    text: duration,
  });
}

/** From a bare GPU to the first request. */
export function coldStartFigure({ predictions }: Plan): string {
  const phases = ['reset', 'memory', 'boot', 'attestation', 'load', 'kernels'] as const;
  const titles = ['reset', 'accepting memory', 'boot', 'attestation', 'weights', 'kernels'];
  return drawStacks({
    title: 'From a bare GPU to the first request',
    parts: titles,
    bars: predictions.map(({ prediction }) => {
      const seconds = (name: string) =>
        prediction.coldStart.find(({ phase }) => phase === name)?.seconds ?? 0;
      return { name: nameOf(prediction), values: phases.map(seconds) };
    }),
    text: (value) => duration(value * 1e9),
  });
}

const KINDS_MAX = 6;

/** What lanes and threads did in the window; null where nothing was kept. */
export function timelineFigure(prediction: Prediction): string | null {
  const { timeline } = prediction;
  if (timeline.length === 0) return null;
  const kinds = longestNames(timeline);
  const tracks = new Map<string, Track['spans'][number][]>();
  for (const { lane, name, startNs, endNs } of timeline) {
    const kind = kinds.includes(name) ? name : OTHERS;
    const spans = tracks.get(lane) ?? [];
    spans.push({ startNs, endNs, kind, detail: kind === OTHERS ? name : undefined });
    tracks.set(lane, spans);
  }
  const fromNs = timeline.reduce((least, { startNs }) => Math.min(least, startNs), Infinity);
  const toNs = timeline.reduce((most, { endNs }) => Math.max(most, endNs), 0);
  return drawTimeline({
    title: `${nameOf(prediction)}: ${duration(toNs - fromNs)} from ${duration(fromNs)} on`,
    kinds: timeline.some(({ name }) => !kinds.includes(name)) ? [...kinds, OTHERS] : kinds,
    tracks: [...tracks].map(([name, spans]) => ({ name, spans })),
    fromNs,
    toNs,
    text: duration,
  });
}

const OTHERS = 'other';

/** Those that take most of the time. */
function longestNames(timeline: Prediction['timeline']): readonly string[] {
  const times = new Map<string, number>();
  for (const { name, startNs, endNs } of timeline) {
    times.set(name, (times.get(name) ?? 0) + endNs - startNs);
  }
  const ranked = [...times].sort((a, b) => b[1] - a[1]);
  return ranked.slice(0, KINDS_MAX).map(([name]) => name);
}
