/// <reference lib="dom" />

import { createSignal, onCleanup } from 'solid-js';
import {
  draw,
  heightOf,
  LETTERS,
  NAMES_WIDTH,
  type Theme,
  usAt,
  type View,
} from '../timeline/draw.ts';
import type { Recording } from '../timeline/recording.ts';

type Selection = View['selection'];

export type Shown = () => Recording | null;

/** Drawn once for each frame in which something changed. */
export function lanes(
  shown: Shown,
  viewNow: () => View,
  keys: (event: KeyboardEvent) => void,
  select: (selection: Selection) => void,
) {
  let canvas!: HTMLCanvasElement;
  let startX: number | null = null;
  let drawn = '';
  let frame = 0;
  const theme = themeOf();
  const paint = () => {
    frame = requestAnimationFrame(paint);
    const recording = shown();
    if (recording === null || !canvas.isConnected) return;
    const view = viewNow();
    const width = canvas.clientWidth;
    const scale = devicePixelRatio;
    const state = [recording.nowUs, view.fromUs, view.toUs, width, scale, theme().ink];
    const key = `${state} ${JSON.stringify(view.selection)}`;
    if (key === drawn) return;
    drawn = key;
    const height = heightOf(recording);
    if (canvas.width !== width * scale || canvas.height !== height * scale) {
      canvas.width = width * scale;
      canvas.height = height * scale;
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext('2d')!;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    draw(context, width, recording, view, theme());
  };
  frame = requestAnimationFrame(paint);
  onCleanup(() => cancelAnimationFrame(frame));
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
    <canvas
      ref={(element: HTMLCanvasElement) => {
        canvas = element;
      }}
      class="lanes"
      tabindex={0}
      role="img"
      aria-label="Timeline of lanes: space pauses, plus and minus zoom, arrows move, a drag selects"
      onKeyDown={keys}
      onPointerDown={(event: PointerEvent) => {
        if (at(event) < NAMES_WIDTH) return;
        startX = at(event);
        canvas.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event: PointerEvent) => drag(event, false)}
      onPointerUp={(event: PointerEvent) => drag(event, true)}
    />
  );
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
