import { invariant } from '@bridgekeeper/bridge/threads';
import { ModelError } from '../models/errors.ts';
import { frameDigest } from './frame.ts';
import type { Seal, SealedFile } from './manifest.ts';

/** How many chunks a file of `bytes` bytes has. */
export function chunkCount(chunkBytes: number, bytes: number): number {
  return Math.ceil(bytes / chunkBytes);
}

/** Where a chunk of a file of `bytes` bytes lies. */
export function chunkSpan(chunkBytes: number, bytes: number, chunkIndex: number) {
  const offsetBytes = chunkIndex * chunkBytes;
  invariant(chunkIndex >= 0 && offsetBytes < bytes, `a file has no chunk ${chunkIndex}`);
  return { offsetBytes, bytes: Math.min(chunkBytes, bytes - offsetBytes) };
}

/** What a digest binds besides a chunk's bytes. */
export interface ChunkedFile {
  readonly name: string;
  readonly bytes: number;
}

/**
 * The digest of a chunk, hex: SHA-256 over the file's name, the chunk's index and length, the
 * file's length, and `treeRoot`, the 32 bytes that `hashTreeOf` or the device's `hash-tree` give
 * for the chunk's plaintext with leaves of `LEAF_BYTES`.
 */
export function digestOfChunk(
  chunkBytes: number,
  file: ChunkedFile,
  chunkIndex: number,
  treeRoot: Uint8Array,
): string {
  invariant(treeRoot.length === 32, 'the root of a hash tree has 32 bytes');
  const { bytes } = chunkSpan(chunkBytes, file.bytes, chunkIndex);
  return frameDigest('chunk', [file.name, chunkIndex, bytes, file.bytes, treeRoot]);
}

/** `digestOfChunk` of a chunk of `seal.files[fileIndex]`. */
export function chunkDigest(
  seal: Seal,
  fileIndex: number,
  chunkIndex: number,
  treeRoot: Uint8Array,
): string {
  return digestOfChunk(seal.chunkBytes, fileAt(seal, fileIndex), chunkIndex, treeRoot);
}

/** What `chunkDigest` must give, hex. */
export function expectedDigest(seal: Seal, fileIndex: number, chunkIndex: number): string {
  const chunk = fileAt(seal, fileIndex).chunks[chunkIndex];
  invariant(chunk !== undefined, `a file has no chunk ${chunkIndex}`);
  return chunk.digest;
}

function fileAt(seal: Seal, fileIndex: number): SealedFile {
  const file = seal.files[fileIndex];
  invariant(file !== undefined, `a seal has no file ${fileIndex}`);
  return file;
}

/** The file `name` and its index in `seal.files`. Throws ModelError `seal-mismatch`. */
export function sealedFile(seal: Seal, name: string): { index: number; file: SealedFile } {
  const index = seal.files.findIndex((file) => file.name === name);
  const file = seal.files[index];
  if (file === undefined) {
    throw new ModelError('seal-mismatch', `${name} is not among the sealed files of the model`);
  }
  return { index, file };
}

/** A chunk that is not what was sealed: which, and where it lies. */
export function chunkMismatch(
  chunkBytes: number,
  file: ChunkedFile,
  chunkIndex: number,
): ModelError {
  const { offsetBytes, bytes } = chunkSpan(chunkBytes, file.bytes, chunkIndex);
  const where = `chunk ${chunkIndex} (${bytes} bytes from ${offsetBytes})`;
  return new ModelError('seal-mismatch', `${file.name}: ${where} is not what was sealed`);
}
