/// <reference lib="dom" />

import { createEffect, createSignal, on, onCleanup } from 'solid-js';
import {
  LETTERS,
  NAMES_WIDTH,
  PAST_PART,
  Picture,
  type Scene,
  type Theme,
  usAt,
  type View,
} from '../timeline/draw.ts';
import type { Recording } from '../timeline/recording.ts';
import { arrived, recording } from './live.ts';

type Selection = View['selection'];

const LABEL = 'Timeline of lanes: space pauses, plus and minus zoom, arrows move, a drag selects';

export type Shown = () => Recording | null;

/**
 * What comes is drawn with every second moment, and slides in meanwhile; what somebody does is
 * drawn in the next frame.
 */
export function lanes(
  shown: Shown,
  viewNow: () => View,
  keys: (event: KeyboardEvent) => void,
  select: (selection: Selection) => void,
) {
  let canvas!: HTMLCanvasElement;
  let front!: HTMLCanvasElement;
  let startX: number | null = null;
  let frame: number | null = null;
  let later: ReturnType<typeof setTimeout> | undefined;
  let paintedMs = Number.NEGATIVE_INFINITY;
  const theme = themeOf();
  const picture = new Picture();
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  const slide = new Slide();
  const paint = () => {
    frame = null;
    const what = shown();
    if (what === null || !canvas.isConnected) return;
    const scene = {
      recording: what,
      view: viewNow(),
      theme: theme(),
      width: canvas.clientWidth,
      scale: devicePixelRatio,
    };
    const movedUs = picture.draw(canvas, front, scene);
    paintedMs = performance.now();
    if (movedUs > 0 && !still.matches) slide.on(front, scene, movedUs);
    else slide.end();
  };
  const paintSoon = () => {
    clearTimeout(later);
    later = undefined;
    frame ??= requestAnimationFrame(paint);
  };
  const came = () => {
    const now = recording();
    // A file stays as it is, and so does what has been over for a while.
    if (now === null || now !== shown() || viewNow().toUs < now.nowUs - SETTLED_US) return;
    const sinceMs = performance.now() - paintedMs;
    if (sinceMs >= PAINT_MS) paintSoon();
    // Should no other moment come, this one is drawn all the same.
    else later ??= setTimeout(paintSoon, PAINT_MS_MAX - sinceMs);
  };
  createEffect(() => {
    shown();
    viewNow();
    theme();
    paintSoon();
  });
  createEffect(on(arrived, came));
  const size = new ResizeObserver(paintSoon);
  onCleanup(() => {
    size.disconnect();
    clearTimeout(later);
    if (frame !== null) cancelAnimationFrame(frame);
  });
  const at = ({ clientX }: PointerEvent) => clientX - canvas.getBoundingClientRect().left;
  const drag = (event: PointerEvent, isDone: boolean) => {
    if (startX === null) return;
    const ends = [startX, at(event)].sort((a, b) => a - b) as [number, number];
    const view = viewNow();
    const [fromUs, toUs] = ends.map((x) => usAt(x, canvas.clientWidth, view)) as [number, number];
    select(ends[1] - ends[0] < 3 ? null : { fromUs, toUs });
    if (isDone) startX = null;
  };
  return (
    <div class="timeline">
      <canvas
        ref={(element: HTMLCanvasElement) => {
          canvas = element;
          size.observe(element);
        }}
        class="lanes"
        tabindex={0}
        role="img"
        aria-label={LABEL}
        onKeyDown={keys}
        onPointerDown={(event: PointerEvent) => {
          if (at(event) < NAMES_WIDTH) return;
          startX = at(event);
          canvas.setPointerCapture(event.pointerId);
        }}
        onPointerMove={(event: PointerEvent) => drag(event, false)}
        onPointerUp={(event: PointerEvent) => drag(event, true)}
      />
      <div class="moving" aria-hidden="true">
        <canvas
          ref={(element: HTMLCanvasElement) => {
            front = element;
          }}
        />
      </div>
    </div>
  );
}

/** More than the time from one moment to the next, less than that to the one after it. */
const PAINT_MS = 150;
const PAINT_MS_MAX = 250;
/** What is looked at and has been over for so long does not change any more. */
const SETTLED_US = 1e6;
const SLIDE_MS_MAX = 500;
/** What was left of the motion before is made up for, bit by bit. */
const CATCHING_UP = 0.7;

/**
 * What came since slides in until the next is due, from where the picture was. The browser moves it
 * in a thread of its own, at each frame, and the page does nothing meanwhile.
 */
class Slide {
  #motion: Animation | null = null;
  /** Of the recording, at the beginning of the motion. */
  #behindUs = 0;

  on(front: HTMLCanvasElement, { view, width }: Scene, movedUs: number): void {
    const progress = this.#motion?.effect?.getComputedTiming().progress ?? 1;
    const spanUs = view.toUs - view.fromUs;
    const leftUs = (1 - progress) * this.#behindUs;
    this.#behindUs = Math.min(movedUs + leftUs, spanUs * PAST_PART);
    // Two at a time the browser leaves to the page, which moves them frame by frame.
    this.#motion?.cancel();
    const pixels = (this.#behindUs / spanUs) * (width - NAMES_WIDTH);
    const from = { transform: `translateX(${pixels}px)` };
    this.#motion = front.animate([from, { transform: 'translateX(0)' }], {
      duration: Math.min(SLIDE_MS_MAX, (movedUs + CATCHING_UP * leftUs) / 1e3),
    });
  }

  end(): void {
    this.#motion?.cancel();
    this.#motion = null;
  }
}

/** The page's colours, read again when the system's scheme changes. */
function themeOf(): () => Theme {
  const read = (): Theme => {
    const style = getComputedStyle(document.documentElement);
    // A canvas knows no light-dark(): an element is asked what it comes to.
    const probe = document.body.appendChild(document.createElement('i'));
    const colour = (name: string) => {
      probe.style.color = style.getPropertyValue(`--${name}`);
      return getComputedStyle(probe).color;
    };
    const purposes = Object.keys(LETTERS).map((name) => [name, colour(name)] as const);
    const theme = {
      ink: colour('ink'),
      soft: colour('soft'),
      line: colour('line'),
      ground: colour('paper'),
      decode: colour('decode'),
      prompts: colour('prompts'),
      blocked: colour('bad'),
      selection: colour('accent'),
      purposes: Object.fromEntries(purposes),
    };
    probe.remove();
    return theme;
  };
  const [theme, setTheme] = createSignal(read());
  const scheme = matchMedia('(prefers-color-scheme: dark)');
  const change = () => setTheme(read());
  scheme.addEventListener('change', change);
  onCleanup(() => scheme.removeEventListener('change', change));
  return theme;
}
