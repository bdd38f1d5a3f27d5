import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  adapters,
  avoidedWords,
  banned,
  folders,
  heavyPackages,
  lightThreadFiles,
  longFiles,
  publicNames,
} from './allowed.ts';
import type { Repository, Rule, Violation } from './repository.ts';
import { namedExports, noDeadExports, noDeadFiles } from './rules/dead.ts';
import { figuresHaveData, linksResolve, noPrivatePlaces, readmes } from './rules/documents.ts';
import { folderLayers } from './rules/folders.ts';
import { namesAtHome, plainWords } from './rules/names.ts';
import { layering, lightThreads, manifestsAgree, noCycles } from './rules/structure.ts';
import {
  fileLength,
  functionLength,
  lineLength,
  packedLiterals,
  unfinished,
} from './rules/style.ts';

/** All rules of the house for the repository at `root`, by the name they are reported under. */
export function rulesFor(root: string): Readonly<Record<string, Rule>> {
  return {
    layering,
    'folder layers': folderLayers(folders),
    'manifests agree': manifestsAgree,
    'no import cycles': noCycles,
    'light threads': lightThreads(lightThreadFiles, heavyPackages),
    'no dead files': noDeadFiles,
    'no dead exports': noDeadExports(publicNames),
    'named exports': namedExports,
    'names at home': namesAtHome(banned, adapters),
    'plain words': plainWords(avoidedWords),
    'line length': lineLength,
    'file length': fileLength(longFiles),
    'function length': functionLength,
    'no packed literals': packedLiterals,
    'nothing unfinished': unfinished,
    readmes,
    'links resolve': (repository) =>
      linksResolve(repository, (path) => existsSync(join(root, path))),
    'figures have data': figuresHaveData,
    'no private places': noPrivatePlaces,
  };
}

/** `path:line: message` for each violation of one rule, in the order of the paths. */
export function report(rule: Rule, repository: Repository): string[] {
  const text = ({ path, line, message }: Violation): string =>
    `${path}${line > 0 ? `:${line}` : ''}: ${message}`;
  return rule(repository).map(text);
}
