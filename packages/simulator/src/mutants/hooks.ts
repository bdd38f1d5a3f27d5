import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/** What a mutant changes, by the URL of a module. */
export interface Change {
  readonly url: string;
  readonly find: string;
  readonly replace: string;
}

let change: Change | undefined;

export function initialize(data: Change): void {
  change = data;
}

interface Loaded {
  readonly format: 'module';
  readonly source: string;
  readonly shortCircuit: true;
}

/** Node's hook: the module that is changed, or what comes next. */
export async function load(
  url: string,
  context: unknown,
  next: (url: string, context: unknown) => Promise<unknown>,
): Promise<Loaded | unknown> {
  if (change === undefined || url !== change.url) return next(url, context);
  const text = await readFile(fileURLToPath(url), 'utf8');
  const { find, replace } = change;
  if (text.split(find).length !== 2) throw new Error(`the text to change is not once in ${url}`);
  const source = text.replace(find, () => replace);
  return { format: 'module', source, shortCircuit: true } satisfies Loaded;
}
