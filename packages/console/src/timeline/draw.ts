/// <reference lib="dom" />
import { firstEndingAfter, type Recording, type Slice } from './recording.ts';

/** What is shown: a stretch of time, and what is selected of it. */
export interface View {
  readonly fromUs: number;
  readonly toUs: number;
  readonly selection: { readonly fromUs: number; readonly toUs: number } | null;
}

/** Colours by what they mean, as the page's style has them. */
export interface Theme {
  readonly ink: string;
  readonly soft: string;
  readonly line: string;
  readonly ground: string;
  readonly decode: string;
  readonly prompts: string;
  readonly blocked: string;
  readonly selection: string;
  /** By purpose. */
  readonly purposes: Readonly<Record<string, string>>;
}

/** Colour alone must not tell purposes apart: each has a letter, too. */
export const LETTERS: Readonly<Record<string, string>> = {
  weights: 'W',
  command: 'C',
  grammar: 'G',
  tokens: 'T',
  pooled: 'E',
  'kv-spill': 'S',
  'kv-restore': 'R',
  probe: 'P',
};

export const NAMES_WIDTH = 140;
const MARGIN = 8;
const ROW_HEIGHT = 34;
const ROW_GAP = 8;
const AXIS_HEIGHT = 22;
/** A letter needs this much room. */
const LETTER_WIDTH = 13;
const TICK_SPACING = 110;

export function heightOf(recording: Recording): number {
  return AXIS_HEIGHT + (2 + recording.lanes.length) * (ROW_HEIGHT + ROW_GAP);
}

type Context = CanvasRenderingContext2D;

interface Canvas {
  readonly context: Context;
  readonly width: number;
  readonly view: View;
  readonly theme: Theme;
}

/** Draws everything anew: at most two rectangles for each pixel column and row. */
export function draw(
  context: Context,
  width: number,
  recording: Recording,
  view: View,
  theme: Theme,
): void {
  const canvas = { context, width, view, theme };
  const height = heightOf(recording);
  context.clearRect(0, 0, width, height);
  context.font = '12px system-ui, sans-serif';
  context.textBaseline = 'middle';
  axis(canvas, height);
  let top = AXIS_HEIGHT;
  const row = (name: string, hint: string, paint: (top: number) => void) => {
    label(canvas, name, hint, top);
    paint(top);
    top += ROW_HEIGHT + ROW_GAP;
  };
  row('GPU', 'launches', (y) => launches(canvas, recording.launches, y));
  row('launching thread', 'waited', (y) => waits(canvas, recording.blocked, y));
  for (const { name, slices } of recording.lanes) {
    row(`lane ${name}`, 'up ▲ to, ▼ from GPU', (y) => lane(canvas, recording, slices, y));
  }
  selection(canvas, height);
}

function xOf({ width, view }: Canvas, us: number): number {
  const part = (us - view.fromUs) / (view.toUs - view.fromUs);
  return NAMES_WIDTH + part * (width - NAMES_WIDTH);
}

/** The time under a horizontal place. */
export function usAt(x: number, width: number, { fromUs, toUs }: View): number {
  const part = (x - NAMES_WIDTH) / Math.max(1, width - NAMES_WIDTH);
  return fromUs + Math.min(1, Math.max(0, part)) * (toUs - fromUs);
}

/** A round number of microseconds of which at most `spans` fill `us`. */
export function tickOf(us: number, spans: number): number {
  const least = us / Math.max(1, spans);
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= least) ?? 10);
}

export function durationText(us: number): string {
  const size = Math.abs(us);
  if (size >= 1e6) return `${trimmed(us / 1e6)} s`;
  if (size >= 1e3) return `${trimmed(us / 1e3)} ms`;
  return `${trimmed(us)} µs`;
}

const trimmed = (value: number) => String(Number(value.toPrecision(3)));

function axis(canvas: Canvas, height: number): void {
  const { context, width, view, theme } = canvas;
  const spans = Math.max(1, Math.floor((width - NAMES_WIDTH) / TICK_SPACING));
  const step = tickOf(view.toUs - view.fromUs, spans);
  context.strokeStyle = theme.line;
  context.fillStyle = theme.soft;
  context.textAlign = 'center';
  context.beginPath();
  for (let ago = 0; ago <= view.toUs - view.fromUs; ago += step) {
    const x = Math.round(xOf(canvas, view.toUs - ago)) + 0.5;
    context.moveTo(x, AXIS_HEIGHT - 4);
    context.lineTo(x, height);
    if (x < width - 24) context.fillText(durationText(-ago), x, AXIS_HEIGHT / 2);
  }
  context.stroke();
}

function label({ context, theme }: Canvas, name: string, hint: string, top: number): void {
  context.textAlign = 'left';
  context.fillStyle = theme.ink;
  context.fillText(name, MARGIN, top + 10);
  context.fillStyle = theme.soft;
  context.fillText(hint, MARGIN, top + 25);
}

