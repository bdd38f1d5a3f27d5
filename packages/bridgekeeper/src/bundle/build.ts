import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type BundleItem, bundleItems } from './contents.ts';
import { BundleError } from './errors.ts';
import { type ManifestFile, sealManifest } from './manifest.ts';
import { type TarEntry, writeTar } from './tar.ts';

export interface BundleOptions {
  /** The repository, built and with its dependencies installed. An absolute path. */
  readonly root: string;
  /** The folder that the archive is written to. It is made if need be. */
  readonly outFolder: string;
  /** gzip's, from 1 (quick) to 9 (small). */
  readonly gzipLevel: number;
  /** Told now and then, for people to read. */
  progress(line: string): void;
}

/** The archive that was written. */
export interface Bundle {
  readonly path: string;
  readonly bytes: number;
  /** Of the archive, in lower-case hex. */
  readonly sha256: string;
  /** Of the manifest; what `bridgekeeper version --json` reports when run from the bundle. */
  readonly digest: string;
}

/**
 * Packs the application, its production dependencies and the Node that runs this into one .tar.gz.
 * The same commit, Node and gzip level give the same bytes. Throws `BundleError`.
 */
export async function buildBundle(options: BundleOptions): Promise<Bundle> {
  const { root, outFolder, gzipLevel, progress } = options;
  requirePortableNode();
  const manifestPath = join(root, 'packages/bridgekeeper/package.json');
  const { version } = JSON.parse(readFileSync(manifestPath, 'utf8')) as { version: string };
  const platform = `${process.platform}-${process.arch}`;
  const name = `bridgekeeper-${version}-${platform}`;

  let items = bundleItems(root, process.execPath);
  for (const stale of await findStale()) {
    // The bundle does without: it is the same, and slower.
    progress(`${stale} is old and left out: npm run build makes it`);
    items = items.filter(({ path }) => !path.startsWith(stale));
  }
  const files: ManifestFile[] = [];
  for (const item of items) files.push(await describe(item));
  const totalBytes = files.reduce((sum, file) => sum + ('bytes' in file ? file.bytes : 0), 0);
  progress(`${files.length} files, ${megabytes(totalBytes)}; compressing`);
  const node = process.versions.node;
  const commit = readCommit(root);
  const manifest = sealManifest({ name: 'bridgekeeper', version, commit, node, platform, files });

  const entries = items.map((item, index) => tarEntry(name, item, files[index]));
  const text = `${JSON.stringify(manifest, null, 2)}\n`;
  entries.push(tarEntry(name, { path: 'bundle.json', text, executable: false }));
  await mkdir(outFolder, { recursive: true });
  const path = join(outFolder, `${name}.tar.gz`);
  const { bytes, sha256 } = await writeArchive(path, entries, gzipLevel);
  progress(`${path}: ${megabytes(bytes)}`);
  return { path, bytes, sha256, digest: manifest.digest };
}

/** What is made of compiled modules and is older than they are. */
async function findStale(): Promise<string[]> {
  const module = new URL('../../bin/current.mjs', import.meta.url);
  const { isCurrent, packed, program } = (await import(module.href)) as {
    readonly packed: URL;
    readonly program: URL;
    isCurrent(made: URL): boolean;
  };
  return Object.entries({ [PROGRAM]: program, [PACKED]: packed })
    .filter(([, made]) => !isCurrent(made))
    .map(([path]) => path);
}

const PROGRAM = 'packages/bridgekeeper/dist/program.mjs';
const PACKED = 'packages/bridgekeeper/dist/packed/';

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** A distribution may split Node into libraries that would stay behind. */
function requirePortableNode(): void {
  const { variables } = process.config as { variables: Record<string, unknown> };
  const shared = Object.keys(variables).filter(
    (key) => /^node_shared(?:_|$)/.test(key) && variables[key] === true,
  );
  if (shared.length === 0) return;
  const message = `${process.execPath} needs libraries of its system (${shared.join(', ')})`;
  throw new BundleError('bad-node', `${message}: use a Node from nodejs.org`);
}

function readBytes(item: Exclude<BundleItem, { link: string }>): AsyncIterable<Uint8Array> {
  return 'from' in item ? createReadStream(item.from) : Readable.from([Buffer.from(item.text)]);
}

async function describe(item: BundleItem): Promise<ManifestFile> {
  if ('link' in item) return { path: item.path, link: item.link };
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of readBytes(item)) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { path: item.path, bytes, sha256: hash.digest('hex') };
}

function tarEntry(folder: string, item: BundleItem, described?: ManifestFile): TarEntry {
  const path = `${folder}/${item.path}`;
  if ('link' in item) return { path, link: item.link };
  const measured = described !== undefined && 'bytes' in described ? described.bytes : undefined;
  const bytes = measured ?? ('text' in item ? Buffer.byteLength(item.text) : 0);
  return { path, bytes, executable: item.executable, read: () => readBytes(item) };
}

/** Under its final name only once it is whole. */
async function writeArchive(
  path: string,
  entries: readonly TarEntry[],
  gzipLevel: number,
): Promise<{ readonly bytes: number; readonly sha256: string }> {
  const partial = `${path}.partial`;
  const hash = createHash('sha256');
  let bytes = 0;
  const gzip = createGzip({ level: gzipLevel });
  const account = async function* (chunks: AsyncIterable<Uint8Array>) {
    for await (const chunk of chunks) {
      hash.update(chunk);
      bytes += chunk.length;
      yield chunk;
    }
  };
  try {
    await pipeline(Readable.from(writeTar(entries)), gzip, account, createWriteStream(partial));
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
  return { bytes, sha256: hash.digest('hex') };
}

/** The commit that is checked out, or null where there is no git or no commit. */
function readCommit(root: string): string | null {
  if (!existsSync(join(root, '.git'))) return null;
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const commit = git('rev-parse', '--verify', 'HEAD').trim();
    return git('status', '--porcelain').trim() === '' ? commit : `${commit}-dirty`;
  } catch {
    return null;
  }
}
