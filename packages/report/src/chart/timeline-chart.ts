import { escapeXml } from '../escape-xml.ts';
import { fillOf } from './stack-chart.ts';
import { label, px, rectangle, svgDocument } from './svg.ts';

/** Something that a track did from one time to another. */
export interface Span {
  readonly startNs: number;
  readonly endNs: number;
  /** One of `TimelineSpec.kinds`. */
  readonly kind: string;
  /** More to say, shown where a pointer rests on it. */
  readonly detail?: string | undefined;
}

/** A thread, a stream or a lane. */
export interface Track {
  readonly name: string;
  readonly spans: readonly Span[];
}

export interface TimelineSpec {
  readonly title: string;
  readonly kinds: readonly string[];
  readonly tracks: readonly Track[];
  /** The window that is drawn. */
  readonly fromNs: number;
  readonly toNs: number;
  readonly text: (ns: number) => string;
}

const WIDTH = 1040;
const NAMES_WIDTH = 170;
/** On the right, for half of the last time. */
const NUMBERS_WIDTH = 36;
const TOP = 56;
const TRACK_STEP = 34;
const TRACK_HEIGHT = 22;
const TICKS = 6;
const LEGEND_COLUMN = 150;
const SPANS_MAX = 4000;

/** What each track did in a window, one line a track. Too many spans are cut, and it is said. */
export function drawTimeline(spec: TimelineSpec): string {
  const { title, kinds, tracks, fromNs, toNs, text } = spec;
  const span = Math.max(1, toNs - fromNs);
  const at = (ns: number) => {
    const part = (Math.min(toNs, Math.max(fromNs, ns)) - fromNs) / span;
    return NAMES_WIDTH + part * (WIDTH - NAMES_WIDTH - NUMBERS_WIDTH);
  };
  const bottom = TOP + TRACK_STEP * tracks.length;
  const legend = kinds.map((kind, index) => {
    const left = index * LEGEND_COLUMN;
    return rectangle([left, 30], 12, 10, fillOf(index)) + label([left + 18, 39], kind);
  });
  const ticks = Array.from({ length: TICKS + 1 }, (_, index) => {
    const ns = (span * index) / TICKS;
    const x = at(fromNs + ns);
    return (
      `<path d="M${px(x)} ${TOP - 4}V${bottom}" class="grid" stroke="#e3e3e3"/>` +
      label([x, bottom + 16], text(ns), 'class="faint" text-anchor="middle" fill="#444"')
    );
  });
  let left = SPANS_MAX;
  const rows = tracks.map(({ name, spans }, row) => {
    const top = TOP + TRACK_STEP * row;
    const visible = spans.filter(({ startNs, endNs }) => endNs > fromNs && startNs < toNs);
    const drawn = visible.slice(0, Math.max(0, left)).map(({ startNs, endNs, kind, detail }) => {
      const width = Math.max(0.6, at(endNs) - at(startNs));
      const shape = rectangle([at(startNs), top], width, TRACK_HEIGHT, fillOf(kinds.indexOf(kind)));
      const words = `${kind}${detail === undefined ? '' : `, ${detail}`}: ${text(endNs - startNs)}`;
      return `<g><title>${escapeXml(words)}</title>${shape}</g>`;
    });
    left -= visible.length;
    return label([NAMES_WIDTH - 10, top + 15], name, 'text-anchor="end"') + drawn.join('');
  });
  const cut =
    left >= 0
      ? []
      : [label([NAMES_WIDTH, bottom + 32], `${-left} more spans are not drawn`, 'class="faint"')];
  const sheet = {
    width: WIDTH,
    height: bottom + 40,
    title,
    titleAt: [0, 18],
    fontSize: 12,
  } as const;
  return svgDocument(sheet, [...legend, ...ticks, ...rows, ...cut]);
}
