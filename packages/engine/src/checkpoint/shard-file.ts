import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { ModelError } from '../models/errors.ts';
import { fileSize, unreadable } from '../models/files.ts';
import { chunkSpan, sealedFile } from '../seal/chunks.ts';
import type { OpenedSeal } from '../seal/open.ts';
import { openChunk } from '../seal/small-files.ts';
import type { ChunkFile } from './chunk-file.ts';

/** Where the plain bytes of a file come from. */
export interface RangeSource {
  /** Fills `target` from `position` on. Throws ModelError when the file ends before. */
  read(position: number, target: Uint8Array): Promise<void>;
}

/** A file of weights that is open for its header and scales; its bulk is read chunk by chunk. */
export class ShardFile implements RangeSource {
  readonly name: string;
  readonly bytes: number;
  /** For whoever reads its chunks. */
  readonly chunkFile: ChunkFile;
  readonly #handle: FileHandle;
  readonly #sealed: SealedRanges | null;

  private constructor(handle: FileHandle, chunkFile: ChunkFile, seal: OpenedSeal | null) {
    this.#handle = handle;
    this.name = chunkFile.name;
    this.bytes = chunkFile.bytes;
    this.chunkFile = chunkFile;
    this.#sealed = seal === null ? null : new SealedRanges(handle, chunkFile, seal);
  }

  /** Throws ModelError: `missing-file`, `unreadable`, `seal-mismatch`. */
  static async open(folder: string, name: string, seal: OpenedSeal | null): Promise<ShardFile> {
    const path = join(folder, name);
    if ((await fileSize(path, name)) === undefined) {
      throw new ModelError('missing-file', `${name} is missing from ${folder}`);
    }
    let handle: FileHandle;
    try {
      handle = await open(path, 'r');
    } catch (error) {
      throw unreadable(name, error);
    }
    try {
      const { size, mtimeNs } = await handle.stat({ bigint: true });
      const bytes = Number(size);
      const sealed = sealedPart(seal, name, bytes);
      const chunkFile = { path, name, bytes, changedNs: String(mtimeNs), sealed };
      return new ShardFile(handle, chunkFile, seal);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async read(position: number, target: Uint8Array): Promise<void> {
    if (this.#sealed !== null) await this.#sealed.read(position, target);
    else await readInto(this.#handle, target, position, this.name);
  }

  /** Throws ModelError `inconsistent` when the file was written to since it was opened. */
  async assertUnchanged(): Promise<void> {
    const { size, mtimeNs } = await this.#handle.stat({ bigint: true });
    if (Number(size) === this.bytes && String(mtimeNs) === this.chunkFile.changedNs) return;
    const message = `${this.name} changed while it was being read: start again with a whole copy`;
    throw new ModelError('inconsistent', message);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

function sealedPart(seal: OpenedSeal | null, name: string, bytes: number): ChunkFile['sealed'] {
  if (seal === null) return null;
  const { index, file } = sealedFile(seal.seal, name);
  if (file.bytes !== bytes) {
    const message = `${name} has ${bytes} bytes, ${file.bytes} were sealed`;
    throw new ModelError('seal-mismatch', message);
  }
  return seal.key === null ? null : { key: seal.key, index, file };
}

/** Reads ranges of a sealed file: nothing of a chunk is handed out before all of it was checked. */
class SealedRanges {
  readonly #handle: FileHandle;
  readonly #file: ChunkFile;
  readonly #seal: OpenedSeal;
  readonly #index: number;
  #lastChunk = -1;
  #plain = new Uint8Array(0);

  constructor(handle: FileHandle, file: ChunkFile, seal: OpenedSeal) {
    this.#handle = handle;
    this.#file = file;
    this.#seal = seal;
    this.#index = sealedFile(seal.seal, file.name).index;
  }

  async read(position: number, target: Uint8Array): Promise<void> {
    const { chunkBytes } = this.#seal.seal;
    const { name, bytes } = this.#file;
    if (position + target.length > bytes) {
      throw new ModelError('wrong-size', `${name} ended at byte ${bytes} while read`);
    }
    let done = 0;
    while (done < target.length) {
      const chunk = Math.floor((position + done) / chunkBytes);
      await this.#open(chunk);
      const within = position + done - chunk * chunkBytes;
      const part = this.#plain.subarray(within, within + target.length - done);
      target.set(part, done);
      done += part.length;
    }
  }

  async #open(chunk: number): Promise<void> {
    if (this.#lastChunk === chunk) return;
    this.#lastChunk = -1;
    const span = chunkSpan(this.#seal.seal.chunkBytes, this.#file.bytes, chunk);
    const stored = new Uint8Array(span.bytes);
    await readInto(this.#handle, stored, span.offsetBytes, this.#file.name);
    openChunk(this.#seal, this.#index, chunk, stored, stored);
    this.#plain = stored;
    this.#lastChunk = chunk;
  }
}

/** Fills `target` from `position` of the file. Throws ModelError when the file ends before. */
async function readInto(handle: FileHandle, target: Uint8Array, position: number, file: string) {
  let done = 0;
  while (done < target.length) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(target, done, target.length - done, position + done));
    } catch (error) {
      throw unreadable(file, error);
    }
    if (bytesRead === 0) {
      throw new ModelError('wrong-size', `${file} ended at byte ${position + done} while read`);
    }
    done += bytesRead;
  }
}
