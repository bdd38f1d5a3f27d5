// The console as it is served: packages/console/page, from what was compiled. Runs where that is
// older than the compiled files.

import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const folder = join(root, 'packages/console');
const out = join(folder, 'page');
const STATIC = ['index.html', 'style.css'];

const newest = (path) =>
  Math.max(
    ...readdirSync(path, { recursive: true }).map((name) => statSync(join(path, name)).mtimeMs),
  );

function isCurrent() {
  const built = join(out, 'main.js');
  if (!existsSync(built)) return false;
  const sources = [
    join(folder, 'dist'),
    join(folder, 'src/page'),
    join(root, 'packages/attest/dist'),
  ];
  return statSync(built).mtimeMs >= Math.max(...sources.map(newest));
}

/** Needs a build. */
export async function buildConsole() {
  const { build } = await import('vite');
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  await build({
    configFile: false,
    logLevel: 'silent',
    root,
    base: './',
    build: {
      outDir: out,
      emptyOutDir: false,
      minify: true,
      target: 'es2023',
      modulePreload: false,
      rolldownOptions: {
        input: join(folder, 'dist/page/main.js'),
        preserveEntrySignatures: false,
        output: { entryFileNames: 'main.js', chunkFileNames: '[name].js' },
      },
    },
  });
  for (const name of STATIC) cpSync(join(folder, 'src/page', name), join(out, name));
}

if (process.argv[1] === fileURLToPath(import.meta.url) && !isCurrent()) await buildConsole();
