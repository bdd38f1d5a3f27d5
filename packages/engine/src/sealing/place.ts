import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { ModelError } from '../models/errors.ts';
import { isMissing, unwritable } from '../models/files.ts';
import { SEAL_NAME } from '../seal/names.ts';

/** Where a sealing goes. Nothing of it is to be seen before `finish`, and all of it after. */
export interface SealPlace {
  /** Where the sealed copy of a file is written; null where no copies are made. */
  targetOf(name: string): string | null;
  /** Adds the manifest and brings everything to its place. Throws ModelError `unwritable`. */
  finish(manifest: string): Promise<void>;
  /** Removes what was written. */
  discard(): Promise<void>;
}

/**
 * The place for a manifest in `folder`, or, with `out`, for a new folder with copies of `files`,
 * which are made with their lengths. Throws ModelError `unwritable`.
 */
export async function openPlace(
  folder: string,
  out: string | undefined,
  files: readonly { readonly name: string; readonly bytes: number }[],
): Promise<SealPlace> {
  return out === undefined ? manifestPlace(folder) : await folderPlace(resolve(out), files);
}

function manifestPlace(folder: string): SealPlace {
  const partial = join(folder, partialName(SEAL_NAME));
  return {
    targetOf: () => null,
    finish: async (manifest) => {
      await writeDurably(partial, SEAL_NAME, manifest);
      await move(partial, join(folder, SEAL_NAME));
    },
    discard: () => rm(partial, { force: true }),
  };
}

async function folderPlace(
  out: string,
  files: readonly { readonly name: string; readonly bytes: number }[],
): Promise<SealPlace> {
  await refuseExisting(out);
  const partial = join(dirname(out), partialName(basename(out)));
  const targetOf = (name: string) => join(partial, name);
  const discard = () => rm(partial, { recursive: true, force: true });
  try {
    for (const { name, bytes } of files) await makeFile(targetOf(name), name, bytes);
  } catch (error) {
    await discard();
    throw error;
  }
  const finish = async (manifest: string) => {
    for (const { name } of files) await settle(targetOf(name), name);
    await writeDurably(targetOf(SEAL_NAME), SEAL_NAME, manifest);
    await move(partial, out);
  };
  return { targetOf, finish, discard };
}

function partialName(name: string): string {
  return `.${name}.${randomBytes(6).toString('hex')}.partial`;
}

async function refuseExisting(out: string): Promise<void> {
  try {
    await stat(out);
  } catch (error) {
    if (isMissing(error)) return;
    throw unwritable(out, error);
  }
  throw new ModelError('unwritable', `${out} is already there: name a folder that is to be made`);
}

async function makeFile(path: string, name: string, bytes: number): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    const handle = await open(path, 'wx');
    await handle.truncate(bytes).finally(() => handle.close());
  } catch (error) {
    throw unwritable(name, error);
  }
}

/** Waits until what was written to a file is on the disk. */
async function settle(path: string, name: string): Promise<void> {
  try {
    const handle = await open(path, 'r+');
    await handle.sync().finally(() => handle.close());
  } catch (error) {
    throw unwritable(name, error);
  }
}

async function writeDurably(path: string, name: string, text: string): Promise<void> {
  try {
    const handle = await open(path, 'wx');
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw unwritable(name, error);
  }
}

async function move(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    throw unwritable(to, error);
  }
}
