import { label, rectangle, svgDocument } from './svg.ts';

/** One bar, from its parts in the order of `StackSpec.parts`. */
export interface Stack {
  readonly name: string;
  readonly values: readonly number[];
}

export interface StackSpec {
  readonly title: string;
  /** What the parts are, in the order in which they lie. */
  readonly parts: readonly string[];
  readonly bars: readonly Stack[];
  readonly text: (value: number) => string;
}

const WIDTH = 1040;
const NAMES_WIDTH = 250;
const NUMBERS_WIDTH = 110;
const LEGEND_TOP = 30;
const LEGEND_LINE = 18;
const LEGEND_COLUMN = 190;
const BAR_STEP = 30;
const BAR_HEIGHT = 20;
/** Narrower parts have no number in them. */
const TEXT_PIXELS_MIN = 46;

/** Horizontal bars on one scale, each made of parts, with the sum beside it. */
export function drawStacks({ title, parts, bars, text }: StackSpec): string {
  const sums = bars.map(({ values }) => values.reduce((sum, value) => sum + value, 0));
  const most = Math.max(...sums, 1e-9);
  const length = (value: number) => (value / most) * (WIDTH - NAMES_WIDTH - NUMBERS_WIDTH);
  const columns = Math.floor(WIDTH / LEGEND_COLUMN);
  const legend = parts.map((part, index) => {
    const left = (index % columns) * LEGEND_COLUMN;
    const top = LEGEND_TOP + Math.floor(index / columns) * LEGEND_LINE;
    return rectangle([left, top], 12, 10, fillOf(index)) + label([left + 18, top + 9], part);
  });
  const firstTop = LEGEND_TOP + LEGEND_LINE * Math.ceil(parts.length / columns) + 8;
  const rows = bars.map(({ name, values }, row) => {
    const top = firstTop + BAR_STEP * row;
    let left = NAMES_WIDTH;
    const drawn = values.map((value, index) => {
      const width = length(Math.max(0, value));
      const at = left;
      left += width;
      if (width < 0.5) return '';
      const number =
        width < TEXT_PIXELS_MIN
          ? ''
          : label(
              [at + width / 2, top + 14],
              text(value),
              'class="on" text-anchor="middle" font-size="11" fill="#1b1b1b"',
            );
      return rectangle([at, top], width, BAR_HEIGHT, fillOf(index)) + number;
    });
    return [
      label([NAMES_WIDTH - 10, top + 14], name, 'text-anchor="end"'),
      ...drawn,
      label([left + 8, top + 14], text(sums[row]!), 'class="faint" fill="#444"'),
    ].join('');
  });
  const height = firstTop + BAR_STEP * bars.length + 4;
  const sheet = { width: WIDTH, height, title, titleAt: [0, 18] as const, fontSize: 12 };
  return svgDocument(sheet, [...legend, ...rows]);
}

/** Lighter than lines, so that numbers can be read on them; the same order everywhere. */
const FILLS = [
  '#7fb8d8',
  '#a5d8c4',
  '#eaaf7f',
  '#e5bcd3',
  '#f2cf7f',
  '#c3b6e0',
  '#c9c9c9',
  '#b7d789',
  '#ef9a93',
  '#86cfd1',
  '#e6e2d8',
  '#d3a878',
] as const;

/** The fill of the part with this index; colours repeat after the twelfth. */
export const fillOf = (index: number): string => FILLS[index % FILLS.length]!;
