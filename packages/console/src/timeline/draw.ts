/// <reference lib="dom" />
import type { Band, Grid } from './columns.ts';
import type { Recording } from './recording.ts';
import type { Slice } from './slices.ts';
import { Strip, type StripRow } from './strip.ts';

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
/** A letter needs this much room, and what is said of a launch this much. */
const LETTER_WIDTH = 13;
const LAUNCH_WIDTH = 40;
const TICK_SPACING = 110;

function heightOf(recording: Recording): number {
  return AXIS_HEIGHT + (2 + recording.lanes.length) * (ROW_HEIGHT + ROW_GAP);
}

type Context = CanvasRenderingContext2D;

interface Canvas {
  readonly context: Context;
  /** Of the stretch of time, in CSS pixels: names are beside it. */
  readonly width: number;
  readonly view: View;
  readonly theme: Theme;
}

/** A row, and where in it its bands are. */
interface Row extends StripRow {
  readonly name: string;
  readonly hint: string;
  readonly tops: readonly number[];
  readonly height: number;
  /** By account. */
  readonly colours: readonly string[];
  readonly words: (slice: Slice, canvas: Canvas, top: number) => void;
}

const HALF = ROW_HEIGHT / 2;

/** Beside the stretch that is seen: what slides out of it while the next moment is awaited. */
export const PAST_PART = 0.25;

/** What a picture is drawn of, and on how many pixels. */
export interface Scene {
  readonly recording: Recording;
  readonly view: View;
  readonly theme: Theme;
  /** In CSS pixels, of which each has `scale` of a canvas. */
  readonly width: number;
  readonly scale: number;
}

/**
 * Draws a timeline on two canvases: names and axis on one that stands, slices on one that moves.
 * What of its columns was drawn before is not made again.
 */
export class Picture {
  readonly #strip = new Strip();
  /** One line of pixels for each band: it is drawn as high as its band. */
  readonly #lines = document.createElement('canvas');
  readonly #pixelOf = pixelReader();
  #image: ImageData | null = null;
  #behind = '';
  #drawn = { grid: { fromColumn: 0, count: 0, usAColumn: 0 }, follows: false };

  /**
   * Draws it as it is now. Returns by how many microseconds it moved on where it only followed what
   * came; 0: it is something else that is seen.
   */
  draw(back: HTMLCanvasElement, front: HTMLCanvasElement, scene: Scene): number {
    const { recording, theme, scale, width: whole } = scene;
    const height = heightOf(recording);
    const width = Math.max(1, whole - NAMES_WIDTH);
    const seen = Math.max(1, Math.round(width * scale));
    const past = Math.round(seen * PAST_PART);
    const { fromUs, toUs, selection: selected } = scene.view;
    const usAColumn = spanOf(toUs - fromUs) / seen;
    const fromColumn = Math.round(fromUs / usAColumn);
    const snappedUs = fromColumn * usAColumn;
    const view = { fromUs: snappedUs, toUs: snappedUs + seen * usAColumn, selection: selected };
    const rows = rowsOf(recording, theme, scale);
    this.#back(back, scene, view, rows, height);
    const context = sized(front, (seen + past) / scale, height, scale);
    front.style.width = `${(seen + past) / scale}px`;
    // What is past lies left of 0.
    context.setTransform(scale, 0, 0, scale, past, 0);
    context.clearRect(-past / scale, 0, width + past / scale, height);
    const grid = { fromColumn: fromColumn - past, count: seen + past, usAColumn };
    this.#strip.update(rows, grid);
    const canvas = { context, width, view, theme };
    this.#bands(context, rows, grid.count, past, scale);
    context.font = FONT;
    context.textBaseline = 'middle';
    for (const [index, { words }] of rows.entries()) {
      for (const slice of this.#strip.rows[index]!.wides) words(slice, canvas, topOf(index));
    }
    selection(canvas, height);
    return this.#movedUs(grid, toUs >= recording.nowUs, past);
  }

  #movedUs(grid: Grid, follows: boolean, past: number): number {
    const before = this.#drawn;
    this.#drawn = { grid, follows };
    const shift = grid.fromColumn - before.grid.fromColumn;
    const isOn = follows && before.follows && before.grid.usAColumn === grid.usAColumn;
    return isOn && before.grid.count === grid.count && shift > 0 && shift <= past
      ? shift * grid.usAColumn
      : 0;
  }

