import type { BenchRun } from './result.ts';

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

const WIDTH = 820;
const HEIGHT = 400;
const MARGIN = { left: 72, right: 240, top: 48, bottom: 56 };
/** Okabe and Ito's palette: told apart by colour-blind readers too. */
export const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'] as const;
const DASHES = ['', '6 4', '2 3'] as const;

interface Axis {
  readonly bottom: number;
  readonly top: number;
  at(y: number): number;
}

/** Draws runs as a self-contained SVG: a line for each colour and dash, in percent of the best. */
export function plotRuns(runs: readonly BenchRun[], spec: PlotSpec): string {
  const valuesOf = (name: string) => [...new Set(runs.map((run) => run.parameters[name]))];
  const xs = valuesOf(spec.x)
    .map(Number)
    .sort((a, b) => a - b);
  const xOf = (run: BenchRun) => Number(run.parameters[spec.x]);
  const metricOf = (run: BenchRun) => run.metrics[spec.y] ?? 0;
  const best = new Map(
    xs.map((x) => [x, Math.max(...runs.filter((run) => xOf(run) === x).map(metricOf))]),
  );
  const percentOf = (run: BenchRun) => (100 * metricOf(run)) / (best.get(xOf(run)) || 1);
  const axis = axisOf(Math.min(100, ...runs.map(percentOf)));
  const plotWidth = WIDTH - MARGIN.left - MARGIN.right;
  const atX = (x: number) =>
    MARGIN.left + (plotWidth * (xs.indexOf(x) + 0.5)) / Math.max(1, xs.length);
  const pairs = valuesOf(spec.dash).flatMap((dash, dashIndex) =>
    valuesOf(spec.colour).map((colour, colourIndex) => ({ dash, dashIndex, colour, colourIndex })),
  );
  const lines = pairs.map(({ dash, dashIndex, colour, colourIndex }, index) => {
    const points = runs
      .filter((run) => run.parameters[spec.dash] === dash)
      .filter((run) => run.parameters[spec.colour] === colour)
      .map((run) => [atX(xOf(run)), axis.at(percentOf(run))] as const)
      .sort((a, b) => a[0] - b[0]);
    const style = `stroke="${COLOURS[colourIndex % COLOURS.length]}" stroke-dasharray="${
      DASHES[dashIndex % DASHES.length]
    }"`;
    return drawLine(`${colour}, ${dash}`, points, style, index);
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" ` +
      `font-family="sans-serif" font-size="13" role="img">`,
    `<title>${escapeXml(spec.title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    `<text x="${MARGIN.left}" y="26" font-size="16">${escapeXml(spec.title)}</text>`,
    ...drawAxes(
      xs.map((x) => [atX(x), String(x)] as const),
      axis,
      spec,
    ),
    ...lines,
    '</svg>',
    '',
  ].join('\n');
}

/** From the multiple of five below the least value to 100 percent. */
function axisOf(least: number): Axis {
  const bottom = Math.min(95, Math.floor(least / 5) * 5);
  const plotHeight = HEIGHT - MARGIN.top - MARGIN.bottom;
  const at = (y: number) => MARGIN.top + (plotHeight * (100 - y)) / (100 - bottom);
  return { bottom, top: 100, at };
}

function drawAxes(
  ticks: readonly (readonly [number, string])[],
  axis: Axis,
  spec: PlotSpec,
): string[] {
  const right = WIDTH - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const levels = [0, 0.2, 0.4, 0.6, 0.8, 1].map(
    (part) => axis.bottom + part * (axis.top - axis.bottom),
  );
  return [
    ...levels.map(
      (y) =>
        `<path d="M${MARGIN.left} ${axis.at(y)}H${right}" stroke="#ddd"/>` +
        `<text x="${MARGIN.left - 8}" y="${axis.at(y) + 4}" text-anchor="end">${y} %</text>`,
    ),
    ...ticks.map(
      ([x, label]) => `<text x="${x}" y="${bottom + 20}" text-anchor="middle">${label}</text>`,
    ),
    `<text x="${(MARGIN.left + right) / 2}" y="${HEIGHT - 12}" text-anchor="middle">` +
      `${escapeXml(spec.x)}</text>`,
    `<text transform="translate(18 ${(MARGIN.top + bottom) / 2}) rotate(-90)" ` +
      `text-anchor="middle">percent of the best</text>`,
  ];
}

function drawLine(
  name: string,
  points: readonly (readonly [number, number])[],
  style: string,
  index: number,
): string {
  const at = points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`);
  const legendY = MARGIN.top + 20 * index + 6;
  const legendX = WIDTH - MARGIN.right + 16;
  return [
    `<path d="M${at.join('L')}" fill="none" stroke-width="2.5" ${style}/>`,
    `<path d="M${legendX} ${legendY - 4}h32" fill="none" stroke-width="2.5" ${style}/>`,
    `<text x="${legendX + 40}" y="${legendY}">${escapeXml(name)}</text>`,
  ].join('\n');
}

export function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
