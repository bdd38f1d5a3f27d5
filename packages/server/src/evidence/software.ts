import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { canonicalBytes } from '@bridgekeeper/attest/canonical';

/** Which version of the program this is, for people who report something. */
export interface VersionInfo {
  readonly version: string;
  readonly node: string;
  /** The commit a bundle was made from, and the digest of its manifest; null outside a bundle. */
  readonly commit: string | null;
  readonly digest: string | null;
}

/** What this program is, as far as it can tell itself. */
export interface SoftwareIdentity {
  readonly version: string;
  readonly node: string;
  readonly commit: string | null;
  /** The digest of the bundle's manifest; null outside a bundle. */
  readonly bundleSha256: string | null;
  /** See `digestFiles`. */
  readonly filesSha256: string;
}

const PACKAGES = fileURLToPath(new URL('../../../', import.meta.url));

/** What of a package runs: compiled code, kernels, profiles. */
const RUNS = ['bin', 'dist', 'kernels', 'profiles'] as const;
const IS_CODE = /^(?!.*\.test\.js$).*\.(?:m?js|cu|cuh|json)$/;
/** A few milliseconds of reading, between which others have their turn. */
const FILES_AT_ONCE = 32;

/** Adds the digest of what is on the disk now. */
export async function readSoftware(info: VersionInfo): Promise<SoftwareIdentity> {
  const { version, node, commit, digest } = info;
  return { version, node, commit, bundleSha256: digest, filesSha256: await digestFiles(PACKAGES) };
}

/**
 * SHA-256, in hex, of the canonical JSON of `[{path, sha256}, ...]` over the files of the packages
 * under `root` that run, sorted by path, with forward slashes. Dependencies are not among them.
 */
export async function digestFiles(root: string): Promise<string> {
  const packages = await readdir(root, { withFileTypes: true });
  const folders = packages
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => RUNS.map((part) => join(root, name, part)));
  const paths = (await Promise.all(folders.map(filesUnder))).flat();
  const named = paths
    .map((path) => ({ path, name: relative(root, path).split(sep).join('/') }))
    .filter(({ name }) => IS_CODE.test(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const files: { path: string; sha256: string }[] = [];
  for (const [index, { path, name }] of named.entries()) {
    // Thousands of small files: reading each in the background takes several times as long.
    files.push({ path: name, sha256: sha256(readFileSync(path)) });
    if (index % FILES_AT_ONCE === FILES_AT_ONCE - 1) await setImmediate();
  }
  return sha256(canonicalBytes(files));
}

async function filesUnder(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true, recursive: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