  #back(
    back: HTMLCanvasElement,
    { width: whole, scale, theme }: Scene,
    view: View,
    rows: readonly Row[],
    height: number,
  ): void {
    // Ticks say how long ago something was: while a view moves on they stay where they are.
    const names = rows.map(({ name }) => name);
    const key = JSON.stringify([whole, scale, theme, names, spanOf(view.toUs - view.fromUs)]);
    if (key === this.#behind) return;
    this.#behind = key;
    const context = sized(back, whole, height, scale);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, whole, height);
    context.font = FONT;
    context.textBaseline = 'middle';
    const width = Math.max(1, whole - NAMES_WIDTH);
    axis({ context, width, view, theme }, height);
    for (const [index, { name, hint, tops }] of rows.entries()) {
      label(context, theme, name, hint, topOf(index));
      if (tops.length === 1) continue;
      context.fillStyle = theme.line;
      context.fillRect(NAMES_WIDTH, topOf(index) + HALF, width, 1);
    }
  }

  #bands(context: Context, rows: readonly Row[], count: number, past: number, scale: number): void {
    const lines = this.#lines;
    const bands = this.#strip.rows.flatMap((row) => row.bands);
    if (lines.width !== count) lines.width = count;
    if (lines.height !== bands.length) lines.height = bands.length;
    if (this.#image?.width !== count || this.#image.height !== bands.length) {
      this.#image = new ImageData(count, bands.length);
    }
    const image = this.#image;
    const pixels = new Uint32Array(image.data.buffer);
    let line = 0;
    for (const [index, { colours }] of rows.entries()) {
      const values = Uint32Array.from(colours, (colour) => this.#pixelOf(colour) & 0xffffff);
      for (const band of this.#strip.rows[index]!.bands) {
        fillLine(pixels.subarray(line * count, (line + 1) * count), band, values);
        line += 1;
      }
    }
    lines.getContext('2d')!.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    line = 0;
    for (const [index, { tops, height }] of rows.entries()) {
      for (const down of tops) {
        const top = topOf(index) + down;
        context.drawImage(lines, 0, line, count, 1, -past / scale, top, count / scale, height);
        line += 1;
      }
    }
  }
}

/** Each column's colour, as pixels have it: alpha is the highest byte wherever browsers run. */
function fillLine(pixels: Uint32Array, { accounts, strengths }: Band, values: Uint32Array): void {
  for (let column = 0; column < pixels.length; column++) {
    const account = accounts[column]!;
    const alpha = (255 * strengths[column]! + 0.5) | 0;
    pixels[column] = account < 0 ? 0 : values[account]! | (alpha << 24);
  }
}

const FONT = '12px system-ui, sans-serif';

const topOf = (row: number) => AXIS_HEIGHT + row * (ROW_HEIGHT + ROW_GAP);

/** A canvas with that many CSS pixels, ready to be drawn on. */
function sized(canvas: HTMLCanvasElement, width: number, height: number, scale: number): Context {
  const across = Math.round(width * scale);
  const down = Math.round(height * scale);
  if (canvas.width !== across || canvas.height !== down) {
    canvas.width = across;
    canvas.height = down;
    canvas.style.height = `${height}px`;
  }
  return canvas.getContext('2d')!;
}

/** To a hundredth of a microsecond: a stretch that moves on stays as long, rounding or not. */
function spanOf(us: number): number {
  return Math.max(0.01, Math.round(us * 100) / 100);
}

/** The red, green and blue of a colour, as a pixel has them. */
function pixelReader(): (colour: string) => number {
  const known = new Map<string, number>();
  const dot = document.createElement('canvas');
  dot.width = 1;
  dot.height = 1;
  const context = dot.getContext('2d', { willReadFrequently: true })!;
  return (colour) => {
    let pixel = known.get(colour);
    if (pixel === undefined) {
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      pixel = new Uint32Array(context.getImageData(0, 0, 1, 1).data.buffer)[0]!;
      known.set(colour, pixel);
    }
    return pixel;
  };
}

