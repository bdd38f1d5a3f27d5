import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from './errors.ts';

/** Small files only: a tokenizer.json of a quarter million tokens is some 30 MB. */
const MAX_TEXT_BYTES = 256 * 1024 * 1024;

/** What was verified of a sealed model: its small files by name, in plaintext. Plain data. */
export interface VerifiedFiles {
  readonly folder: string;
  readonly contents: ReadonlyMap<string, Uint8Array>;
}

/** Where a model's small files are read: in its folder as it lies, or in what was verified. */
export type ModelFiles = string | VerifiedFiles;

/** Where the model lies, for messages. */
export function folderOf(files: ModelFiles): string {
  return typeof files === 'string' ? files : files.folder;
}

/** Whether the file system said that there is no such file. */
export function isMissing(error: unknown): boolean {
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

/** Wraps an error of the file system that came of writing. */
export function unwritable(name: string, cause: unknown): ModelError {
  const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown error';
  return new ModelError('unwritable', `cannot write ${name}: ${reason}`, { cause });
}

/** What lies in the folder at `path`, nothing where there is none. Throws ModelError. */
export async function namesIn(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isMissing(error)) return [];
    throw unreadable(path, error);
  }
}

/** The names of a model's files in `folder`, one of its own folders. Throws ModelError. */
export async function namesWithin(files: ModelFiles, folder: string): Promise<string[]> {
  if (typeof files === 'string') return namesIn(join(files, folder));
  const prefix = `${folder}/`;
  const names = [...files.contents.keys()].filter((name) => name.startsWith(prefix));
  return names.map((name) => name.slice(prefix.length));
}

/**
 * The bytes of `name` in a folder, or undefined when it has none. Throws ModelError: a file that
 * cannot be read, or is too large to be one of the small ones.
 */
export async function readSmall(folder: string, name: string): Promise<Uint8Array | undefined> {
  const path = join(folder, name);
  const size = await fileSize(path, name);
  if (size === undefined) return undefined;
  if (size > MAX_TEXT_BYTES) {
    const limit = `more than the ${MAX_TEXT_BYTES} accepted`;
    throw new ModelError('malformed', `${name} has ${size} bytes, ${limit}`);
  }
  try {
    return await readFile(path);
  } catch (error) {
    throw unreadable(name, error);
  }
}

/** The text of one of a model's files, or undefined when it has none. Must be UTF-8. */
export async function readText(files: ModelFiles, name: string): Promise<string | undefined> {
  const isPlain = typeof files === 'string';
  const bytes = isPlain ? await readSmall(files, name) : files.contents.get(name);
  return bytes === undefined ? undefined : decodeText(bytes, name);
}

/** Throws ModelError `malformed`. */
export function decodeText(bytes: Uint8Array, name: string): string {
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

/** The parsed contents of one of a model's files, or undefined when it has none. */
export async function readJson(files: ModelFiles, name: string): Promise<unknown> {
  const text = await readText(files, name);
  return text === undefined ? undefined : parseJson(text, name);
}
