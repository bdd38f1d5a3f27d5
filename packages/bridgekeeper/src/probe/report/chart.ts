import { COLOURS, escapeXml } from '../../bench/plot.ts';

/** Points of one name in one colour: marks where something was measured, a line for a law. */
export interface Series {
  readonly name: string;
  readonly colour: number;
  readonly style: 'marks' | 'line' | 'dashed';
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Least and greatest y, for the point of the same index. */
  readonly whiskers?: readonly (readonly [low: number, high: number])[];
}

export interface Axis {
  readonly title: string;
  readonly isLog: boolean;
  readonly text: (value: number) => string;
  /** Where the axis has lines; by default where numbers are round. */
  readonly ticks?: readonly number[];
}

export interface ChartSpec {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
  /** Also covered by the y axis, so that charts side by side compare. */
  readonly yRange?: readonly [low: number, high: number];
}

const WIDTH = 520;
const HEIGHT = 340;
const MARGIN = { left: 84, right: 16, top: 34, bottom: 48 };
const LEGEND_LINE = 18;

interface Scale {
  readonly ticks: readonly number[];
  at(value: number): number;
}

/** One chart as SVG, without scripts, fit for a page and for a file of its own. */
export function drawChart(spec: ChartSpec): string {
  const xs = spec.series.flatMap(({ points }) => points.map(([x]) => x));
  const ys = spec.series.flatMap(({ points, whiskers }) => [
    ...points.map(([, y]) => y),
    ...(whiskers ?? []).flat(),
  ]);
  const right = WIDTH - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = scaleOf(spec.x, xs, MARGIN.left, right);
  const y = scaleOf(spec.y, [...ys, ...(spec.yRange ?? [])], bottom, MARGIN.top);
  const height = HEIGHT + LEGEND_LINE * Math.ceil(spec.series.length / 2) + 6;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" ` +
      'font-family="system-ui, sans-serif" font-size="12">',
    `<title>${escapeXml(spec.title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    `<text x="${MARGIN.left}" y="18" font-size="14" font-weight="600">` +
      `${escapeXml(spec.title)}</text>`,
    ...y.ticks.map(
      (tick) =>
        `<path d="M${MARGIN.left} ${px(y.at(tick))}H${right}" stroke="#e3e3e3"/>` +
        `<text x="${MARGIN.left - 8}" y="${px(y.at(tick) + 4)}" text-anchor="end" fill="#444">` +
        `${escapeXml(spec.y.text(tick))}</text>`,
    ),
    ...x.ticks.map(
      (tick) =>
        `<path d="M${px(x.at(tick))} ${bottom}v5" stroke="#888"/>` +
        `<text x="${px(x.at(tick))}" y="${bottom + 18}" text-anchor="middle" fill="#444">` +
        `${escapeXml(spec.x.text(tick))}</text>`,
    ),
    `<path d="M${MARGIN.left} ${bottom}H${right}" stroke="#888"/>`,
    `<text x="${(MARGIN.left + right) / 2}" y="${bottom + 38}" text-anchor="middle">` +
      `${escapeXml(spec.x.title)}</text>`,
    `<text transform="translate(13 ${(MARGIN.top + bottom) / 2}) rotate(-90)" ` +
      `text-anchor="middle">${escapeXml(spec.y.title)}</text>`,
    ...spec.series.map((series) => drawSeries(series, x, y)),
    ...spec.series.map((series, index) => drawLegend(series, index)),
    '</svg>',
  ].join('\n');
}

const px = (value: number) => value.toFixed(1);
const colourOf = ({ colour }: Series) => COLOURS[colour % COLOURS.length]!;

function drawSeries(series: Series, x: Scale, y: Scale): string {
  const colour = colourOf(series);
  const places = series.points.map(([px_, py]) => [px(x.at(px_)), px(y.at(py))] as const);
  if (series.style !== 'marks') {
    const dash = series.style === 'dashed' ? ' stroke-dasharray="5 4"' : '';
    const path = places.map((place) => place.join(' ')).join('L');
    return `<path d="M${path}" fill="none" stroke="${colour}" stroke-width="1.8"${dash}/>`;
  }
  const whiskers = (series.whiskers ?? []).map(([low, high], index) => {
    const at = places[index]![0];
    return `<path d="M${at} ${px(y.at(low))}V${px(y.at(high))}" stroke="${colour}" opacity="0.5"/>`;
  });
  const marks = places.map(
    ([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3.4" fill="${colour}"/>`,
  );
  return [...whiskers, ...marks].join('');
}

