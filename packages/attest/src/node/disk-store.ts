import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ReferenceSource } from '../claims/context.ts';
import type { Bytes } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';
import { isReferenceFile, isReferenceId } from '../services/references.ts';
import type { ByteStore } from '../services/store.ts';

const FILE_COUNT_MAX = 4096;
const FILE_BYTES_MAX = 2 * 1024 * 1024;

/** Answers of services in a folder, which is made when there is something to keep. */
export function diskStore(folder: string): ByteStore {
  return {
    async get(name) {
      return readIfThere(pathOf(folder, name));
    },
    async put(name, bytes) {
      const path = pathOf(folder, name);
      const partial = `${path}.${randomUUID()}.partial`;
      try {
        await mkdir(folder, { recursive: true });
        await writeFile(partial, bytes);
        // Readers see the whole of it or nothing.
        await rename(partial, path);
        await dropOldest(folder);
      } catch (error) {
        // A full disk or a folder that is not ours costs the next run a request, nothing else.
        if (!isSystemError(error)) throw error;
        await rm(partial, { force: true });
      }
    },
  };
}

/**
 * A folder of RIM files named by their ids (`isReferenceFile` says how), read only as they are
 * asked for. Rejects with AttestError 'too-large', or the system's error if it cannot be read.
 */
export function referenceFolder(folder: string): ReferenceSource {
  return {
    async rim(id) {
      if (!isReferenceId(id)) return null;
      const names = await readdir(folder);
      const name = names.find((one) => isReferenceFile(one, id));
      return name === undefined ? null : readIfThere(join(folder, name));
    },
  };
}

function pathOf(folder: string, name: string): string {
  invariant(/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name), 'names in a store are no paths');
  return join(folder, name);
}

async function readIfThere(path: string): Promise<Bytes | null> {
  try {
    const { size } = await stat(path);
    demand(size <= FILE_BYTES_MAX, 'too-large', `${path} has ${size} bytes`);
    return new Uint8Array(await readFile(path));
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return null;
    throw error;
  }
}

async function dropOldest(folder: string): Promise<void> {
  const names = await readdir(folder);
  if (names.length <= FILE_COUNT_MAX) return;
  const files = await Promise.all(
    names.map(async (name) => {
      const path = join(folder, name);
      return { path, changedMs: (await stat(path)).mtimeMs };
    }),
  );
  files.sort((a, b) => a.changedMs - b.changedMs);
  for (const { path } of files.slice(0, names.length - FILE_COUNT_MAX)) await rm(path);
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && 'syscall' in error;
}
