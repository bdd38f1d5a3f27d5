import type { FolderLayers } from '../allowed.ts';
import { isTesting, type Repository, type Rule, type Violation } from '../repository.ts';
import { isStarted, publicSources, resolve } from './modules.ts';

/** In place of a unit: the files of an area that only the outside imports. */
const FRONT = 'front';

/** One import from a unit of a folder (a folder in it, or `.`) to another. */
interface Crossing {
  readonly from: string;
  readonly to: string;
  readonly path: string;
  readonly line: number;
  /** The imported file. */
  readonly target: string;
}

/** `device/cuda` is packages/device/src/cuda, `device` is packages/device/src. */
function rootOf(area: string): string {
  const [name, ...folders] = area.split('/');
  return ['packages', name, 'src', ...folders, ''].join('/');
}

/**
 * The unit of an area that a file is in: the name of a folder, its own name if it is `named`, or
 * `.` for the other files beside the folders.
 */
function unitOf(path: string, root: string, named: ReadonlySet<string>): string {
  const rest = path.slice(root.length);
  if (rest.includes('/')) return rest.slice(0, rest.indexOf('/'));
  return named.has(rest) ? rest : '.';
}

/**
 * Where the outside comes in, above all layers: an index, wherever the manifest exports one, and
 * what is started. A single file that the manifest exports (a clock, say) has its place among the
 * others.
 */
function isFront(path: string, unit: string, exported: ReadonlySet<string>): boolean {
  if (path.endsWith('/index.ts')) return unit === '.' || exported.has(path);
  return unit === '.' && isStarted(path);
}

/** An area's units and all imports between them, of types as well, without what is for tests. */
interface Area {
  readonly units: ReadonlySet<string>;
  readonly crossings: readonly Crossing[];
}

function areaOf(area: string, named: ReadonlySet<string>, repository: Repository): Area {
  const root = rootOf(area);
  const exported = publicSources(repository);
  const units = new Set<string>();
  const crossings: Crossing[] = [];
  for (const { path, links } of repository.sources) {
    if (!path.startsWith(root) || isTesting(path)) continue;
    const from = unitOf(path, root, named);
    const isFrontOfArea = isFront(path, from, exported);
    if (!isFrontOfArea) units.add(from);
    for (const link of links) {
      const target = resolve(link, path, repository);
      if (target?.startsWith(root) !== true) continue;
      const to = unitOf(target, root, named);
      if (isFront(target, to, exported)) {
        // A program is started by its address, from anywhere.
        if (link.kind === 'file') continue;
        crossings.push({ from, to: FRONT, path, line: link.line, target });
      } else if (!isFrontOfArea && from !== to) {
        crossings.push({ from, to, path, line: link.line, target });
      }
    }
  }
  return { units, crossings };
}

/** Within a package folders use each other as the table says, like packages do. */
export function folderLayers(tables: Readonly<Record<string, FolderLayers>>): Rule {
  return (repository) => {
    const missing = areasOfPackages(repository).filter((area) => !(area in tables));
    return [
      ...missing.map((area) => ({
        path: rootOf(area),
        line: 0,
        message: `the folders of ${area} have no layers in tidy/src/allowed.ts`,
      })),
      ...Object.entries(tables).flatMap(([area, table]) => {
        const { units, crossings } = areaOf(area, new Set(Object.keys(table)), repository);
        const used = crossings.flatMap((crossing): Violation[] => {
          const message = crossingFault(crossing, table);
          return message === undefined ? [] : [{ ...crossing, message }];
        });
        return [...tableFaults(area, table, units), ...used];
      }),
    ];
  };
}

/** The packages whose sources lie in folders. */
function areasOfPackages(repository: Repository): string[] {
  const names = new Set<string>();
  for (const { path } of repository.sources) {
    const name = /^packages\/([^/]+)\/src\/[^/]+\//.exec(path)?.[1];
    if (name !== undefined && !isTesting(path)) names.add(name);
  }
  return [...names].sort();
}

function crossingFault(crossing: Crossing, table: FolderLayers): string | undefined {
  const { from, to, target } = crossing;
  if (to === FRONT) return `${target} is for the outside: import the file that has it`;
  // A folder that the table does not have is one violation, not one for each import.
  if (table[from]?.includes(to) ?? true) return undefined;
  const may = table[from]?.join(', ') || 'no other folder';
  return `${from} may not import ${target}: it may use ${may}`;
}

