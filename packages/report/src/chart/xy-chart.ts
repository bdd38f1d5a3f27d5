import { type Area, type Axis, drawAxes, placed, type Scale, scaleOf } from './axes.ts';
import { colourOf, label, line, px, svgDocument } from './svg.ts';

/** Points of one name in one colour: marks where something was measured, a line for a law. */
export interface Series {
  readonly name: string;
  readonly colour: number;
  readonly style: 'marks' | 'line' | 'dashed' | 'marked line';
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Least and greatest y, for the point of the same index. */
  readonly whiskers?: readonly (readonly [low: number, high: number])[];
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
const AREA: Area = { left: 84, right: WIDTH - 24, top: 34, bottom: 292 };
const LEGEND_TOP = 348;
const LEGEND_LINE = 18;
const LINE_WIDTH = 1.8;
const DASH = '5 4';

/** Numbers against numbers, with the legend in two columns below. */
export function drawChart(spec: ChartSpec): string {
  const { title, series, yRange = [] } = spec;
  const xs = series.flatMap(({ points }) => points.map(([x]) => x));
  const ys = series.flatMap(({ points, whiskers }) => [
    ...points.map(([, y]) => y),
    ...(whiskers ?? []).flat(),
  ]);
  const x = scaleOf(spec.x, xs, AREA.left, AREA.right);
  const y = scaleOf(spec.y, [...ys, ...yRange], AREA.bottom, AREA.top);
  const height = LEGEND_TOP - 2 + LEGEND_LINE * Math.ceil(series.length / 2);
  return svgDocument({ width: WIDTH, height, title, titleAt: [AREA.left, 18], fontSize: 12 }, [
    ...drawAxes(AREA, placed(spec.x, x), placed(spec.y, y)),
    ...series.map((one) => drawSeries(one, x, y)),
    ...series.map((one, index) => drawLegend(one, index)),
  ]);
}

const mark = (x: number, y: number, colour: string) =>
  `<circle cx="${px(x)}" cy="${px(y)}" r="3.4" fill="${colour}"/>`;

function drawSeries(series: Series, x: Scale, y: Scale): string {
  const colour = colourOf(series.colour);
  const places = series.points.map(([px, py]) => [x.at(px), y.at(py)] as const);
  if (series.style === 'line' || series.style === 'dashed') {
    return line(places, colour, LINE_WIDTH, series.style === 'dashed' ? DASH : '');
  }
  if (series.style === 'marked line') {
    const marks = places.map(([cx, cy]) => mark(cx, cy, colour));
    return line(places, colour, LINE_WIDTH) + marks.join('');
  }
  const whiskers = (series.whiskers ?? []).map(([low, high], index) => {
    const at = px(places[index]![0]);
    return `<path d="M${at} ${px(y.at(low))}V${px(y.at(high))}" stroke="${colour}" opacity="0.5"/>`;
  });
  return [...whiskers, ...places.map(([cx, cy]) => mark(cx, cy, colour))].join('');
}

function drawLegend({ name, colour: index, style }: Series, position: number): string {
  const left = AREA.left + (position % 2) * ((WIDTH - AREA.left) / 2);
  const base = LEGEND_TOP + LEGEND_LINE * Math.floor(position / 2);
  const middle = base - 4;
  const colour = colourOf(index);
  const ends = [
    [left, middle],
    [left + 20, middle],
  ] as const;
  const sign =
    style === 'marks'
      ? mark(left + 10, middle, colour)
      : line(ends, colour, LINE_WIDTH, style === 'dashed' ? DASH : '');
  return sign + label([left + 28, base], name);
}
