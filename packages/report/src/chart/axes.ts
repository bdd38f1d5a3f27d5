import { label, px } from './svg.ts';

export interface Axis {
  readonly title: string;
  readonly isLog: boolean;
  readonly text: (value: number) => string;
  /** Where the axis has lines; by default where numbers are round. */
  readonly ticks?: readonly number[];
}

/** Values of an axis as places on the sheet. */
export interface Scale {
  readonly ticks: readonly number[];
  /** Pixels from the sheet's left or upper edge. */
  at(value: number): number;
}

/** The part of the sheet that the axes enclose, in pixels. */
export interface Area {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** An axis that is laid out: its title, and its ticks with their places. */
export interface PlacedAxis {
  readonly title: string;
  readonly ticks: readonly { readonly at: number; readonly text: string }[];
}

/** Covers `values` and every tick. Linear scales begin at 0. */
export function scaleOf(axis: Axis, values: readonly number[], from: number, to: number): Scale {
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

/** An axis laid out on its scale. */
export function placed({ title, text }: Axis, { ticks, at }: Scale): PlacedAxis {
  return { title, ticks: ticks.map((value) => ({ at: at(value), text: text(value) })) };
}

/** Grid lines with their numbers on the left, ticks with theirs below, and both titles. */
export function drawAxes({ left, right, top, bottom }: Area, x: PlacedAxis, y: PlacedAxis) {
  const middle = (top + bottom) / 2;
  return [
    ...y.ticks.map(
      ({ at, text }) =>
        `<path d="M${left} ${px(at)}H${right}" class="grid" stroke="#e3e3e3"/>` +
        label([left - 8, at + 4], text, 'class="faint" text-anchor="end" fill="#444"'),
    ),
    ...x.ticks.map(
      ({ at, text }) =>
        `<path d="M${px(at)} ${bottom}v5" class="axis" stroke="#888"/>` +
        label([at, bottom + 18], text, 'class="faint" text-anchor="middle" fill="#444"'),
    ),
    `<path d="M${left} ${bottom}H${right}" class="axis" stroke="#888"/>`,
    label([(left + right) / 2, bottom + 38], x.title, 'text-anchor="middle"'),
    label([0, 0], y.title, `transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle"`),
  ];
}
