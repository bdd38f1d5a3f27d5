import { join } from 'node:path';
import { fileSize } from '../models/files.ts';
import { chunkMismatch, chunkSpan, expectedDigest } from '../seal/chunks.ts';
import type { Seal } from '../seal/manifest.ts';
import { openSeal } from '../seal/open.ts';
import { smallNames } from '../seal/small-files.ts';
import { type ChunkResult, type WorkFile, workThroughChunks } from './chunk-work.ts';
import type { SealProgress } from './make.ts';

export interface VerifyOptions {
  /** The root that the model must have, hex. */
  readonly root?: string | undefined;
  /** The key of an encrypted model, 32 bytes. */
  readonly userKey?: Uint8Array | undefined;
  readonly threads: number;
  readonly onProgress?: (progress: SealProgress) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A difference between a folder and what was sealed. */
export interface SealFault {
  readonly file: string;
  /** Where it lies; null for a file as a whole. */
  readonly chunk: number | null;
  readonly offsetBytes: number | null;
  readonly message: string;
}

/**
 * Compares every byte of the model in `folder` with its manifest; the faults are in the order of
 * files and chunks. Throws ModelError where there is nothing to compare with: no manifest, a broken
 * one, another root or key than the one given.
 */
export async function verifyModel(
  folder: string,
  options: VerifyOptions,
): Promise<{ seal: Seal; faults: SealFault[] }> {
  const { root, userKey, threads, onProgress, signal } = options;
  const { seal, key } = (await openSeal(folder, { mode: 'require', root, userKey }))!;
  const { files, faults } = await presentFiles(folder, seal);
  const bytesTotal = files.reduce((total, { bytes }) => total + bytes, 0);
  let bytesDone = 0;
  await workThroughChunks(
    { task: 'verify', chunkBytes: seal.chunkBytes, key, files },
    {
      threads,
      signal,
      onResult: (result) => {
        const fault = faultOf(seal, files[result.file]!, result);
        if (fault !== undefined) faults.push(fault);
        bytesDone += result.bytes;
        onProgress?.({ bytesDone, bytesTotal });
      },
    },
  );
  faults.sort((a, b) =>
    a.file < b.file ? -1 : a.file > b.file ? 1 : (a.chunk ?? -1) - (b.chunk ?? -1),
  );
  return { seal, faults };
}

function faultOf(seal: Seal, file: WorkFile, result: ChunkResult): SealFault | undefined {
  const { chunk, digest, error } = result;
  if (error === undefined && digest === expectedDigest(seal, file.index, chunk)) return undefined;
  const { message } = error ?? chunkMismatch(seal.chunkBytes, file, chunk);
  const { offsetBytes } = chunkSpan(seal.chunkBytes, file.bytes, chunk);
  return { file: file.name, chunk, offsetBytes, message };
}

/** The sealed files that have their lengths. The others, and unsealed ones, are faults. */
async function presentFiles(folder: string, seal: Seal) {
  const faults: SealFault[] = [];
  const fault = (file: string, message: string): void => {
    faults.push({ file, chunk: null, offsetBytes: null, message });
  };
  const files: WorkFile[] = [];
  for (const [index, sealed] of seal.files.entries()) {
    const { name, bytes } = sealed;
    const path = join(folder, name);
    const found = await fileSize(path, name);
    if (found === bytes) files.push({ index, name, bytes, path, target: null, sealed });
    else if (found === undefined) fault(name, `${name} is sealed, but not in the folder`);
    else fault(name, `${name} has ${found} bytes, ${bytes} were sealed`);
  }
  const sealedNames = new Set(seal.files.map(({ name }) => name));
  for (const name of await smallNames(folder)) {
    if (!sealedNames.has(name)) fault(name, `${name} was not there when the model was sealed`);
  }
  return { files, faults };
}
