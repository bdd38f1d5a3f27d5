/// <reference lib="dom" />
import type { HostRow, ReplicaRow } from '../fleet/view.ts';

const SVG = 'http://www.w3.org/2000/svg';
const COLUMNS = 4;
const CELL = 62;
const GAP = 18;
const PITCH = CELL + GAP;
const MARGIN = 14;

function element(name: string, attributes: Readonly<Record<string, string | number>>) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

/** A baseboard: eight sockets, partitions as outlines around them, and whose each one is. */
export function board({ host, facts, quarantined }: HostRow, replicas: readonly ReplicaRow[]) {
  const gpus = facts?.gpus ?? [];
  const most = Math.max(8, ...gpus.map(({ module }) => module));
  const rows = Math.ceil(most / COLUMNS);
  const width = COLUMNS * PITCH - GAP + 2 * MARGIN;
  const height = rows * PITCH - GAP + 2 * MARGIN;
  const bad = new Set([...quarantined, ...(facts?.quarantined ?? [])].map(({ module }) => module));
  const held = new Map(
    replicas.flatMap((replica) => replica.modules.map((module) => [module, replica] as const)),
  );
  const said = Array.from({ length: most }, (_, index) => {
    const module = index + 1;
    const gpu = gpus.find((each) => each.module === module);
    const holder = held.get(module);
    if (bad.has(module)) return `${module} quarantined`;
    if (gpu === undefined) return `${module} empty`;
    if (!gpu.isHealthy) return `${module} unhealthy`;
    return holder === undefined ? `${module} free` : `${module} ${holder.pool} ${holder.phase}`;
  });
  const picture = element('svg', {
    viewBox: `0 0 ${width} ${height}`,
    role: 'img',
    class: 'board',
    'aria-label': `Baseboard of ${host}: ${said.join('; ')}`,
  });
  const placeOf = (module: number) => {
    const index = module - 1;
    const x = MARGIN + (index % COLUMNS) * PITCH;
    return { x, y: MARGIN + Math.floor(index / COLUMNS) * PITCH };
  };
  for (const { modules } of [...(facts?.partitions ?? [])].sort(bySize)) {
    const isHeld = replicas.some(
      (replica) => replica.modules.length === modules.length && covers(modules, replica.modules),
    );
    // Larger ones are drawn around smaller ones.
    const out = 3 + 2.2 * Math.log2(Math.max(1, modules.length));
    const places = modules.map(placeOf);
    const left = Math.min(...places.map(({ x }) => x)) - out;
    const top = Math.min(...places.map(({ y }) => y)) - out;
    const right = Math.max(...places.map(({ x }) => x)) + CELL + out;
    const bottom = Math.max(...places.map(({ y }) => y)) + CELL + out;
    picture.append(
      element('rect', {
        x: left,
        y: top,
        width: right - left,
        height: bottom - top,
        rx: 6,
        class: isHeld ? 'partition held' : 'partition',
      }),
    );
  }
  for (let module = 1; module <= most; module++) {
    const { x, y } = placeOf(module);
    const gpu = gpus.find((each) => each.module === module);
    const holder = held.get(module);
    const state = bad.has(module)
      ? 'bad'
      : gpu === undefined
        ? 'none'
        : holder === undefined
          ? 'free'
          : 'used';
    picture.append(
      element('rect', { x, y, width: CELL, height: CELL, rx: 4, class: `socket ${state}` }),
    );
    const text = (content: string, dy: number, kind: string) => {
      const made = element('text', { x: x + CELL / 2, y: y + dy, class: `middle ${kind}` });
      made.textContent = content;
      picture.append(made);
    };
    text(String(module), 17, `socket-name ${state}`);
    const sign = { bad: '✕', none: '–', free: '○', used: '●' }[state];
    text(gpu !== undefined && !gpu.isHealthy ? '!' : sign, 37, `socket-sign ${state}`);
    const name = holder === undefined ? (gpu?.ccMode === 'on' ? 'CC' : '') : holder.pool;
    text(name.slice(0, 9), 54, `socket-note ${state}`);
  }
  return picture;
}

type Sized = { readonly modules: readonly number[] };
const bySize = (a: Sized, b: Sized) => b.modules.length - a.modules.length;

function covers(modules: readonly number[], wanted: readonly number[]): boolean {
  return wanted.every((module) => modules.includes(module));
}
