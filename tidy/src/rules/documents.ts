import { posix } from 'node:path';
import type { Repository, Violation } from '../repository.ts';

/** Every package says in a README what it is for and what it promises. */
export function readmes({ files }: Repository): Violation[] {
  const folders = [...files.keys()].flatMap(
    (path) => /^(packages\/[^/]+)\/package\.json$/.exec(path)?.[1] ?? [],
  );
  const missing = folders.filter((folder) => !files.has(`${folder}/README.md`));
  return missing.map((path) => ({ path, line: 0, message: 'the package has no README.md' }));
}

interface Reference {
  readonly path: string;
  readonly line: number;
  readonly target: string;
  readonly isImage: boolean;
}

/** Links and images with relative targets in Markdown, outside of code. */
function references({ files }: Repository): Reference[] {
  const found: Reference[] = [];
  for (const [path, text] of files) {
    if (!path.endsWith('.md')) continue;
    let inFence = false;
    for (const [index, line] of text.split('\n').entries()) {
      if (/^\s*(?:```|~~~)/.test(line)) inFence = !inFence;
      if (inFence) continue;
      const prose = line.replace(/`[^`]*`/g, '');
      for (const match of prose.matchAll(/(!?)\[[^\]]*\]\(([^)\s]+)[^)]*\)/g)) {
        const target = (match[2] ?? '').replace(/#.*$/, '');
        if (target === '' || /^[a-z]+:/.test(target)) continue;
        found.push({ path, line: index + 1, target, isImage: match[1] === '!' });
      }
    }
  }
  return found;
}

const targetPath = ({ path, target }: Reference): string =>
  posix.normalize(posix.join(posix.dirname(path), target)).replace(/\/$/, '');

/** `exists` answers for files that are not text, such as models and pictures. */
export function linksResolve(
  repository: Repository,
  exists: (path: string) => boolean,
): Violation[] {
  const broken = references(repository).filter((reference) => !exists(targetPath(reference)));
  return broken.map(({ path, line, target }) => ({
    path,
    line,
    message: `no such file: ${target}`,
  }));
}

/** A figure is a picture of measurements: those lie beside it, as JSON of the same name. */
export function figuresHaveData(repository: Repository): Violation[] {
  return references(repository).flatMap((reference): Violation[] => {
    const path = targetPath(reference);
    if (!reference.isImage || !path.startsWith('docs/results/')) return [];
    const data = path.replace(/\.[a-z]+$/, '.json');
    if (repository.files.has(data)) return [];
    return [{ path: reference.path, line: reference.line, message: `the figure has no ${data}` }];
  });
}

/** Places of one machine or one company: folders, package registries, private addresses. */
const privatePlaces: readonly RegExp[] = [
  /(?<![\w.~)}-])\/(?:work|root|home\/\w+|Users\/\w+)\/\w/,
  /\bregistry\.[a-z][\w-]*\.[a-z]{2,}/,
  /\/\/(?:10\.\d|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.)/,
  /\w\.(?:internal|corp|lan)[:/]/,
];

export function noPrivatePlaces({ files }: Repository): Violation[] {
  const violations: Violation[] = [];
  for (const [path, text] of files) {
    for (const [index, line] of text.split('\n').entries()) {
      const place = privatePlaces.map((pattern) => pattern.exec(line)?.[0]).find((hit) => hit);
      if (place === undefined) continue;
      const message = `${place} is a place of one machine: leave it out`;
      violations.push({ path, line: index + 1, message });
    }
  }
  return violations;
}
