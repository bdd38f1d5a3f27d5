/// <reference lib="dom" />

import { createEffect, createSignal, onCleanup } from 'solid-js';
import {
  LETTERS,
  NAMES_WIDTH,
  Picture,
  type Scene,
  type Theme,
  usAt,
  type View,
} from '../timeline/draw.ts';
import type { Recording } from '../timeline/recording.ts';
import { arrived } from './live.ts';

type Selection = View['selection'];

const LABEL = 'Timeline of lanes: space pauses, plus and minus zoom, arrows move, a drag selects';

export type Shown = () => Recording | null;

/** Drawn in the next frame after something changed: between two moments nothing runs. */
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
  const theme = themeOf();
  const picture = new Picture();
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  let sliding: Animation | null = null;
  const paint = () => {
    frame = null;
    const recording = shown();
    if (recording === null || !canvas.isConnected) return;
    const scene = {
      recording,
      view: viewNow(),
      theme: theme(),
      width: canvas.clientWidth,
      scale: devicePixelRatio,
    };
    const movedUs = picture.draw(canvas, front, scene);
    if (movedUs > 0 && !still.matches) {
      // It takes the place of the one before, which is nearly over.
      sliding = slide(front, scene, movedUs);
      return;
    }
    sliding?.cancel();
    sliding = null;
  };
  const paintSoon = () => {
    frame ??= requestAnimationFrame(paint);
  };
  createEffect(() => {
    arrived();
    shown();
    viewNow();
    theme();
    paintSoon();
  });
  const size = new ResizeObserver(paintSoon);
  onCleanup(() => {
    size.disconnect();
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

/**
 * What came since slides in until the next is due. The browser moves it in a thread of its own, at
 * each frame, and the page does nothing meanwhile.
 */
function slide(front: HTMLCanvasElement, { view, width }: Scene, movedUs: number): Animation {
  const pixels = (movedUs / (view.toUs - view.fromUs)) * (width - NAMES_WIDTH);
  const from = { transform: `translateX(${pixels}px)` };
  return front.animate([from, { transform: 'translateX(0)' }], {
    duration: Math.min(SLIDE_MS_MAX, movedUs / 1e3),
  });
}

const SLIDE_MS_MAX = 500;

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