/** Calls `paint` for what is seen; of slices within one column, for the first alone. */
function eachSeen(
  canvas: Canvas,
  slices: readonly Slice[],
  paint: (slice: Slice, left: number, width: number) => void,
): void {
  const { view, width } = canvas;
  const { fromUs, toUs } = view;
  const perUs = (width - NAMES_WIDTH) / (toUs - fromUs);
  // Of ten thousands of slices most lie in a column that is painted already.
  let paintedTo = Number.NEGATIVE_INFINITY;
  for (let at = firstEndingAfter(slices, fromUs); at < slices.length; at++) {
    const slice = slices[at]!;
    if (slice.startUs >= toUs) return;
    const right = NAMES_WIDTH + (slice.endUs - fromUs) * perUs;
    if (right < paintedTo) continue;
    const start = NAMES_WIDTH + (slice.startUs - fromUs) * perUs;
    const left = Math.max(NAMES_WIDTH, start);
    const end = Math.min(width, right);
    paintedTo = Math.floor(end) + 1;
    paint(slice, left, Math.max(1, end - left));
  }
}

function launches(canvas: Canvas, slices: readonly Slice[], top: number): void {
  const { context, theme } = canvas;
  eachSeen(canvas, slices, (slice, left, width) => {
    const hasPrompts = slice.promptTokens > 0;
    context.fillStyle = hasPrompts ? theme.prompts : theme.decode;
    context.fillRect(left, top, width, ROW_HEIGHT);
    if (width < 40) return;
    const text = hasPrompts
      ? `${slice.promptTokens} prompt tokens`
      : `${slice.count} × ${slice.rows} rows`;
    inside(canvas, text, left, top + ROW_HEIGHT / 2, width);
  });
}

function waits(canvas: Canvas, slices: readonly Slice[], top: number): void {
  const { context, theme } = canvas;
  eachSeen(canvas, slices, (_, left, width) => {
    context.fillStyle = theme.blocked;
    context.fillRect(left, top + 4, width, ROW_HEIGHT - 8);
  });
}

/** What of a lane has one colour: left, width and how much of it is toll, slice after slice. */
interface Coloured {
  readonly account: Recording['accounts'][number];
  readonly places: number[];
}

/** Above the middle what goes to the GPU, below it what comes; the toll is the pale beginning. */
function lane(canvas: Canvas, recording: Recording, slices: readonly Slice[], top: number): void {
  const { context, theme, view } = canvas;
  const half = ROW_HEIGHT / 2;
  const perUs = (canvas.width - NAMES_WIDTH) / (view.toUs - view.fromUs);
  context.fillStyle = theme.line;
  context.fillRect(NAMES_WIDTH, top + half, canvas.width - NAMES_WIDTH, 1);
  const colours = new Map<number, Coloured>();
  eachSeen(canvas, slices, (slice, left, width) => {
    let coloured = colours.get(slice.account);
    if (coloured === undefined) {
      const account = recording.accounts[slice.account];
      if (account === undefined) return;
      coloured = { account, places: [] };
      colours.set(slice.account, coloured);
    }
    coloured.places.push(left, width, Math.min(width, slice.tollUs * perUs));
  });
  // Colour by colour: changing it costs more than filling.
  for (const { account, places } of colours.values()) {
    const y = account.direction === 'h2d' ? top : top + half + 1;
    context.fillStyle = theme.purposes[account.purpose] ?? theme.ink;
    context.globalAlpha = 0.45;
    for (let at = 0; at < places.length; at += 3) {
      context.fillRect(places[at]!, y, places[at + 1]!, half - 1);
    }
    context.globalAlpha = 1;
    for (let at = 0; at < places.length; at += 3) {
      const toll = places[at + 2]!;
      const rest = places[at + 1]! - toll;
      if (rest > 0) context.fillRect(places[at]! + toll, y, rest, half - 1);
    }
    const letter = LETTERS[account.purpose] ?? '?';
    for (let at = 0; at < places.length; at += 3) {
      if (places[at + 1]! < LETTER_WIDTH) continue;
      inside(canvas, letter, places[at]!, y + half / 2, places[at + 1]!);
    }
  }
}

function inside(canvas: Canvas, text: string, left: number, middle: number, width: number): void {
  const { context, theme } = canvas;
  context.save();
  context.beginPath();
  context.rect(left, middle - ROW_HEIGHT / 2, width, ROW_HEIGHT);
  context.clip();
  context.textAlign = 'left';
  context.fillStyle = theme.ground;
  context.fillText(text, left + 3, middle);
  context.restore();
}

function selection(canvas: Canvas, height: number): void {
  const { context, theme, view } = canvas;
  if (view.selection === null) return;
  const left = Math.max(NAMES_WIDTH, xOf(canvas, view.selection.fromUs));
  const right = Math.min(canvas.width, xOf(canvas, view.selection.toUs));
  context.globalAlpha = 0.18;
  context.fillStyle = theme.selection;
  context.fillRect(left, 0, Math.max(1, right - left), height);
  context.globalAlpha = 1;
}
