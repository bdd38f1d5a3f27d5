import type { MeasuredRun } from '../result.ts';
import { type Area, drawAxes, type PlacedAxis } from './axes.ts';
import { colourOf, label, line, type Point, svgDocument } from './svg.ts';

/** Which parameters and which metric of a suite's runs make its picture. */
export interface PlotSpec {
  readonly title: string;
  /** A numeric parameter, drawn at even steps. */
  readonly x: string;
  /** A metric. It is drawn in percent of the best run at the same x, so that small losses show. */
  readonly y: string;
  /** Told apart by colour. */
  readonly colour: string;
  /** Told apart by the kind of line. */
  readonly dash: string;
}

const SHEET = { width: 820, height: 400, titleAt: [72, 26], fontSize: 13 } as const;
const AREA: Area = { left: 72, right: 580, top: 48, bottom: 344 };
const LINE_WIDTH = 2.5;
const DASHES = ['', '6 4', '2 3'] as const;

/** A line for each colour and dash, in percent of the best, with the legend on the right. */
export function plotRuns(runs: readonly MeasuredRun[], spec: PlotSpec): string {
  const valuesOf = (name: string) => [...new Set(runs.map((run) => run.parameters[name]))];
  const xOf = (run: MeasuredRun) => Number(run.parameters[spec.x]);
  const xs = [...new Set(runs.map(xOf))].sort((a, b) => a - b);
  const step = (AREA.right - AREA.left) / Math.max(1, xs.length);
  const atX = (x: number) => AREA.left + step * (xs.indexOf(x) + 0.5);
  const percentOf = percentOfBest(runs, spec, xOf);
  const y = percentAxis(Math.min(100, ...runs.map(percentOf)));
  const pairs = valuesOf(spec.dash).flatMap((dash, dashIndex) =>
    valuesOf(spec.colour).map((colour, colourIndex) => ({ dash, dashIndex, colour, colourIndex })),
  );
  const lines = pairs.map(({ dash, dashIndex, colour, colourIndex }, index) => {
    const points = runs
      .filter((run) => run.parameters[spec.dash] === dash)
      .filter((run) => run.parameters[spec.colour] === colour)
      .map((run) => [atX(xOf(run)), y.at(percentOf(run))] as const)
      .sort((a, b) => a[0] - b[0]);
    return drawLine(`${colour}, ${dash}`, points, index, {
      colour: colourOf(colourIndex),
      dash: DASHES[dashIndex % DASHES.length]!,
    });
  });
  const x: PlacedAxis = {
    title: spec.x,
    ticks: xs.map((value) => ({ at: atX(value), text: String(value) })),
  };
  const parts = [...drawAxes(AREA, x, y), ...lines];
  return `${svgDocument({ ...SHEET, title: spec.title }, parts)}\n`;
}

/** A run's metric in percent of the best one at the same x. */
function percentOfBest(
  runs: readonly MeasuredRun[],
  { y }: PlotSpec,
  xOf: (run: MeasuredRun) => number,
): (run: MeasuredRun) => number {
  const metricOf = (run: MeasuredRun) => run.metrics[y] ?? 0;
  const best = new Map<number, number>();
  for (const run of runs) best.set(xOf(run), Math.max(best.get(xOf(run)) ?? 0, metricOf(run)));
  return (run) => (100 * metricOf(run)) / (best.get(xOf(run)) || 1);
}

/** From the multiple of five below the least value to 100 percent. */
function percentAxis(least: number): PlacedAxis & { at(percent: number): number } {
  const bottom = Math.min(95, Math.floor(least / 5) * 5);
  const height = AREA.bottom - AREA.top;
  const at = (percent: number) => AREA.top + (height * (100 - percent)) / (100 - bottom);
  const levels = [0, 0.2, 0.4, 0.6, 0.8, 1].map((part) => bottom + part * (100 - bottom));
  const ticks = levels.map((percent) => ({ at: at(percent), text: `${percent} %` }));
  return { title: 'percent of the best', ticks, at };
}

function drawLine(
  name: string,
  points: readonly Point[],
  position: number,
  { colour, dash }: { readonly colour: string; readonly dash: string },
): string {
  const left = AREA.right + 16;
  const base = AREA.top + 20 * position + 6;
  const sign = `<path d="M${left} ${base - 4}h32" fill="none" stroke-width="${LINE_WIDTH}"`;
  return [
    line(points, colour, LINE_WIDTH, dash),
    `${sign} stroke="${colour}" stroke-dasharray="${dash}"/>`,
    label([left + 40, base], name),
  ].join('\n');
}
