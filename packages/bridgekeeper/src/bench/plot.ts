import type { BenchRun } from './result.ts';

/** Which parameters and which metric of a suite's runs make its picture. */
export interface PlotSpec {
  readonly title: string;
  /** A numeric parameter, drawn at even steps. */
  readonly x: string;
  /** A metric. */
  readonly y: string;
  /** The parameters that together tell lines apart. */
  readonly series: readonly string[];
}

const WIDTH = 820;
const HEIGHT = 400;
const MARGIN = { left: 72, right: 240, top: 48, bottom: 56 };
/** Okabe and Ito's palette: told apart by colour-blind readers too. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'] as const;
/** Once the colours are used up, lines are dashed. */
const DASHES = ['', '6 4', '2 3'] as const;

/** Draws runs as a self-contained SVG: one line for each value of `series`, from zero. */
export function plotRuns(runs: readonly BenchRun[], spec: PlotSpec): string {
  const valuesOf = (name: string) => [...new Set(runs.map((run) => run.parameters[name]))];
  const xs = valuesOf(spec.x)
    .map(Number)
    .sort((a, b) => a - b);
  const top = niceCeiling(Math.max(...runs.map((run) => run.metrics[spec.y] ?? 0)));
  const plotWidth = WIDTH - MARGIN.left - MARGIN.right;
  const plotHeight = HEIGHT - MARGIN.top - MARGIN.bottom;
  const atX = (x: number) =>
    MARGIN.left + (plotWidth * (xs.indexOf(x) + 0.5)) / Math.max(1, xs.length);
  const atY = (y: number) => MARGIN.top + plotHeight * (1 - y / top);
  const seriesOf = (run: BenchRun) => spec.series.map((name) => run.parameters[name]).join(', ');
  const lines = [...new Set(runs.map(seriesOf))].map((series, index) => {
    const points = runs
      .filter((run) => seriesOf(run) === series)
      .map((run) => [atX(Number(run.parameters[spec.x])), atY(run.metrics[spec.y] ?? 0)] as const)
      .sort((a, b) => a[0] - b[0]);
    return drawLine(series, points, index);
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" ` +
      `font-family="sans-serif" font-size="13" role="img">`,
    `<title>${escapeXml(spec.title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    `<text x="${MARGIN.left}" y="26" font-size="16">${escapeXml(spec.title)}</text>`,
    ...drawAxes(
      xs.map((x) => [atX(x), String(x)] as const),
      top,
      atY,
      spec,
    ),
    ...lines,
    '</svg>',
    '',
  ].join('\n');
}

function drawAxes(
  ticks: readonly (readonly [number, string])[],
  top: number,
  atY: (y: number) => number,
  spec: PlotSpec,
): string[] {
  const right = WIDTH - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const levels = [0, 0.25, 0.5, 0.75, 1].map((part) => part * top);
  return [
    ...levels.map(
      (y) =>
        `<path d="M${MARGIN.left} ${atY(y)}H${right}" stroke="#ddd"/>` +
        `<text x="${MARGIN.left - 8}" y="${atY(y) + 4}" text-anchor="end">${y}</text>`,
    ),
    ...ticks.map(
      ([x, label]) => `<text x="${x}" y="${bottom + 20}" text-anchor="middle">${label}</text>`,
    ),
    `<text x="${(MARGIN.left + right) / 2}" y="${HEIGHT - 12}" text-anchor="middle">` +
      `${escapeXml(spec.x)}</text>`,
    `<text transform="translate(18 ${(MARGIN.top + bottom) / 2}) rotate(-90)" ` +
      `text-anchor="middle">${escapeXml(spec.y)}</text>`,
  ];
}

function drawLine(
  name: string,
  points: readonly (readonly [number, number])[],
  index: number,
): string {
  const colour = COLOURS[index % COLOURS.length]!;
  const dash = DASHES[Math.floor(index / COLOURS.length) % DASHES.length]!;
  const at = points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`);
  const dots = at.map((point) => {
    const [x, y] = point.split(' ');
    return `<circle cx="${x}" cy="${y}" r="4" fill="${colour}"/>`;
  });
  const legendY = MARGIN.top + 18 * index + 10;
  const legendX = WIDTH - MARGIN.right + 16;
  return [
    `<path d="M${at.join('L')}" fill="none" stroke="${colour}" stroke-width="2" ` +
      `stroke-dasharray="${dash}"/>`,
    ...dots,
    `<circle cx="${legendX}" cy="${legendY - 4}" r="4" fill="${colour}"/>`,
    `<text x="${legendX + 10}" y="${legendY}">${escapeXml(name)}</text>`,
  ].join('\n');
}

/** The smallest of 1, 2, 4, 5, 8 times a power of ten that is not below `value`. */
function niceCeiling(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 4, 5, 8, 10].find((factor) => factor * power >= value)!;
  return step * power;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
