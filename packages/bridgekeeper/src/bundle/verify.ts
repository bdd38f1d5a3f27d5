import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { z } from 'zod';
import { BundleError } from './errors.ts';
import { type Manifest, manifestDigest } from './manifest.ts';

const MANIFEST = 'bundle.json';
const MANIFEST_BYTES_MAX = 32 * 1024 * 1024;

const hex64 = z.string().regex(/^[0-9a-f]{64}$/);
/** Within the bundle: no part of it leads out. */
const path = z.string().regex(/^(?!\/)(?!(.*\/)?\.\.?(\/|$))[^\\\0]+$/);
const schema = z.strictObject({
  name: z.string(),
  version: z.string(),
  commit: z.string().nullable(),
  node: z.string(),
  platform: z.string(),
  files: z.array(
    z.union([
      z.strictObject({ path, bytes: z.int().min(0), sha256: hex64 }),
      z.strictObject({ path, link: z.string() }),
    ]),
  ),
  digest: hex64,
});

/**
 * What a publisher puts into a transparency log for a bundle: text, so that who watches the log can
 * read it. The digest is over the whole manifest, and so over every file.
 */
export function bundleEntry({ name, version, platform, digest }: Manifest): string {
  return `bridgekeeper.bundle/v1\n${name} ${version} ${platform}\nsha256:${digest}\n`;
}

/**
 * Reads the manifest of the unpacked bundle in that folder. Throws BundleError 'unreadable' or
 * 'changed' where its digest is not its own.
 */
export async function readManifest(folder: string): Promise<Manifest> {
  const place = join(folder, MANIFEST);
  let json: unknown;
  try {
    const { size } = await lstat(place);
    if (size > MANIFEST_BYTES_MAX) throw new Error(`it has ${size} bytes`);
    json = JSON.parse(await readFile(place, 'utf8'));
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? 'it is not JSON' : (cause as Error).message;
    throw new BundleError('unreadable', `${place}: ${reason}`, { cause });
  }
  const { success, data, error } = schema.safeParse(json);
  if (!success) {
    const { path: where, message } = error.issues[0]!;
    throw new BundleError('unreadable', `${place}: ${where.join('.')}: ${message}`);
  }
  const digest = manifestDigest(data);
  if (digest === data.digest) return data;
  throw new BundleError('changed', `${place} has the digest ${digest}, and says ${data.digest}`);
}

/**
 * Holds every file in the folder to the manifest, which must name all of them. Throws BundleError
 * 'changed' for the first that differs, is missing or is too many.
 */
export async function verifyFiles(folder: string, { files }: Manifest): Promise<void> {
  const listed = new Map(files.map((file) => [file.path, file]));
  const differs = (name: string, why: string) =>
    new BundleError('changed', `${join(folder, name)} ${why}`);
  if (listed.size !== files.length) throw differs(MANIFEST, 'names a file twice');
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    const name = relative(folder, join(entry.parentPath, entry.name)).split(sep).join('/');
    if (entry.isDirectory() || name === MANIFEST) continue;
    const file = listed.get(name);
    if (file === undefined) throw differs(name, 'is not in the manifest');
    listed.delete(name);
    const place = join(folder, name);
    if ('link' in file) {
      const isLink = entry.isSymbolicLink() && (await readlink(place)) === file.link;
      if (!isLink) throw differs(name, `is not a link to ${file.link}`);
    } else {
      const isSame = entry.isFile() && (await hashOf(place)) === file.sha256;
      if (!isSame) throw differs(name, 'is not the file that the manifest has');
    }
  }
  for (const name of listed.keys()) throw differs(name, 'is missing');
}

async function hashOf(place: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(place)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}