function drawLegend(series: Series, index: number): string {
  const left = MARGIN.left + (index % 2) * ((WIDTH - MARGIN.left) / 2);
  const top = HEIGHT + LEGEND_LINE * Math.floor(index / 2) + 8;
  const colour = colourOf(series);
  const dash = series.style === 'dashed' ? ' stroke-dasharray="5 4"' : '';
  const sign =
    series.style === 'marks'
      ? `<circle cx="${left + 10}" cy="${top - 4}" r="3.4" fill="${colour}"/>`
      : `<path d="M${left} ${top - 4}h20" stroke="${colour}" stroke-width="1.8"${dash}/>`;
  return `${sign}<text x="${left + 28}" y="${top}">${escapeXml(series.name)}</text>`;
}

function scaleOf(axis: Axis, values: readonly number[], from: number, to: number): Scale {
  const usable = values.filter((value) => Number.isFinite(value) && (!axis.isLog || value > 0));
  const least = Math.min(...usable);
  const most = Math.max(...usable);
  const ticks =
    axis.ticks ?? (axis.isLog ? decades(least, most) : roundSteps(Math.max(most, 1e-9)));
  const low = axis.isLog ? Math.min(least, ...ticks) : 0;
  const high = Math.max(most, ...ticks);
  const of = axis.isLog
    ? (value: number) => Math.log(Math.max(value, low))
    : (value: number) => value;
  const span = of(high) - of(low) || 1;
  return { ticks, at: (value) => from + ((of(value) - of(low)) / span) * (to - from) };
}

function decades(least: number, most: number): number[] {
  const first = Math.floor(Math.log10(least));
  const last = Math.max(first + 1, Math.ceil(Math.log10(most)));
  return Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index));
}

/** From 0 in about five steps of 1, 2 or 5 times a power of ten. */
function roundSteps(most: number): number[] {
  const rough = most / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((each) => each >= rough)!;
  const count = Math.ceil(most / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}

/** Horizontal bars: a length out of a whole, both with their numbers. */
export interface Bar {
  readonly name: string;
  readonly part: number;
  readonly whole: number;
}

const BAR_HEIGHT = 30;
const NAME_WIDTH = 190;

/** Bars on one scale; `text` gives the numbers beside them. */
export function drawBars(
  title: string,
  names: readonly [part: string, whole: string],
  bars: readonly Bar[],
  text: (value: number) => string,
): string {
  const most = Math.max(...bars.map(({ whole, part }) => Math.max(whole, part)), 1e-9);
  const width = 2 * WIDTH;
  const room = width - NAME_WIDTH - 190;
  const height = 56 + BAR_HEIGHT * bars.length;
  const rows = bars.map(({ name, part, whole }, index) => {
    const top = 44 + BAR_HEIGHT * index;
    const length = (value: number) => px(Math.max(1, (value / most) * room));
    return (
      `<text x="${NAME_WIDTH - 10}" y="${top + 15}" text-anchor="end">${escapeXml(name)}</text>` +
      `<rect x="${NAME_WIDTH}" y="${top}" width="${length(whole)}" height="20" fill="#dcdcdc"/>` +
      `<rect x="${NAME_WIDTH}" y="${top + 4}" width="${length(part)}" height="12" ` +
      `fill="${COLOURS[1]}"/>` +
      `<text x="${Number(length(whole)) + NAME_WIDTH + 8}" y="${top + 15}" fill="#444">` +
      `${escapeXml(`${text(part)} of ${text(Math.max(part, whole))}`)}</text>`
    );
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" ` +
      'font-family="system-ui, sans-serif" font-size="12">',
    `<title>${escapeXml(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    `<text x="0" y="18" font-size="14" font-weight="600">${escapeXml(title)}</text>`,
    `<rect x="${NAME_WIDTH}" y="26" width="12" height="10" fill="${COLOURS[1]}"/>` +
      `<text x="${NAME_WIDTH + 18}" y="35">${escapeXml(names[0])}</text>` +
      `<rect x="${NAME_WIDTH + 260}" y="26" width="12" height="10" fill="#dcdcdc"/>` +
      `<text x="${NAME_WIDTH + 278}" y="35">${escapeXml(names[1])}</text>`,
    ...rows,
    '</svg>',
  ].join('\n');
}
