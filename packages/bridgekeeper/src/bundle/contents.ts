import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BundleError } from './errors.ts';

/** Something to pack: a file of this machine, a text made here, or a symbolic link. */
export type BundleItem =
  | { readonly path: string; readonly from: string; readonly executable: boolean }
  | { readonly path: string; readonly text: string; readonly executable: boolean }
  | { readonly path: string; readonly link: string };

/** What ships from the repository's root, and what from each package. */
const fromRoot = ['CHANGELOG.md', 'LICENSE', 'README.md', 'models/storyteller'];
const fromPackage = [
  ...[
    'README.md',
    'package.json',
    'dist',
    'bin',
    'configs',
    'data',
    'profiles',
    'reference',
    'schema',
  ],
  ...['kernels', 'compiled', 'algorithms', 'page'],
];
const forDevelopersOnly = /\.(?:test\.js|d\.ts|map|tsbuildinfo)$/;

/** Of a dependency ships what Node can load, except its tests, and its licence. */
const loadable = /^(?!tests?\/|benchmarks\/|examples\/).*\.(?:js|cjs|mjs|json|node|wasm)$/;
/** Native code of any other system, which some packages bring along for all of them. */
const foreign = new RegExp(`^prebuilds/(?!${process.platform}-${process.arch}/)`);
const licence = /^(?:licen[cs]e|notice|copying|copyright)/i;

/** Uses the shell alone, so that it runs with an empty PATH; a link to it needs readlink. */
const launcher = `#!/bin/sh
self=$0
if [ -h "$self" ]; then
  self=$(readlink -f -- "$self") || {
    echo 'bridgekeeper: without readlink, call it by its real path' >&2
    exit 1
  }
fi
case $self in */*) bin=\${self%/*} ;; *) bin=. ;; esac
exec "$bin/node" "$bin/../packages/bridgekeeper/bin/bridgekeeper.mjs" "$@"
`;

/** An entry of package-lock.json. */
interface Locked {
  readonly version?: string;
  readonly license?: string;
  readonly resolved?: string;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly optional?: boolean;
}

/**
 * Everything that goes into a bundle of the repository at `root` with the Node at `node`, sorted by
 * path. Throws `BundleError` when the repository is not built or its dependencies are missing.
 */
export function bundleItems(root: string, node: string): BundleItem[] {
  const locked = readLock(root);
  const items = [
    ...runtimeItems(node),
    ...ownItems(root),
    ...workspaceLinks(locked),
    ...dependencyItems(root, locked),
  ];
  return items.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function runtimeItems(node: string): BundleItem[] {
  // The distribution's own, its packages' (Debian, npm), or beside a home-made one.
  const prefix = dirname(dirname(node));
  const licences = ['LICENSE', 'share/doc/nodejs/LICENSE', 'share/doc/node/LICENSE'];
  const found = licences.map((name) => join(prefix, name)).find((path) => existsSync(path));
  if (found === undefined) {
    throw new BundleError('bad-node', `no LICENSE under ${prefix}, and Node may not ship without`);
  }
  return [
    { path: 'bin/bridgekeeper', text: launcher, executable: true },
    { path: 'bin/node', from: node, executable: true },
    { path: 'licenses/node.txt', from: found, executable: false },
  ];
}

function ownItems(root: string): BundleItem[] {
  const packages = readdirSync(join(root, 'packages')).map((name) => `packages/${name}`);
  for (const folder of packages) {
    if (existsSync(join(root, folder, 'dist/.tsbuildinfo'))) continue;
    throw new BundleError('not-built', `${folder} is not built: run npm run build`);
  }
  const starts = packages.flatMap((folder) => fromPackage.map((name) => `${folder}/${name}`));
  return [...fromRoot, ...starts]
    .flatMap((start) => filesUnder(root, start))
    .filter((path) => !forDevelopersOnly.test(path))
    .map((path) => ({ path, from: join(root, path), executable: false }));
}

/** Node finds a package of ours by its name through these, as npm lays them out. */
function workspaceLinks(locked: ReadonlyMap<string, Locked>): BundleItem[] {
  return [...locked].flatMap(([path, { link, resolved = '' }]): BundleItem[] => {
    if (link !== true) return [];
    const up = '../'.repeat(path.split('/').length - 1);
    return [{ path, link: `${up}${resolved}` }];
  });
}

function dependencyItems(root: string, locked: ReadonlyMap<string, Locked>): BundleItem[] {
  const items: BundleItem[] = [];
  const index: string[] = [];
  for (const [path, { version, license, link, dev, optional }] of locked) {
    if (!path.includes('node_modules/') || link === true || dev === true) continue;
    if (!existsSync(join(root, path))) {
      // Optional packages hold binaries, one for each platform: npm installs the one that fits.
      if (optional === true) continue;
      throw new BundleError('not-installed', `${path} is missing: run npm ci`);
    }
    const names = filesUnder(root, path).filter((file) => {
      const inner = file.slice(path.length + 1);
      if (inner.includes('node_modules/') || foreign.test(inner)) return false;
      return loadable.test(inner) || licence.test(inner);
    });
    items.push(...names.map((name) => ({ path: name, from: join(root, name), executable: false })));
    const texts = names.filter((name) => licence.test(name.slice(path.length + 1)));
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const terms = texts.length > 0 ? texts.join(', ') : 'no licence file in the package';
    index.push(`${name} ${version}: ${license} (${terms})\n`);
  }
  const text = `Node.js: see node.txt\n${index.join('')}`;
  items.push({ path: 'licenses/third-party.txt', text, executable: false });
  return items;
}

/**
 * The paths, relative to `root`, of a file or of all files under a folder; none if it is absent.
 */
function filesUnder(root: string, start: string): string[] {
  const full = join(root, start);
  if (!existsSync(full)) return [];
  if (!statSync(full).isDirectory()) return [start];
  // Not by `recursive`, which follows symbolic links in Node 24 and does not in Node 20.
  return readdirSync(full, { withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory()) return filesUnder(root, `${start}/${entry.name}`);
    return entry.isFile() ? [`${start}/${entry.name}`] : [];
  });
}

function readLock(root: string): Map<string, Locked> {
  const text = readFileSync(join(root, 'package-lock.json'), 'utf8');
  const { packages } = JSON.parse(text) as { packages: Record<string, Locked> };
  return new Map(Object.entries(packages));
}
