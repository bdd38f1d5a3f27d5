import { isBuiltin } from 'node:module';
import { posix } from 'node:path';
import {
  isExportDeclaration,
  isIdentifier,
  isInterfaceDeclaration,
  isNamedExports,
  isTypeAliasDeclaration,
  isVariableStatement,
  type Node,
  SyntaxKind,
} from 'typescript/unstable/ast';
import { layers, peers } from '../allowed.ts';
import type { Link } from '../links.ts';
import { isTest, lineAt, type Repository, type Source, type Violation } from '../repository.ts';

interface Manifest {
  readonly name: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly exports?: Readonly<Record<string, { readonly default: string }>>;
}

/** Folder name of a package (`bridge` for packages/bridge), or undefined for other paths. */
const packageOf = (path: string): string | undefined => /^packages\/([^/]+)\//.exec(path)?.[1];

/** The packages by folder name. */
function manifests({ files }: Repository): Map<string, Manifest> {
  const found = new Map<string, Manifest>();
  for (const [path, text] of files) {
    const name = /^packages\/([^/]+)\/package\.json$/.exec(path)?.[1];
    if (name !== undefined) found.set(name, JSON.parse(text) as Manifest);
  }
  return found;
}

/** The folder name of the package that a bare specifier names, if it is one of ours. */
function ownPackage(specifier: string, all: ReadonlyMap<string, Manifest>): string | undefined {
  for (const [folder, { name }] of all) {
    if (specifier === name || specifier.startsWith(`${name}/`)) return folder;
  }
  return undefined;
}

/** The source behind what a package of ours exports under a specifier: dist/x.js is src/x.ts. */
function publicSource(specifier: string, all: ReadonlyMap<string, Manifest>): string | undefined {
  const folder = ownPackage(specifier, all);
  const manifest = folder === undefined ? undefined : all.get(folder);
  if (manifest === undefined) return undefined;
  const subpath = `.${specifier.slice(manifest.name.length)}`;
  const file = manifest.exports?.[subpath]?.default.replace('./dist/', '').replace(/\.js$/, '.ts');
  return file === undefined ? undefined : `packages/${folder}/src/${file}`;
}

/** `hono/utils` is of package `hono`, `@hono/node-server/x` of `@hono/node-server`. */
function packageName(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** Imports go down the layers only, by a package's name, and only to what its manifest lists. */
export function layering(repository: Repository): Violation[] {
  const all = manifests(repository);
  const rootTools = rootDevDependencies(repository);
  return repository.sources.flatMap((source) => {
    const own = packageOf(source.path);
    if (own === undefined) return [];
    const listed = all.get(own)?.dependencies ?? {};
    return source.links.flatMap((link): Violation[] => {
      const message = layeringFault(link, source.path, own, all, (name) => {
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
  return mayUse(own, other) ? undefined : `packages/${own} may not import packages/${other}`;
}

const mayUse = (own: string, other: string): boolean => layers[own]?.includes(other) ?? false;

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
      if (!mayUse(folder, other)) fault(`packages/${folder} may not depend on packages/${other}`);
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

/** The path of the source that a link leads to, if it is in the repository. */
function resolve(link: Link, from: string, repository: Repository): string | undefined {
  if (!link.target.startsWith('.')) return publicSource(link.target, manifests(repository));
  const path = posix.join(posix.dirname(from), link.target);
  const source = path.replace(/\.js$/, '.ts');
  return repository.files.has(source) ? source : undefined;
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

/** Where a reader or a process comes in: what packages export, mains, tests and scripts. */
function isEntryOf(repository: Repository): (path: string) => boolean {
  const all = manifests(repository);
  const exported = new Set<string | undefined>();
  for (const { name, exports = {} } of all.values()) {
    for (const subpath of Object.keys(exports))
      exported.add(publicSource(name + subpath.slice(1), all));
  }
  return (path) =>
    exported.has(path) || isTest(path) || path.endsWith('/main.ts') || path.startsWith('scripts/');
}

/** Every file is reached from an entry, by imports or as a worker. */
export function noDeadFiles(repository: Repository): Violation[] {
  const sources = new Map(repository.sources.map((source) => [source.path, source]));
  const reached = new Set<string>();
  const visit = (source: Source): void => {
    if (reached.has(source.path)) return;
    reached.add(source.path);
    for (const link of source.links) {
      const target = sources.get(resolve(link, source.path, repository) ?? '');
      if (target !== undefined) visit(target);
    }
  };
  const isEntry = isEntryOf(repository);
  for (const source of repository.sources) if (isEntry(source.path)) visit(source);
  const dead = repository.sources.filter(({ path }) => !reached.has(path));
  const message = 'nothing leads here from an index, a main or a test: use it or delete it';
  return dead.map(({ path }) => ({ path, line: 0, message }));
}

/**
 * Every exported name is imported somewhere, or is a type that the file itself uses in what it
 * exports. Files re-exported whole (`export *`) are a public surface and are left alone.
 */
export function noDeadExports(repository: Repository): Violation[] {
  const used = new Map<string, Set<string>>();
  for (const source of repository.sources) {
    for (const link of source.links) {
      const path = resolve(link, source.path, repository);
      if (path === undefined) continue;
      const names = used.get(path) ?? new Set<string>();
      for (const name of link.names) names.add(name);
      used.set(path, names);
    }
  }
  const isEntry = isEntryOf(repository);
  return repository.sources.flatMap((source) => {
    const names = used.get(source.path) ?? new Set<string>();
    if (names.has('*') || isEntry(source.path)) return [];
    return exportsOf(source).flatMap(({ name, isType, node }): Violation[] => {
      if (names.has(name) || (isType && mentions(source, name) > 1)) return [];
      const message = `${name} is exported and never imported: use it, hide it or delete it`;
      return [{ path: source.path, line: lineAt(source.ast, node.getStart(source.ast)), message }];
    });
  });
}

interface Exported {
  readonly name: string;
  readonly isType: boolean;
  readonly node: Node;
}

function exportsOf({ ast }: Source): Exported[] {
  return ast.statements.flatMap((node): Exported[] => {
    if (isExportDeclaration(node) && node.moduleSpecifier === undefined) {
      const clause = node.exportClause;
      if (clause === undefined || !isNamedExports(clause)) return [];
      return clause.elements.map(({ name }) => ({ name: name.text, isType: false, node }));
    }
    const { modifiers } = node as Node & { readonly modifiers?: readonly Node[] };
    if (!modifiers?.some(({ kind }) => kind === SyntaxKind.ExportKeyword)) return [];
    const names: string[] = [];
    if (isVariableStatement(node)) {
      for (const { name } of node.declarationList.declarations) {
        if (isIdentifier(name)) names.push(name.text);
      }
    } else {
      const { name } = node as Node & { readonly name?: Node };
      if (name !== undefined && isIdentifier(name)) names.push(name.text);
    }
    const isType = isInterfaceDeclaration(node) || isTypeAliasDeclaration(node);
    return names.map((name) => ({ name, isType, node }));
  });
}

/** How often a file names an identifier, its declaration included. */
function mentions({ ast }: Source, name: string): number {
  let count = 0;
  const visit = (node: Node): void => {
    if (isIdentifier(node) && node.text === name) count += 1;
    node.forEachChild(visit);
  };
  visit(ast);
  return count;
}
