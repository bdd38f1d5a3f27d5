import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Program } from '@bridgekeeper/native';

/** Where kernels lie that were compiled when the product was packed; `npm run bundle` fills it. */
export const LIBRARY_FOLDER = fileURLToPath(new URL('../../../compiled/', import.meta.url));
export const LIBRARY_INDEX = 'library.json';
/** Newer GPUs can translate this themselves. */
export const PORTABLE_TARGET = 'compute_90';
const PORTABLE_LEAST = 90;
const ARCHITECTURE = '--gpu-architecture=';

/** A compiled program: one file with machine code for each of its targets. */
export interface LibraryFile {
  readonly unit: string;
  /** Machine code as `sm_90a`, and what newer GPUs translate as `compute_90`. */
  readonly targets: readonly string[];
  readonly bytes: number;
  readonly sha256: string;
}

export interface LibraryIndex {
  /** As it names itself: `nvcc 13.0.88`. */
  readonly compiler: string;
  /** By `libraryKey`; a file's name is its key with `.fatbin`. */
  readonly files: Readonly<Record<string, LibraryFile>>;
}

/** Names everything that decides what a program does, for every architecture alike. */
export function libraryKey({ name, source, headers, options }: Program): string {
  const hash = createHash('sha256');
  const parts = [
    name,
    source,
    ...options.filter((option) => !option.startsWith(ARCHITECTURE)),
    ...Object.entries(headers)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flat(),
  ];
  // Lengths keep the boundaries between parts from moving.
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest('hex');
}

/**
 * Kernels that were compiled when the product was packed, for the sources that it has: a source
 * that was changed since has another key. A file that is not what the index says is refused.
 */
export class KernelLibrary {
  readonly #folder: string;
  readonly #index: LibraryIndex;
  readonly #refused = new Set<string>();

  constructor(folder: string = LIBRARY_FOLDER) {
    this.#folder = folder;
    this.#index = this.#readIndex();
  }

  get compiler(): string {
    return this.#index.compiler;
  }

  /** Files that were refused. */
  get refused(): readonly string[] {
    return [...this.#refused];
  }

  /** The program for an architecture such as `sm_90a`; null: it is not here. */
  read(program: Program, architecture: string): Uint8Array | null {
    return this.#read(program, (targets) => targets.includes(architecture));
  }

  /** What the driver of a newer GPU can translate, which takes it a while; null: it is not here. */
  readPortable(program: Program, architecture: string): Uint8Array | null {
    const isNewer = Number.parseInt(architecture.slice('sm_'.length), 10) >= PORTABLE_LEAST;
    return this.#read(program, (targets) => isNewer && targets.includes(PORTABLE_TARGET));
  }

  #read(program: Program, fits: (targets: readonly string[]) => boolean): Uint8Array | null {
    const key = libraryKey(program);
    const file = this.#index.files[key];
    if (file === undefined || !fits(file.targets)) return null;
    const path = join(this.#folder, `${key}.fatbin`);
    const code = contentOf(path);
    if (code !== null && sha256(code) === file.sha256) return code;
    this.#refused.add(path);
    return null;
  }

  #readIndex(): LibraryIndex {
    const none = { compiler: 'none', files: {} };
    const path = join(this.#folder, LIBRARY_INDEX);
    const text = contentOf(path);
    if (text === null) return none;
    try {
      return JSON.parse(text.toString('utf8')) as LibraryIndex;
    } catch {
      this.#refused.add(path);
      return none;
    }
  }
}

function contentOf(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch {
    return null;
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
