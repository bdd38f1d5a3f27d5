import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Program } from '@bridgekeeper/native';

const DIGEST_BYTES = 32;

/** Where compiled kernels are kept unless told otherwise. */
export function defaultKernelCacheFolder(
  variables: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const base = variables.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(base, 'bridgekeeper', 'kernels');
}

/** Names everything that decides a program's machine code. `compiler` is NVRTC's version. */
export function kernelKey(program: Program, compiler: string): string {
  const hash = createHash('sha256');
  const parts = [
    compiler,
    program.name,
    program.source,
    ...program.options,
    ...Object.entries(program.headers).flat(),
  ];
  // Lengths keep the boundaries between parts from moving.
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest('hex');
}

/**
 * Compiled kernels on disk, one file each: the SHA-256 of the machine code, then the code. A file
 * whose digest is wrong counts as absent. A folder that cannot be written costs a compilation at
 * every start and nothing else.
 */
export class KernelCache {
  readonly folder: string | null;

  /** null: there is none, and nothing is kept. */
  constructor(folder: string | null) {
    this.folder = folder;
  }

  read(key: string): Uint8Array | null {
    if (this.folder === null) return null;
    let file: Uint8Array;
    try {
      file = readFileSync(join(this.folder, fileOf(key)));
    } catch {
      return null;
    }
    const code = file.subarray(DIGEST_BYTES);
    const stored = Buffer.from(file.subarray(0, DIGEST_BYTES));
    return code.length > 0 && stored.equals(digest(code)) ? code : null;
  }

  write(key: string, code: Uint8Array): void {
    if (this.folder === null) return;
    replaceFile(join(this.folder, fileOf(key)), Buffer.concat([digest(code), code]));
  }
}

const fileOf = (key: string) => `${key}.cubin`;

/**
 * Writes a file of a cache aside and renames it, so that readers see all or nothing. Where it
 * cannot be written nothing happens.
 */
export function replaceFile(path: string, bytes: Uint8Array): void {
  const aside = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(aside, bytes, { mode: 0o600 });
    renameSync(aside, path);
  } catch {
    discard(aside);
  }
}

function discard(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // Nothing was written where nothing can be.
  }
}

function digest(code: Uint8Array): Buffer {
  return createHash('sha256').update(code).digest();
}
