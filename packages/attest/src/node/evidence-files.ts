import { constants } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { UnreadableFile } from '../core/errors.ts';
import type { EvidenceFile } from '../verify/recognise.ts';

type EvidenceFileErrorCode = 'not-found' | 'too-large' | 'unreadable';

/** What was given as evidence cannot be read. */
export class EvidenceFileError extends Error {
  override readonly name = 'EvidenceFileError';
  readonly code: EvidenceFileErrorCode;

  constructor(code: EvidenceFileErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const FILE_BYTES_MAX = 8 * 1024 * 1024;
const FOLDER_FILES_MAX = 256;
const TOTAL_BYTES_MAX = 64 * 1024 * 1024;

/** A file that was read, and whether the user named it or the folder it lies in. */
export interface ReadFile extends EvidenceFile {
  readonly isNamed: boolean;
}

export interface ReadFiles {
  readonly files: readonly ReadFile[];
  /** Files of folders that could not be read. */
  readonly unreadable: readonly UnreadableFile[];
}

/**
 * Reads files, and folders one level deep, hidden files left out, in the order of their names. One
 * file of a folder that cannot be read does not keep the others from being read. Throws
 * EvidenceFileError for a file or folder that was named, and for too much in all.
 */
export async function readEvidenceFiles(paths: readonly string[]): Promise<ReadFiles> {
  const files: ReadFile[] = [];
  const unreadable: UnreadableFile[] = [];
  let totalBytes = 0;
  for (const { path, isNamed } of (await Promise.all(paths.map(expand))).flat()) {
    const bytes = await readBounded(path).catch((error: unknown) => {
      if (isNamed || !(error instanceof EvidenceFileError)) throw error;
      const code = error.code === 'too-large' ? 'too-large' : 'not-available';
      unreadable.push({ name: basename(path), code, message: error.message });
      return null;
    });
    if (bytes === null) continue;
    totalBytes += bytes.length;
    if (totalBytes > TOTAL_BYTES_MAX) {
      throw new EvidenceFileError(
        'too-large',
        `more than ${TOTAL_BYTES_MAX} bytes were given in all`,
      );
    }
    files.push({ name: basename(path), bytes, isNamed });
  }
  return { files, unreadable };
}

async function expand(path: string): Promise<{ path: string; isNamed: boolean }[]> {
  const info = await stat(path).catch((cause: unknown) => {
    throw new EvidenceFileError('not-found', `${path} cannot be read: ${reasonOf(cause)}`, {
      cause,
    });
  });
  if (!info.isDirectory()) return [{ path, isNamed: true }];
  const entries = await readdir(path, { withFileTypes: true });
  const names = entries
    .filter((entry) => (entry.isFile() || entry.isSymbolicLink()) && !entry.name.startsWith('.'))
    .map(({ name }) => name)
    .sort();
  if (names.length > FOLDER_FILES_MAX) {
    const limit = `at most ${FOLDER_FILES_MAX} are read`;
    throw new EvidenceFileError('too-large', `${path} holds ${names.length} files, ${limit}`);
  }
  return names.map((name) => ({ path: join(path, name), isNamed: false }));
}

/** Never waits for a pipe or a device, and never reads more than it may. */
async function readBounded(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const info = await file.stat();
    if (!info.isFile()) throw new EvidenceFileError('unreadable', `${path} is not a file`);
    if (info.size > FILE_BYTES_MAX) {
      const sizes = `${info.size} bytes, at most ${FILE_BYTES_MAX} are read`;
      throw new EvidenceFileError('too-large', `${path} has ${sizes}`);
    }
    const bytes = new Uint8Array(info.size);
    const { bytesRead } = await file.read(bytes, 0, info.size, 0);
    return bytes.subarray(0, bytesRead);
  } catch (cause) {
    if (cause instanceof EvidenceFileError) throw cause;
    throw new EvidenceFileError('not-found', `${path} cannot be read: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

function reasonOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
