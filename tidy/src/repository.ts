import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { SourceFile } from 'typescript/unstable/ast';
import { API } from 'typescript/unstable/sync';
import { type Link, linksOf } from './links.ts';

/** One source file, parsed. `path` is relative to the repository's root, with forward slashes. */
export interface Source {
  readonly path: string;
  readonly text: string;
  readonly ast: SourceFile;
  readonly links: readonly Link[];
}

/** Everything the rules look at: all text files by path, and those of them that are code. */
export interface Repository {
  readonly files: ReadonlyMap<string, string>;
  readonly sources: readonly Source[];
}

export interface Violation {
  readonly path: string;
  /** 1-based; 0 when the whole file is meant. */
  readonly line: number;
  readonly message: string;
}

export type Rule = (repository: Repository) => Violation[];

/** Written by tools, never by hand, or too large to be text. */
const skippedNames = new Set(['.cache', '.git', 'dist', 'node_modules', 'out']);
const skippedPaths = new Set(['models', 'packages/console/page']);
const textExtensions = new Set(
  ['.css .cu .cuh .html .js .json .jsonl .md .mjs .py', '.sh .svg .toml .ts .tsx .txt .yaml .yml']
    .join(' ')
    .split(' '),
);
const codePattern =
  /^(?:(?:packages|tests)\/[^/]+\/src|scripts|examples|tidy\/src)\/.*\.(?:tsx?|mjs)$/;

/** Reads the working tree under `root`, whether or not git knows the files. */
export function readRepository(root: string): Repository {
  const files = new Map<string, string>();
  const walk = (folder: string): void => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      // In a worktree of git, .git is a file.
      if (skippedNames.has(entry.name)) continue;
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) {
        if (!skippedPaths.has(path)) walk(path);
      } else if (entry.isFile() && isText(entry.name)) {
        files.set(path, readFileSync(join(root, path), 'utf8'));
      }
    }
  };
  walk('');
  const parser = openParser();
  try {
    return parser.parse(files);
  } finally {
    parser.close();
  }
}

/** Text by its extension, or a file without one (LICENSE, `.ci/run`, `.gitignore`). */
function isText(name: string): boolean {
  return textExtensions.has(extname(name)) || extname(name) === '';
}

/** Turns texts by path into a repository. */
export interface Parser {
  /** Reads syntax only: no module is resolved, no type checked. */
  parse(files: ReadonlyMap<string, string>): Repository;
  close(): void;
}

/** Starts the compiler, which parses what it is given and sees nothing of the disk. */
export function openParser(): Parser {
  const shown = new Map<string, string>();
  const api = new API({
    cwd: '/',
    fs: {
      readFile: (name) => shown.get(name) ?? null,
      fileExists: (name) => shown.has(name),
      directoryExists: (name) => [...shown.keys()].some((path) => path.startsWith(`${name}/`)),
      getAccessibleEntries: () => ({ files: [], directories: [] }),
      realpath: (name) => name,
    },
  });
  let count = 0;
  const parse = (files: ReadonlyMap<string, string>): Repository => {
    // A folder of its own for each, as the compiler remembers files by their names.
    const folder = `/${count++}`;
    const paths = [...files.keys()].filter((path) => codePattern.test(path)).sort();
    for (const path of paths) shown.set(`${folder}/${path}`, files.get(path) ?? '');
    const project = `${folder}/tsconfig.json`;
    const compilerOptions = { noResolve: true, noLib: true, allowJs: true, types: [] };
    shown.set(project, JSON.stringify({ files: paths, compilerOptions }));
    const program = api.updateSnapshot({ openProjects: [project] }).getProject(project)?.program;
    const sources = paths.map((path): Source => {
      const ast = program?.getSourceFile(`${folder}/${path}`);
      if (ast === undefined) throw new Error(`tidy: the compiler returned no tree for ${path}`);
      return { path, text: files.get(path) ?? '', ast, links: linksOf(ast) };
    });
    return { files, sources };
  };
  return { parse, close: () => api.close() };
}

/** The 1-based line of a position in a parsed file. */
export function lineAt(ast: SourceFile, position: number): number {
  return ast.getLineAndCharacterOfPosition(position).line + 1;
}

export const isTest = (path: string): boolean => path.endsWith('.test.ts');

/** A test, or what exists for tests: a file in a folder `testing`, or `testing.ts`. */
export const isTesting = (path: string): boolean =>
  isTest(path) || /(?:^|\/)testing(?:\/|\.ts$)/.test(path);
