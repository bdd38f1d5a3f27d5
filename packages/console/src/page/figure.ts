/// <reference lib="dom" />

/** One line of a figure. */
export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Index of its colour and shape; those that belong together share it. */
  readonly look: number;
  readonly isDashed: boolean;
}

export interface Axis {
  readonly title: string;
  readonly text: (value: number) => string;
  readonly isLog?: boolean;
}

const WIDTH = 560;
const HEIGHT = 300;
const LEFT = 64;
const RIGHT = 28;
const TOP = 12;
const BOTTOM = 44;
const TICKS = 5;
/** More would lie on each other. */
const X_LABELS_MAX = 7;
const LOOKS = 8;
const SVG = 'http://www.w3.org/2000/svg';

type Attributes = Readonly<Record<string, string | number>>;

function element(name: string, attributes: Attributes, parent?: Element, text?: string): Element {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
}

/** Lines over two axes, told apart by colour, by the shape of their marks, and by dashes. */
export function linesFigure(title: string, x: Axis, y: Axis, lines: readonly Line[]): HTMLElement {
  const picture = svgOf(title, HEIGHT);
  const all = lines.flatMap(({ points }) => points);
  const xs = scaleOf(
    all.map(([value]) => value),
    x.isLog === true,
    [LEFT, WIDTH - RIGHT],
  );
  const values = all.map(([, value]) => value);
  const isLog = y.isLog === true;
  const ys = scaleOf(isLog ? values : [0, ...values], isLog, [HEIGHT - BOTTOM, TOP]);
  for (const value of ys.ticks) {
    const at = ys.place(value);
    element('line', { x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at, class: 'grid' }, picture);
    const place = { x: LEFT - 6, y: at + 4, class: 'tick end' };
    element('text', place, picture, y.text(value));
  }
  const xTicks = x.isLog === true ? [...new Set(all.map(([value]) => value))] : xs.ticks;
  const every = Math.ceil(xTicks.length / X_LABELS_MAX);
  for (const value of xTicks.filter((_, index) => index % every === 0)) {
    const place = { x: xs.place(value), y: HEIGHT - BOTTOM + 16, class: 'tick middle' };
    element('text', place, picture, x.text(value));
  }
  const middle = (LEFT + WIDTH - RIGHT) / 2;
  element('text', { x: middle, y: HEIGHT - 8, class: 'tick middle' }, picture, x.title);
  for (const { points, look, isDashed, name } of lines) {
    const places = points.map(([a, b]) => [xs.place(a), ys.place(b)] as const);
    const group = element('g', { class: `look${look % LOOKS}` }, picture);
    element('title', {}, group, name);
    element(
      'polyline',
      {
        points: places.map((place) => place.join(',')).join(' '),
        class: isDashed ? 'line dashed' : 'line',
      },
      group,
    );
    for (const [a, b] of places) element('path', { d: markOf(look, a, b), class: 'mark' }, group);
  }
  const legend = lines.map(({ name, look, isDashed }) => ({ name, look, isDashed }));
  return framed(`${title} (${y.title})`, picture, legend);
}

/** Bars of parts that add up, each with its legend below. */
export function stacksFigure(
  title: string,
  parts: readonly string[],
  bars: readonly { readonly name: string; readonly values: readonly number[] }[],
  text: (value: number) => string,
): HTMLElement {
  const rowHeight = 26;
  const nameWidth = 210;
  const picture = svgOf(title, bars.length * rowHeight + 8);
  const most = Math.max(1e-9, ...bars.map(({ values }) => values.reduce((a, b) => a + b, 0)));
  const room = WIDTH - nameWidth - 80;
  for (const [row, { name, values }] of bars.entries()) {
    const top = row * rowHeight + 4;
    element('text', { x: nameWidth - 8, y: top + 14, class: 'tick end' }, picture, name);
    let left = nameWidth;
    for (const [part, value] of values.entries()) {
      const width = (value / most) * room;
      if (width <= 0) continue;
      const place = { x: left, y: top, width, height: rowHeight - 8 };
      const bar = element('rect', { ...place, class: `bar look${part % LOOKS}` }, picture);
      element('title', {}, bar, `${parts[part]}: ${text(value)}`);
      // Colour alone must not tell parts apart: each has its number, where there is room.
      if (width > 14) {
        const at = { x: left + width / 2, y: top + 13, class: 'inside middle' };
        element('text', at, picture, String(part + 1));
      }
      left += width;
    }
    const whole = values.reduce((a, b) => a + b, 0);
    element('text', { x: left + 6, y: top + 14, class: 'tick' }, picture, text(whole));
  }
  const legend = parts.map((name, look) => ({ name: `${look + 1} ${name}`, look }));
  return framed(title, picture, legend);
}

function svgOf(title: string, height: number): Element {
  const picture = element('svg', { viewBox: `0 0 ${WIDTH} ${height}`, role: 'img' });
  picture.setAttribute('aria-label', title);
  return picture;
}

interface Entry {
  readonly name: string;
  readonly look: number;
  readonly isDashed?: boolean;
}

function framed(title: string, picture: Element, legend: readonly Entry[]): HTMLElement {
  const figure = document.createElement('figure');
  const caption = document.createElement('figcaption');
  caption.textContent = title;
  const list = document.createElement('ul');
  list.className = 'legend';
  for (const { name, look, isDashed = false } of legend) {
    const item = document.createElement('li');
    const sample = element('svg', { viewBox: '0 0 26 14', class: 'sample', 'aria-hidden': 'true' });
    const group = element('g', { class: `look${look % LOOKS}` }, sample);
    const line = isDashed ? 'line dashed' : 'line';
    element('polyline', { points: '1,7 25,7', class: line }, group);
    element('path', { d: markOf(look, 13, 7), class: 'mark' }, group);
    item.append(sample, ` ${name}`);
    list.append(item);
  }
  figure.append(caption, picture, list);
  return figure;
}

const MARK = 4;

/** Circle, square, triangle, diamond, and the same once more. */
function markOf(look: number, x: number, y: number): string {
  const r = MARK;
  switch (look % 4) {
    case 0:
      return `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;
    case 1:
      return `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
    case 2:
      return `M${x},${y - r - 1}l${r + 1},${2 * r}h${-2 * (r + 1)}z`;
    default:
      return `M${x},${y - r - 1}l${r + 1},${r + 1}l${-r - 1},${r + 1}l${-r - 1},${-r - 1}z`;
  }
}

interface Scale {
  readonly place: (value: number) => number;
  readonly ticks: readonly number[];
}

function scaleOf(
  values: readonly number[],
  isLog: boolean,
  [from, to]: readonly [number, number],
): Scale {
  const of = (value: number) => (isLog ? Math.log(Math.max(1e-9, value)) : value);
  const low = isLog ? of(Math.min(...values)) : 0;
  const step = roundStep((Math.max(...values) || 1) / TICKS);
  const count = Math.max(1, Math.ceil((Math.max(...values) || 1) / step - 1e-9));
  const high = isLog ? of(Math.max(...values)) : step * count;
  const span = Math.max(1e-9, high - low);
  return {
    place: (value) => from + ((of(value) - low) / span) * (to - from),
    ticks: isLog
      ? powersOfTen(low, high)
      : Array.from({ length: count + 1 }, (_, index) => index * step),
  };
}

/** Those between two natural logarithms. */
function powersOfTen(low: number, high: number): number[] {
  const first = Math.ceil(low / Math.LN10 - 1e-9);
  const last = Math.floor(high / Math.LN10 + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => 10 ** (first + index));
}

function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1e-12, least)));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= least) ?? 10);
}
