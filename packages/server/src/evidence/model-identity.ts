import { createHash } from 'node:crypto';
import { type FileHandle, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalBytes } from '@bridgekeeper/attest/canonical';

/** Which model is served. */
export interface ModelIdentity {
  readonly sha256: string | null;
  /** `manifest`: every byte of it. `headers`: see `digestHeaders`. */
  readonly covers: 'manifest' | 'headers' | null;
}

/** Larger settings are none, and larger headers no header. */
const SETTINGS_BYTES_MAX = 64 * 2 ** 20;
const HEADER_BYTES_MAX = 128 * 2 ** 20;

const IS_SETTINGS = /\.(?:json|jinja|txt|model)$/;
const IS_WEIGHTS = /\.safetensors$/;

/**
 * SHA-256, in hex, of the canonical JSON of `[{path, bytes, sha256}, ...]` over a model folder's
 * settings and tokenizers (whole) and weight files (their headers: names, shapes, types), sorted by
 * path. It tells models apart, but not two versions of a model's weights. null: it has no such
 * files, or they cannot be read.
 */
export async function digestHeaders(folder: string): Promise<string | null> {
  try {
    const names = (await readdir(folder)).filter(
      (name) => IS_SETTINGS.test(name) || IS_WEIGHTS.test(name),
    );
    const files: object[] = [];
    for (const name of names.sort()) files.push(await describe(folder, name));
    return files.length === 0 ? null : sha256(canonicalBytes(files));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== undefined) return null;
    throw error;
  }
}

async function describe(folder: string, name: string): Promise<object> {
  const file = await open(join(folder, name));
  try {
    const { size } = await file.stat();
    const part = IS_WEIGHTS.test(name) ? await readHeader(file) : await readSettings(file, size);
    return { path: name, bytes: size, sha256: part === null ? null : sha256(part) };
  } finally {
    await file.close();
  }
}

async function readSettings(file: FileHandle, size: number): Promise<Uint8Array | null> {
  return size > SETTINGS_BYTES_MAX ? null : readFile(file);
}

/** A safetensors file begins with the length of its JSON header in 8 bytes. */
async function readHeader(file: FileHandle): Promise<Uint8Array | null> {
  const prefix = Buffer.alloc(8);
  const { bytesRead } = await file.read(prefix, 0, 8, 0);
  const length = bytesRead === 8 ? prefix.readBigUInt64LE() : 0n;
  if (length === 0n || length > HEADER_BYTES_MAX) return null;
  const header = Buffer.alloc(Number(length));
  const read = await file.read(header, 0, header.length, 8);
  return read.bytesRead === header.length ? header : null;
}

function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