/** Launches, what the launching thread waited for, and lanes. */
function rowsOf({ accounts, launches, blocked, lanes }: Recording, theme: Theme, scale: number) {
  const gpu: Row = {
    name: 'GPU',
    hint: 'launches',
    slices: launches,
    bands: 1,
    tops: [0],
    height: ROW_HEIGHT,
    band: () => 0,
    account: (index) => (launches.promptTokens(index) > 0 ? 1 : 0),
    colours: [theme.decode, theme.prompts],
    wide: LAUNCH_WIDTH * scale,
    words: launchWords,
  };
  const waits: Row = {
    name: 'launching thread',
    hint: 'waited',
    slices: blocked,
    bands: 1,
    tops: [4],
    height: ROW_HEIGHT - 8,
    band: () => 0,
    account: () => 0,
    colours: [theme.blocked],
    wide: Number.POSITIVE_INFINITY,
    words: () => undefined,
  };
  const isUp = accounts.map(({ direction }) => direction === 'h2d');
  const colours = accounts.map(({ purpose }) => theme.purposes[purpose] ?? theme.ink);
  const letters = accounts.map(({ purpose }) => LETTERS[purpose] ?? '?');
  return [
    gpu,
    waits,
    ...lanes.map(
      ({ name, slices }): Row => ({
        name: `lane ${name}`,
        hint: 'up ▲ to, ▼ from GPU',
        slices,
        bands: 2,
        // Above the middle what goes to the GPU, below it what comes.
        tops: [0, HALF + 1],
        height: HALF - 1,
        band: (index) => (isUp[slices.account(index)] ? 0 : 1),
        account: (index) => slices.account(index),
        colours,
        wide: LETTER_WIDTH * scale,
        words: (slice, canvas, top) => {
          const at = top + (isUp[slice.account] ? 0 : HALF + 1);
          const [left, room] = placeOf(slice, canvas);
          if (room < LETTER_WIDTH) return;
          canvas.context.textAlign = 'left';
          canvas.context.fillStyle = canvas.theme.ground;
          canvas.context.fillText(letters[slice.account]!, left + 3, at + HALF / 2);
        },
      }),
    ),
  ];
}

/** Where what is seen of a slice begins, and how much room it has. */
function placeOf({ startUs, endUs }: Slice, canvas: Canvas): [left: number, room: number] {
  const left = Math.max(0, xOf(canvas, startUs));
  return [left, Math.min(canvas.width, xOf(canvas, endUs)) - left];
}

function launchWords(launch: Slice, canvas: Canvas, top: number): void {
  const { context, theme } = canvas;
  const { count, rows, promptTokens } = launch;
  const [left, room] = placeOf(launch, canvas);
  if (room < LAUNCH_WIDTH) return;
  context.save();
  context.beginPath();
  context.rect(left, top, room, ROW_HEIGHT);
  context.clip();
  context.textAlign = 'left';
  context.fillStyle = theme.ground;
  const text = promptTokens > 0 ? `${promptTokens} prompt tokens` : `${count} × ${rows} rows`;
  context.fillText(text, left + 3, top + HALF);
  context.restore();
}

function xOf({ width, view }: Pick<Canvas, 'width' | 'view'>, us: number): number {
  return ((us - view.fromUs) / (view.toUs - view.fromUs)) * width;
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
  const spans = Math.max(1, Math.floor(width / TICK_SPACING));
  const step = tickOf(view.toUs - view.fromUs, spans);
  context.strokeStyle = theme.line;
  context.fillStyle = theme.soft;
  context.textAlign = 'center';
  context.beginPath();
  for (let ago = 0; ago <= view.toUs - view.fromUs; ago += step) {
    const x = NAMES_WIDTH + Math.round(xOf(canvas, view.toUs - ago)) + 0.5;
    context.moveTo(x, AXIS_HEIGHT - 4);
    context.lineTo(x, height);
    if (x < NAMES_WIDTH + width - 24) context.fillText(durationText(-ago), x, AXIS_HEIGHT / 2);
  }
  context.stroke();
}

function label(context: Context, theme: Theme, name: string, hint: string, top: number): void {
  context.textAlign = 'left';
  context.fillStyle = theme.ink;
  context.fillText(name, MARGIN, top + 10);
  context.fillStyle = theme.soft;
  context.fillText(hint, MARGIN, top + 25);
}

function selection(canvas: Canvas, height: number): void {
  const { context, theme, view } = canvas;
  if (view.selection === null) return;
  const left = Math.max(0, xOf(canvas, view.selection.fromUs));
  const right = Math.min(canvas.width, xOf(canvas, view.selection.toUs));
  context.globalAlpha = 0.18;
  context.fillStyle = theme.selection;
  context.fillRect(left, 0, Math.max(1, right - left), height);
  context.globalAlpha = 1;
}
