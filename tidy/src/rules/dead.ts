import { isIdentifier, type Node } from 'typescript/unstable/ast';
import type { PublicNames } from '../allowed.ts';
import type { Link } from '../links.ts';
import {
  isTesting,
  lineAt,
  type Repository,
  type Rule,
  type Source,
  type Violation,
} from '../repository.ts';
import { exportsOf } from './exports.ts';
import { isStarted, publicSources, resolve } from './modules.ts';

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
  const exported = publicSources(repository);
  for (const source of repository.sources) {
    if (exported.has(source.path) || isStarted(source.path)) visit(source);
  }
  const dead = repository.sources.filter(({ path }) => !reached.has(path));
  const message = 'nothing leads here from an index, a main or a test: use it or delete it';
  return dead.map(({ path }) => ({ path, line: 0, message }));
}

/** Public names are listed one by one, so that nothing becomes public by being written. */
export function namedExports({ sources }: Repository): Violation[] {
  return sources.flatMap(({ path, links }) =>
    links
      .filter(({ passedOn }) => passedOn === '*')
      .map(({ line, target }) => {
        const message = `export * from '${target}': name what it passes on, one by one`;
        return { path, line, message };
      }),
  );
}

/** Who uses an exported name: the product, or only tests and what exists for them. */
type User = 'product' | 'testing';

/**
 * Every exported name is used by the product, or lives where tests look for their helpers (a folder
 * `testing`, `testing.ts`) and is used by one. Passing a name on is not a use of it: what an index
 * passes on lives when another package uses it, or when it is listed as public. A test may reach
 * for what the product uses in the very file, and a type lives by what its own file exports.
 */
export function noDeadExports(publicNames: readonly PublicNames[]): Rule {
  return (repository) => {
    const uses = new Uses(repository);
    const exported = publicSources(repository);
    for (const { path, names } of publicNames) {
      for (const name of names) uses.add(path, name, 'product');
    }
    const violations = repository.sources.flatMap((source) => {
      const { path } = source;
      if (isStarted(path)) return [];
      return exportsOf(source, repository).flatMap(({ name, kind, node }): Violation[] => {
        const users = uses.of(path, name);
        if (users.has('product') || (isTesting(path) && users.has('testing'))) return [];
        const isUsedHere = kind !== 'passed on' && mentions(source, name) > 1;
        if (isUsedHere && (kind === 'type' || users.has('testing'))) return [];
        const isPublic = exported.has(path);
        const message = users.has('testing') ? forTestsOnly(name, isPublic) : dead(name, isPublic);
        return [{ path, line: lineAt(source.ast, node.getStart(source.ast)), message }];
      });
    });
    return [...violations, ...publicButMissing(publicNames, repository)];
  };
}

function publicButMissing(listed: readonly PublicNames[], repository: Repository): Violation[] {
  const sources = new Map(repository.sources.map((source) => [source.path, source]));
  return listed.flatMap(({ path, names }) => {
    const source = sources.get(path);
    const exported = source === undefined ? [] : exportsOf(source, repository);
    const missing = [...names].filter((name) => {
      return name !== '*' && !exported.some((each) => each.name === name);
    });
    return missing.map((name) => {
      const message = `tidy/src/allowed.ts lists ${name} as public, and it is not exported here`;
      return { path, line: 0, message };
    });
  });
}

const dead = (name: string, isPublic: boolean): string =>
  isPublic
    ? `${name} is exported and no other package uses it: take it out, or list it as public`
    : `${name} is exported and never imported: use it, hide it or delete it`;

const forTestsOnly = (name: string, isPublic: boolean): string =>
  isPublic
    ? `${name} is exported and only tests use it: export it from a testing subpath, or not at all`
    : `${name} is exported for tests only: test what uses it, or move it to a testing folder`;

/** Which names of which files are used, and by whom, through all that pass them on. */
class Uses {
  readonly #users = new Map<string, Map<string, Set<User>>>();
  readonly #passedOn = new Map<string, { readonly from: string; readonly link: Link }[]>();

  constructor(repository: Repository) {
    const imports: { path: string; link: Link; user: User }[] = [];
    for (const source of repository.sources) {
      const user = isTesting(source.path) ? 'testing' : 'product';
      for (const link of source.links) {
        const path = resolve(link, source.path, repository);
        if (path === undefined) continue;
        if (link.passedOn === undefined) imports.push({ path, link, user });
        else {
          const passing = this.#passedOn.get(source.path) ?? [];
          this.#passedOn.set(source.path, [...passing, { from: path, link }]);
        }
      }
    }
    for (const { path, link, user } of imports) {
      for (const name of link.names) this.add(path, name, user);
    }
  }

  /** Says that a name of a file is used, or all of them: `*` is added like a name. */
  add(path: string, name: string, user: User): void {
    const names = this.#users.get(path) ?? new Map<string, Set<User>>();
    const users = names.get(name) ?? new Set<User>();
    if (users.has(user)) return;
    this.#users.set(path, names.set(name, users.add(user)));
    for (const { from, link } of this.#passedOn.get(path) ?? []) {
      for (const origin of originsOf(link, name)) this.add(from, origin, user);
    }
  }

  of(path: string, name: string): ReadonlySet<User> {
    const names = this.#users.get(path);
    return new Set([...(names?.get(name) ?? []), ...(names?.get('*') ?? [])]);
  }
}

/** The names that stand behind a name, or behind all of them (`*`), where a link passes it on. */
function originsOf({ names, passedOn = [] }: Link, name: string): readonly string[] {
  if (passedOn === '*') return [name];
  if (names === '*') return name === '*' || passedOn.includes(name) ? ['*'] : [];
  return names.filter((_, index) => name === '*' || passedOn[index] === name);
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