function tableFaults(area: string, table: FolderLayers, units: ReadonlySet<string>): Violation[] {
  const path = rootOf(area);
  const order = Object.keys(table);
  const unlisted = [...units].filter((unit) => !(unit in table));
  const gone = order.filter((unit) => !units.has(unit));
  const upward = order.flatMap((unit, index) => {
    const wrong = (table[unit] ?? []).filter((other) => !order.slice(0, index).includes(other));
    return wrong.map((other) => `${unit} may import ${other}, which does not stand above it`);
  });
  const messages = [
    ...unlisted.map((unit) => `${unit} has no layer in tidy/src/allowed.ts`),
    ...gone.map((unit) => `${unit} has a layer in tidy/src/allowed.ts and does not exist`),
    ...upward.map((fault) => `in tidy/src/allowed.ts ${fault}: the order is that of the layers`),
  ];
  return messages.map((message) => ({ path, line: 0, message }));
}

/**
 * The imports between folders as text, for each area that has folders: `kv -> models 12, seal 3`,
 * in an order in which they could be layers, then each circle with the imports that close it.
 */
export function describeFolders(repository: Repository): string {
  return areasOf(repository)
    .map((area) => describeArea(area, repository))
    .join('\n');
}

/** Every folder under packages/x/src that has folders itself, `src` included. */
function areasOf({ sources }: Repository): string[] {
  const areas = new Set<string>();
  for (const { path } of sources) {
    const match = /^packages\/([^/]+)\/src\/(.+)\//.exec(path);
    if (match === null || isTesting(path)) continue;
    const [name = '', folders = ''] = match.slice(1);
    const parts = folders.split('/');
    for (const index of parts.keys()) areas.add([name, ...parts.slice(0, index)].join('/'));
  }
  return [...areas].sort();
}

function describeArea(area: string, repository: Repository): string {
  const root = rootOf(area);
  // The files beside the folders are one unit, except those that close a circle with it.
  const coarse = areaOf(area, new Set(), repository);
  const beside = layersOf(coarse).circles.find((circle) => circle.includes('.')) ?? [];
  const closing = coarse.crossings.filter(({ from, to }) => from === '.' && beside.includes(to));
  const names = new Set(closing.map(({ path }) => path.slice(root.length)));
  const { units, crossings } = areaOf(area, names, repository);
  const { order, circles } = layersOf({ units, crossings });
  const lines = order.map((unit) => {
    const uses = order.flatMap((other) => {
      const count = crossings.filter(({ from, to }) => from === unit && to === other).length;
      return count === 0 ? [] : [`${other} ${count}`];
    });
    return uses.length === 0 ? `  ${unit}` : `  ${unit} -> ${uses.join(', ')}`;
  });
  for (const circle of circles) {
    lines.push(`  circle: ${circle.join(', ')}; without these there would be none:`);
    for (const { from, to, path, line, target } of crossings) {
      const isUpward = order.indexOf(from) < order.indexOf(to);
      if (!isUpward || !circle.includes(from) || !circle.includes(to)) continue;
      lines.push(`    ${from} -> ${to}: ${path}:${line} imports ${target}`);
    }
  }
  return `${root}\n${lines.map((line) => `${line}\n`).join('')}`;
}

/** Units such that each stands below what it uses, as far as that can be, and those in circles. */
function layersOf({ units, crossings }: Area): {
  readonly order: string[];
  readonly circles: string[][];
} {
  const uses = new Map([...units].map((unit) => [unit, new Set<string>()]));
  const balance = new Map<string, number>();
  for (const { from, to } of crossings) {
    if (!units.has(to)) continue;
    uses.get(from)?.add(to);
    balance.set(from, (balance.get(from) ?? 0) + 1);
    balance.set(to, (balance.get(to) ?? 0) - 1);
  }
  const reach = new Map([...units].map((unit) => [unit, reachedFrom(unit, uses)]));
  const inCircle = (a: string, b: string): boolean =>
    reach.get(a)?.has(b) === true && reach.get(b)?.has(a) === true;
  // A unit reaches all that the units it uses reach: fewer is further up. In a circle all reach the
  // same, and what is imported more than it imports goes up.
  const size = (unit: string): number => new Set(reach.get(unit)).add(unit).size;
  const order = [...units].sort(
    (a, b) => size(a) - size(b) || (balance.get(a) ?? 0) - (balance.get(b) ?? 0),
  );
  const circles: string[][] = [];
  for (const unit of order) {
    if (!inCircle(unit, unit) || circles.some((circle) => circle.includes(unit))) continue;
    circles.push(order.filter((other) => inCircle(unit, other)));
  }
  return { order, circles };
}

function reachedFrom(
  unit: string,
  uses: ReadonlyMap<string, ReadonlySet<string>>,
): ReadonlySet<string> {
  const reached = new Set<string>();
  const visit = (from: string): void => {
    for (const other of uses.get(from) ?? []) {
      if (reached.has(other)) continue;
      reached.add(other);
      visit(other);
    }
  };
  visit(unit);
  return reached;
}
