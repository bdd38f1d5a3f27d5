import { posix } from 'node:path';
import type { Link } from '../links.ts';
import { isTest, type Repository } from '../repository.ts';

/** What the rules read of a package.json. */
export interface Manifest {
  readonly name: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly exports?: Readonly<Record<string, { readonly default: string }>>;
}

/** Folder name of a package (`bridge` for packages/bridge), or undefined for other paths. */
export const packageOf = (path: string): string | undefined =>
  /^packages\/([^/]+)\//.exec(path)?.[1];

const read = new WeakMap<Repository, ReadonlyMap<string, Manifest>>();

/** The packages by folder name, read once per repository. */
export function manifests(repository: Repository): ReadonlyMap<string, Manifest> {
  const found = read.get(repository) ?? readManifests(repository);
  read.set(repository, found);
  return found;
}

function readManifests({ files }: Repository): Map<string, Manifest> {
  const found = new Map<string, Manifest>();
  for (const [path, text] of files) {
    const name = /^packages\/([^/]+)\/package\.json$/.exec(path)?.[1];
    if (name !== undefined) found.set(name, JSON.parse(text) as Manifest);
  }
  return found;
}

/** The folder name of the package that a bare specifier names, if it is one of ours. */
export function ownPackage(
  specifier: string,
  all: ReadonlyMap<string, Manifest>,
): string | undefined {
  for (const [folder, { name }] of all) {
    if (specifier === name || specifier.startsWith(`${name}/`)) return folder;
  }
  return undefined;
}

/** The source behind what a package of ours exports under a specifier: dist/x.js is src/x.ts. */
export function publicSource(
  specifier: string,
  all: ReadonlyMap<string, Manifest>,
): string | undefined {
  const folder = ownPackage(specifier, all);
  const manifest = folder === undefined ? undefined : all.get(folder);
  if (manifest === undefined) return undefined;
  const subpath = `.${specifier.slice(manifest.name.length)}`;
  const file = manifest.exports?.[subpath]?.default.replace('./dist/', '').replace(/\.js$/, '.ts');
  return file === undefined ? undefined : `packages/${folder}/src/${file}`;
}

/** `hono/utils` is of package `hono`, `@hono/node-server/x` of `@hono/node-server`. */
export function packageName(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** The path of the source that a link leads to, if it is in the repository. */
export function resolve(link: Link, from: string, repository: Repository): string | undefined {
  if (!link.target.startsWith('.')) return publicSource(link.target, manifests(repository));
  const path = posix.join(posix.dirname(from), link.target);
  const source = path.replace(/\.js$/, '.ts');
  return repository.files.has(source) ? source : undefined;
}

/** The sources behind everything that packages export. */
export function publicSources(repository: Repository): Set<string> {
  const all = manifests(repository);
  const found = new Set<string>();
  for (const { name, exports = {} } of all.values()) {
    for (const subpath of Object.keys(exports)) {
      const path = publicSource(name + subpath.slice(1), all);
      if (path !== undefined) found.add(path);
    }
  }
  return found;
}

/** The compiler itself imports what makes elements of JSX. */
const STARTED = /\/main\.tsx?$|\/jsx-runtime\.ts$|^(?:scripts|examples)\//;

/** Started by a person or a process, and imported by nobody: mains, tests, scripts, examples. */
export const isStarted = (path: string): boolean => isTest(path) || STARTED.test(path);
