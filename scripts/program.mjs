// What was compiled, in fewer files: opening and linking some seven hundred modules is most of what
// a start costs. `bin/bridgekeeper.mjs` takes either where it is not older than a build:
//
//   dist/program.mjs  the commands that load little, in one file
//   dist/packed/      all commands and their threads, in as few files as share what they load

import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isCurrent, packed, program } from '../packages/bridgekeeper/bin/current.mjs';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const packages = join(root, 'packages');
const dist = join(packages, 'bridgekeeper/dist');

/** Of both: as Node resolves packages, not as browsers do, and legible. */
const common = {
  configFile: false,
  logLevel: 'silent',
  root,
  ssr: { noExternal: true, target: 'node' },
};

/** What stays in modules of its own: the machine's, the server's, and the other commands. */
const outside =
  /^node:|^@bridgekeeper\/(?:server|native|bridge|device|engine|bench|doctor|probe|fabric)$/;
const inside = /\/(?:measure|verify|verify-bundle|version)\.js$/;
const staysOutside = (id, importer) =>
  outside.test(id) || (importer?.endsWith('/cli/commands.js') && !inside.test(id));

/** Writes program.mjs. Needs a build. */
export async function buildProgram(outDir = dist) {
  const { build } = await import('vite');
  await build({
    ...common,
    build: {
      ssr: join(dist, 'main.js'),
      target: 'node20',
      outDir,
      emptyOutDir: false,
      minify: false,
      rolldownOptions: {
        external: staysOutside,
        output: { entryFileNames: 'program.mjs', codeSplitting: false },
      },
    },
  });
}

/** Dependencies with native code, or that look for files beside their own. */
const asInstalled = [
  '@anush008/tokenizers',
  '@grpc/grpc-js',
  '@grpc/proto-loader',
  '@photostructure/sqlite',
  'koffi',
  'node-sqlite3-wasm',
  'pg',
];
const staysInstalled = (id) =>
  id.startsWith('node:') || asInstalled.some((name) => id === name || id.startsWith(`${name}/`));

/** Where a module names a thread or process that is started from a file beside it. */
const ENTRY = /new URL\('(\.\/[\w-]+\.js)', import\.meta\.url\)/g;

/** The files that are started by themselves, by path, with the names that they get. */
function findEntries() {
  const entries = new Map([[join(dist, 'main.js'), 'main']]);
  for (const name of readdirSync(packages)) {
    const folder = join(packages, name, 'dist');
    for (const file of readdirSync(folder, { recursive: true })) {
      if (!file.endsWith('.js') || /\.test\.js$|(?:^|\/)testing\//.test(file)) continue;
      const path = join(folder, file);
      for (const [, entry] of readFileSync(path, 'utf8').matchAll(ENTRY)) {
        const target = resolve(dirname(path), entry);
        const within = relative(folder, target).replace(/\.js$/, '').split(sep).join('-');
        if (existsSync(target)) entries.set(target, `${name}-${within}`);
      }
    }
  }
  return entries;
}

/**
 * Modules find files by where they are: so that they still do, each says where it was, and names
 * the threads that it starts by where those are now.
 */
function keepPlaces(entries, outDir) {
  const placed = (path) => `new URL('${path}', import.meta.url)`;
  return {
    name: 'keep-places',
    enforce: 'pre',
    transform(code, id) {
      if (!id.startsWith(packages) || !code.includes('import.meta.url')) return null;
      const here = `${placed(relative(outDir, id))}.href`;
      const parts = code.split(ENTRY);
      let moved = parts[0].replaceAll('import.meta.url', here);
      for (let at = 1; at < parts.length; at += 2) {
        const entry = entries.get(resolve(dirname(id), parts[at]));
        moved +=
          entry === undefined ? `new URL('${parts[at]}', ${here})` : placed(`./${entry}.mjs`);
        moved += parts[at + 1].replaceAll('import.meta.url', here);
      }
      return { code: moved, map: null };
    },
  };
}

/** Writes packed/, which is there once it is whole. Needs a build. */
export async function buildPacked(outDir = join(dist, 'packed')) {
  const { build } = await import('vite');
  const entries = findEntries();
  const partial = `${outDir}.partial`;
  rmSync(partial, { recursive: true, force: true });
  await build({
    ...common,
    plugins: [keepPlaces(entries, outDir)],
    build: {
      ssr: true,
      target: 'node20',
      outDir: partial,
      emptyOutDir: false,
      minify: false,
      rolldownOptions: {
        input: Object.fromEntries([...entries].map(([path, name]) => [name, path])),
        external: staysInstalled,
        output: { entryFileNames: '[name].mjs', chunkFileNames: 'shared-[name]-[hash].mjs' },
      },
    },
  });
  rmSync(outDir, { recursive: true, force: true });
  renameSync(partial, outDir);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!isCurrent(program)) await buildProgram();
  if (!isCurrent(packed)) await buildPacked();
}
