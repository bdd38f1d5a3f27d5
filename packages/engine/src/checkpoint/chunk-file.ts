import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { ModelError } from '../models/errors.ts';
import { unreadable } from '../models/files.ts';
import type { decryptChunk, SealKey } from '../seal/cipher.ts';
import type { SealedFile } from '../seal/manifest.ts';

/** What a thread needs to read a file of a checkpoint: plain data. */
export interface ChunkFile {
  readonly path: string;
  readonly name: string;
  readonly bytes: number;
  /** As it was when its header was read; a string, since it counts nanoseconds. */
  readonly changedNs: string;
  /** What its chunks are decrypted with; null: they lie in the clear. */
  readonly sealed: {
    readonly key: SealKey;
    readonly index: number;
    readonly file: SealedFile;
  } | null;
}

/** Of one chunk. */
export interface ChunkTimes {
  readonly readNs: number;
  readonly decryptNs: number;
}

/** What direct reading asks of positions, lengths and memory. */
export const DIRECT_BYTES = 4096;

/** Throws ModelError `inconsistent` when the file is no longer the one whose header was read. */
function assertUnchanged(descriptor: number, file: ChunkFile): void {
  const now = fstatSync(descriptor, { bigint: true });
  if (now.size === BigInt(file.bytes) && now.mtimeNs === BigInt(file.changedNs)) return;
  const message = `${file.name} changed while it was being read: start again with a whole copy`;
  throw new ModelError('inconsistent', message);
}

/** A file as one thread has it open, with the page cache and, on demand, past it. */
export class OpenChunkFile {
  readonly file: ChunkFile;
  readonly #cached: number;
  #direct: number | null | undefined;

  constructor(file: ChunkFile) {
    this.file = file;
    try {
      this.#cached = openSync(file.path, 'r');
    } catch (error) {
      throw unreadable(file.name, error);
    }
    assertUnchanged(this.#cached, file);
  }

  /** Not every file system can read past its cache: then the cache it is. */
  descriptor(direct: boolean): number {
    if (!direct) return this.#cached;
    if (this.#direct === undefined) {
      try {
        this.#direct = openSync(this.file.path, constants.O_RDONLY | constants.O_DIRECT);
      } catch {
        this.#direct = null;
      }
    }
    return this.#direct ?? this.#cached;
  }

  assertUnchanged(): void {
    assertUnchanged(this.#cached, this.file);
  }

  close(): void {
    closeSync(this.#cached);
    if (typeof this.#direct === 'number') closeSync(this.#direct);
  }
}

export function openChunkFile(file: ChunkFile): OpenChunkFile {
  return new OpenChunkFile(file);
}

export interface FillOptions {
  readonly nowNs: () => number;
  /** Past the page cache. */
  readonly direct: boolean;
  /** null: no file is encrypted. */
  readonly decrypt: typeof decryptChunk | null;
}

/**
 * Fills `target` with the plain bytes from `position` on. An encrypted file's position and length
 * are those of whole chunks of the seal. Throws ModelError with file and position.
 */
export function fillChunk(
  source: OpenChunkFile,
  position: number,
  target: Uint8Array,
  { nowNs, direct, decrypt }: FillOptions,
): ChunkTimes {
  const startedNs = nowNs();
  readRange(source, position, target, direct);
  const readNs = nowNs() - startedNs;
  const { sealed } = source.file;
  if (sealed === null) return { readNs, decryptNs: 0 };
  if (decrypt === null) throw new ModelError('wrong-key', `${source.file.name} is encrypted`);
  const { key, index, file } = sealed;
  for (let done = 0; done < target.length; done += key.chunkBytes) {
    const chunk = target.subarray(done, done + key.chunkBytes);
    decrypt(key, file, index, (position + done) / key.chunkBytes, chunk, chunk);
  }
  return { readNs, decryptNs: nowNs() - startedNs - readNs };
}

function readRange(source: OpenChunkFile, position: number, target: Uint8Array, direct: boolean) {
  const { name, bytes } = source.file;
  let isDirect = direct && position % DIRECT_BYTES === 0;
  let done = 0;
  while (done < target.length) {
    const left = target.length - done;
    // Direct reads are whole blocks; the odd end of a file goes through the cache.
    if (left < DIRECT_BYTES || done % DIRECT_BYTES !== 0) isDirect = false;
    const length = isDirect ? left - (left % DIRECT_BYTES) : left;
    let count: number;
    try {
      count = readSync(source.descriptor(isDirect), target, done, length, position + done);
    } catch (error) {
      // Memory that does not lie at a block's boundary.
      if (isDirect && (error as NodeJS.ErrnoException).code === 'EINVAL') {
        isDirect = false;
        continue;
      }
      const { code, message } = unreadable(name, error);
      throw new ModelError(code, `${message} at ${position + done}`, { cause: error });
    }
    if (count === 0) {
      const ends = `ends at ${position + done}, it had ${bytes} bytes when it was opened`;
      throw new ModelError('wrong-size', `${name} was cut short: it ${ends}`);
    }
    done += count;
  }
}
