import { isBuiltin } from 'node:module';
import { posix } from 'node:path';
import { layers, peers } from '../allowed.ts';
import type { Link } from '../links.ts';
import { isTest, isTesting, type Repository, type Rule, type Violation } from '../repository.ts';
import {
  type Manifest,
  manifests,
  ownPackage,
  packageName,
  packageOf,
  publicSource,
  resolve,
} from './modules.ts';

/** Imports go down the layers only, by a package's name, and only to what its manifest lists. */
export function layering(repository: Repository): Violation[] {
  const all = manifests(repository);
  const rootTools = rootDevDependencies(repository);
  return repository.sources.flatMap((source) => {
    const own = packageOf(source.path);
    if (own === undefined) return [];
    const { dependencies: listed = {}, devDependencies: tools = {} } = all.get(own) ?? {};
    return source.links.flatMap((link): Violation[] => {
      const message = layeringFault(link, source.path, own, all, (name) => {
        // What exists for tests may use what its package lists for them.
        if (isTesting(source.path) && name in tools) return true;
        return name in listed || (isTest(source.path) && rootTools.has(name));
      });
      return message === undefined ? [] : [{ path: source.path, line: link.line, message }];
    });
  });
}

function layeringFault(
  { target }: Link,
  from: string,
  own: string,
  all: ReadonlyMap<string, Manifest>,
  isListed: (name: string) => boolean,
): string | undefined {
  if (target.startsWith('.')) {
    const inside = posix.join(posix.dirname(from), target).startsWith(`packages/${own}/`);
    return inside ? undefined : `${target} leaves the package: import the other one by its name`;
  }
  if (isBuiltin(target)) return undefined;
  const other = ownPackage(target, all);
  if (other === undefined) {
    const name = packageName(target);
    return isListed(name) ? undefined : `${name} is not a dependency of packages/${own}`;
  }
  if (publicSource(target, all) === undefined) return `${target} is not among that one's exports`;
  return mayImport(from, own, other)
    ? undefined
    : `packages/${own} may not import packages/${other}`;
}

/** What all of a package may use, or the folder of it that a file is in. */
const mayImport = (from: string, own: string, other: string): boolean =>
  Object.entries(layers).some(([key, others]) => {
    const folder = key.startsWith(`${own}/`) ? `packages/${own}/src${key.slice(own.length)}/` : '';
    return (key === own || (folder !== '' && from.startsWith(folder))) && others.includes(other);
  });

/** What any part of a package may use. */
const mayDepend = (own: string, other: string): boolean =>
  Object.entries(layers).some(
    ([key, others]) => (key === own || key.startsWith(`${own}/`)) && others.includes(other),
  );

function rootDevDependencies({ files }: Repository): Set<string> {
  const manifest = JSON.parse(files.get('package.json') ?? '{}') as Manifest;
  return new Set(Object.keys(manifest.devDependencies ?? {}));
}

/** Manifests and project references say the same as the imports: no more, no less. */
export function manifestsAgree(repository: Repository): Violation[] {
  const all = manifests(repository);
  return [...all].flatMap(([folder, manifest]) => {
    const path = `packages/${folder}/package.json`;
    const violations: Violation[] = [];
    const fault = (message: string): void => void violations.push({ path, line: 0, message });
    if (!(folder in layers)) fault(`packages/${folder} has no layer in tidy/src/allowed.ts`);
    const dependencies = Object.keys(manifest.dependencies ?? {});
    const own = dependencies.flatMap((name) => ownPackage(name, all) ?? []);
    for (const other of own) {
      if (!mayDepend(folder, other))
        fault(`packages/${folder} may not depend on packages/${other}`);
    }
    const references = projectReferences(repository, folder);
    if ([...references].sort().join() !== own.sort().join()) {
      fault(`tsconfig.json refers to [${references}], package.json depends on [${own}]`);
    }
    const texts = repository.sources.filter((source) => packageOf(source.path) === folder);
    for (const name of dependencies) {
      const quoted = [`'${name}'`, `'${name}/`];
      if (texts.some(({ text }) => quoted.some((mention) => text.includes(mention)))) continue;
      if (peers.some((peer) => peer.package === folder && peer.name === name)) continue;
      fault(`${name} is listed and never imported`);
    }
    return violations;
  });
}

function projectReferences({ files }: Repository, folder: string): string[] {
  const text = files.get(`packages/${folder}/tsconfig.json`) ?? '{}';
  const { references = [] } = JSON.parse(text) as { references?: { path: string }[] };
  return references.map(({ path }) => posix.basename(path));
}

/** No file needs, before it can run, a file that needs it. Types and lazy imports do not count. */
export function noCycles(repository: Repository): Violation[] {
  const next = new Map<string, string[]>();
  for (const source of repository.sources) {
    const values = source.links.filter(({ kind }) => kind === 'value');
    const paths = values.flatMap((link) => resolve(link, source.path, repository) ?? []);
    next.set(source.path, paths);
  }
  const violations: Violation[] = [];
  const done = new Set<string>();
  const trail: string[] = [];
  const visit = (path: string): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      const message = `a circle of imports: ${[...trail.slice(start), path].join(' > ')}`;
      violations.push({ path, line: 0, message });
    }
    if (start >= 0 || done.has(path)) return;
    trail.push(path);
    for (const other of next.get(path) ?? []) visit(other);
    trail.pop();
    done.add(path);
  };
  for (const path of next.keys()) visit(path);
  return violations;
}

/**
 * What a thread loads before it is ready, packages of others among it: each thread loads its
 * modules anew, and some packages take longer than all of ours.
 */
export function lightThreads(starts: readonly string[], heavy: readonly string[]): Rule {
  return (repository) => {
    const byPath = new Map(repository.sources.map((source) => [source.path, source]));
    const gone = starts.filter((start) => !byPath.has(start));
    return [
      ...gone.map((path) => ({ path, line: 0, message: 'is no thread, or another name by now' })),
      ...starts.flatMap((start) => {
        const seen = new Set([start]);
        const violations: Violation[] = [];
        for (const path of seen) {
          for (const link of byPath.get(path)?.links ?? []) {
            if (link.kind !== 'value') continue;
            const target = resolve(link, path, repository);
            if (target !== undefined) seen.add(target);
            else if (heavy.includes(packageName(link.target))) {
              const message = `the thread ${start} loads ${link.target}: take it from elsewhere`;
              violations.push({ path, line: link.line, message });
            }
          }
        }
        return violations;
      }),
    ];
  };
}
