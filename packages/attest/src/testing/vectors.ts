import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Bytes } from '../core/bytes.ts';

const folder = new URL('../../../../../shared/vectors/', import.meta.url);

/**
 * Whether real evidence lies beside the repository, in `../shared/vectors`; it is not part of it.
 * Says what is not tested where it does not.
 */
export function hasVectors(what: string): boolean {
  if (existsSync(folder)) return true;
  process.stderr.write(`Not tested, as ../shared/vectors is not there: ${what}.\n`);
  return false;
}

/** A vector by its path under the folder. */
export function readVector(path: string): Bytes {
  return new Uint8Array(readFileSync(vectorPath(path)));
}

/** Where it lies. */
export function vectorPath(path: string): string {
  return fileURLToPath(new URL(path, folder));
}
