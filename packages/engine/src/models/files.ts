import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from './errors.ts';

/** Small files only: a tokenizer.json of a quarter million tokens is some 30 MB. */
const MAX_TEXT_BYTES = 256 * 1024 * 1024;

function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/**
 * The size of a regular file (symlinks followed), or undefined when there is none. Throws
 * ModelError `unreadable`.
 */
export async function fileSize(path: string, name: string): Promise<number | undefined> {
  try {
    const found = await stat(path);
    // Opening a pipe or a device could wait for ever.
    if (!found.isFile()) throw new ModelError('unreadable', `${name} is not a regular file`);
    return found.size;
  } catch (error) {
    if (isMissing(error)) return undefined;
    if (error instanceof ModelError) throw error;
    throw unreadable(name, error);
  }
}

/** Wraps an error of the file system. */
export function unreadable(name: string, cause: unknown): ModelError {
  const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown error';
  return new ModelError('unreadable', `cannot read ${name}: ${reason}`, { cause });
}

/** The text of `name` in a model folder, or undefined when it has none. Must be UTF-8. */
export async function readText(folder: string, name: string): Promise<string | undefined> {
  const path = join(folder, name);
  const size = await fileSize(path, name);
  if (size === undefined) return undefined;
  if (size > MAX_TEXT_BYTES) {
    const limit = `more than the ${MAX_TEXT_BYTES} accepted`;
    throw new ModelError('malformed', `${name} has ${size} bytes, ${limit}`);
  }
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw unreadable(name, error);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new ModelError('malformed', `${name} is not UTF-8 text`);
  }
}

/**
 * Parses JSON of a model folder's file. Throws ModelError `malformed`, without quoting the
 * contents.
 */
export function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ModelError('malformed', `${name} is not valid JSON`);
  }
}

/** The parsed contents of `name` in a model folder, or undefined when it has none. */
export async function readJson(folder: string, name: string): Promise<unknown> {
  const text = await readText(folder, name);
  return text === undefined ? undefined : parseJson(text, name);
}
