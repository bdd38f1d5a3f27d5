import { join } from 'node:path';
import { hashTreeOf } from '@bridgekeeper/device';
import { ModelError } from '../models/errors.ts';
import { decodeText, fileSize, namesIn, readSmall } from '../models/files.ts';
import {
  type ChunkedFile,
  chunkDigest,
  chunkMismatch,
  chunkSpan,
  expectedDigest,
  sealedFile,
} from './chunks.ts';
import { decryptChunk } from './cipher.ts';
import { isSmallName, TEMPLATE_FOLDER } from './names.ts';
import type { OpenedSeal } from './open.ts';

/**
 * Checks one chunk on the host: `stored` are its bytes in the folder; `into`, which has their
 * length and may be `stored` itself, then holds its plaintext. Throws ModelError `seal-mismatch`
 * with file, chunk and offset.
 */
export function openChunk(
  { seal, key }: OpenedSeal,
  fileIndex: number,
  chunkIndex: number,
  stored: Uint8Array,
  into: Uint8Array,
): void {
  const file = seal.files[fileIndex]!;
  if (key !== null) decryptChunk(key, file, fileIndex, chunkIndex, stored, into);
  else if (into !== stored) into.set(stored);
  const found = chunkDigest(seal, fileIndex, chunkIndex, hashTreeOf(into, seal.leafBytes));
  if (found !== expectedDigest(seal, fileIndex, chunkIndex)) {
    throw chunkMismatch(seal.chunkBytes, file, chunkIndex);
  }
}

/** The names of the files beside the weights that loading `folder` reads, sorted. */
export async function smallNames(folder: string): Promise<string[]> {
  const names = await namesIn(folder);
  const templates = await namesIn(join(folder, TEMPLATE_FOLDER));
  const all = [...names, ...templates.map((name) => `${TEMPLATE_FOLDER}/${name}`)];
  return all.filter((name) => isSmallName(name)).sort();
}

/**
 * The plaintext of a sealed file beside the weights, from its bytes in the folder. Throws
 * ModelError `seal-mismatch`.
 */
function openSmallFile(opened: OpenedSeal, name: string, stored: Uint8Array): Uint8Array {
  const { seal } = opened;
  const { index, file } = sealedFile(seal, name);
  checkLength(file, stored.length);
  const plaintext = new Uint8Array(file.bytes);
  for (const chunk of file.chunks.keys()) {
    const { offsetBytes, bytes } = chunkSpan(seal.chunkBytes, file.bytes, chunk);
    const [from, into] = [stored, plaintext].map((all) => {
      return all.subarray(offsetBytes, offsetBytes + bytes);
    });
    openChunk(opened, index, chunk, from!, into!);
  }
  return plaintext;
}

/**
 * All sealed files beside the weights, by name, as they were sealed. What is read from here
 * was verified, and is nothing that was put into the folder since. Throws ModelError.
 */
export async function readSmallFiles(
  folder: string,
  opened: OpenedSeal,
): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const { name } of opened.seal.files) {
    if (!isSmallName(name)) continue;
    files.set(name, await readSmallFile(folder, opened, name));
  }
  return files;
}

/** As `readText`: the text of one sealed file, or undefined where none of that name was sealed. */
export async function readSealedText(
  folder: string,
  opened: OpenedSeal,
  name: string,
): Promise<string | undefined> {
  if (!opened.seal.files.some((file) => file.name === name)) return undefined;
  return decodeText(await readSmallFile(folder, opened, name), name);
}

async function readSmallFile(
  folder: string,
  opened: OpenedSeal,
  name: string,
): Promise<Uint8Array> {
  const found = await fileSize(join(folder, name), name);
  // What has another length is not read: it may be larger than memory.
  if (found !== undefined) checkLength(sealedFile(opened.seal, name).file, found);
  const stored = found === undefined ? undefined : await readSmall(folder, name);
  if (stored === undefined) throw gone(name);
  return openSmallFile(opened, name, stored);
}

function checkLength({ name, bytes }: ChunkedFile, found: number): void {
  if (found === bytes) return;
  const message = `${name} has ${found} bytes, ${bytes} were sealed`;
  throw new ModelError('seal-mismatch', message);
}

function gone(name: string): ModelError {
  return new ModelError('seal-mismatch', `${name} is sealed, but is not in the folder any more`);
}
