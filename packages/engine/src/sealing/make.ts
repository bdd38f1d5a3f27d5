import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { invariant } from '@bridgekeeper/bridge';
import { openCheckpoint } from '../checkpoint/checkpoint.ts';
import { ModelError } from '../models/errors.ts';
import { unreadable } from '../models/files.ts';
import { chunkCount } from '../seal/chunks.ts';
import { newEncryption, type SealKey } from '../seal/cipher.ts';
import {
  isChunkSize,
  LEAF_BYTES,
  MAX_CHUNKS,
  parseSeal,
  rootOf,
  type Seal,
  type SealContents,
  type SealedChunk,
  sealText,
} from '../seal/manifest.ts';
import { isSmallName, isWeightName } from '../seal/names.ts';
import { smallNames } from '../seal/small-files.ts';
import { errorOf, workThroughChunks } from './chunk-work.ts';
import { openPlace, type SealPlace } from './place.ts';

/** How far a sealing or its verification is. */
export interface SealProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

export interface SealOptions {
  /** A folder that is made: sealed copies and manifest go there. Default: only a manifest. */
  readonly out?: string | undefined;
  /** 32 bytes: encrypts the copies. */
  readonly userKey?: Uint8Array | undefined;
  /** A multiple of `LEAF_BYTES`. */
  readonly chunkBytes: number;
  readonly threads: number;
  readonly onProgress?: (progress: SealProgress) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A file to seal, as it was when sealing began. */
interface SourceFile {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  readonly modifiedMs: number;
}

/**
 * Seals the model in `folder`: writes a manifest into it, or a folder of sealed copies with their
 * manifest. What is written appears at once and complete, or not at all. Throws ModelError, and the
 * reason of `signal`.
 */
export async function sealModel(folder: string, options: SealOptions): Promise<Seal> {
  const { out, userKey, chunkBytes } = options;
  invariant(isChunkSize(chunkBytes), 'a chunk has a multiple of the bytes of a leaf');
  invariant(userKey === undefined || out !== undefined, 'only copies are encrypted');
  const sources = await sourcesOf(folder, chunkBytes);
  const encrypted = userKey === undefined ? null : newEncryption(userKey, chunkBytes);
  const place = await openPlace(folder, out, sources);
  try {
    const chunks = await digest(sources, place, encrypted?.key ?? null, options);
    for (const source of sources) await checkUnchanged(source);
    const contents: SealContents = {
      chunkBytes,
      leafBytes: LEAF_BYTES,
      files: sources.map(({ name, bytes }, index) => ({ name, bytes, chunks: chunks[index]! })),
      encryption: encrypted?.encryption ?? null,
    };
    const root = rootOf(contents);
    const seal = parseSeal(sealText(contents, root, encrypted?.mac(root) ?? null));
    await place.finish(seal.text);
    return seal;
  } catch (error) {
    await place.discard();
    throw error;
  }
}

/** Everything of the model that loading reads, sorted by name. */
async function sourcesOf(folder: string, chunkBytes: number): Promise<SourceFile[]> {
  const checkpoint = await openCheckpoint(folder);
  await checkpoint.close();
  const names = [...checkpoint.files.map(({ name }) => name), ...(await smallNames(folder))].sort();
  const odd = names.find((name) => !isWeightName(name) && !isSmallName(name));
  if (odd !== undefined) {
    const message = `the name ${JSON.stringify(odd)} has control characters: rename the file`;
    throw new ModelError('unsupported', message);
  }
  const sources = await Promise.all(names.map((name) => sourceOf(folder, name)));
  const chunks = sources.reduce((total, { bytes }) => total + chunkCount(chunkBytes, bytes), 0);
  if (chunks > MAX_CHUNKS) {
    const message = `${chunks} chunks are more than ${MAX_CHUNKS}: seal with larger ones`;
    throw new ModelError('unsupported', message);
  }
  return sources;
}

async function sourceOf(folder: string, name: string): Promise<SourceFile> {
  const path = join(folder, name);
  try {
    const { size, mtimeMs } = await stat(path);
    return { name, path, bytes: size, modifiedMs: mtimeMs };
  } catch (error) {
    throw unreadable(name, error);
  }
}

/** A model that is still being written has no digest. */
async function checkUnchanged({ name, path, bytes, modifiedMs }: SourceFile): Promise<void> {
  const now = await stat(path).catch((error: unknown) => {
    throw unreadable(name, error);
  });
  if (now.size !== bytes || now.mtimeMs !== modifiedMs) {
    throw new ModelError('inconsistent', `${name} changed while it was sealed: seal it again`);
  }
}

/** The chunks of all sources, in their order; the copies are then written. */
async function digest(
  sources: readonly SourceFile[],
  place: SealPlace,
  key: SealKey | null,
  { chunkBytes, threads, onProgress, signal }: SealOptions,
): Promise<SealedChunk[][]> {
  const chunks = sources.map((): SealedChunk[] => []);
  const bytesTotal = sources.reduce((total, { bytes }) => total + bytes, 0);
  let bytesDone = 0;
  const files = sources.map(({ name, path, bytes }, index) => {
    return { index, name, bytes, path, target: place.targetOf(name), sealed: null };
  });
  await workThroughChunks(
    { task: 'seal', chunkBytes, key, files },
    {
      threads,
      signal,
      onResult: (result) => {
        const error = errorOf(result);
        if (error !== undefined) throw error;
        chunks[result.file]![result.chunk] = {
          digest: result.digest!,
          ...(result.tag !== undefined && { tag: result.tag }),
        };
        bytesDone += result.bytes;
        onProgress?.({ bytesDone, bytesTotal });
      },
    },
  );
  return chunks;
}
