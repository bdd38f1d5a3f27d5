import { closeSync, openSync, readdirSync, readSync } from 'node:fs';

/** Text, or why there is none. */
export type Reading =
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly reason: string };

/** What is read at most of one file. */
const MAX_BYTES = 2 ** 20;

/** Reads the start of a file; files of /proc have no size to go by. Never throws. */
export function readBounded(path: string): Reading {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, 'r');
    const bytes = Buffer.alloc(MAX_BYTES);
    let used = 0;
    while (used < bytes.length) {
      const count = readSync(descriptor, bytes, used, bytes.length - used, null);
      if (count === 0) break;
      used += count;
    }
    return { ok: true, text: bytes.toString('utf8', 0, used) };
  } catch (error) {
    return { ok: false, reason: `${path}: ${codeOf(error)}` };
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** Names in a folder; empty where it cannot be listed. */
export function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code ?? String(error);
