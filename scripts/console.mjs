// The console as it is served: packages/console/page, from what was compiled. Runs where that is
// older than the compiled files.

import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const folder = join(root, 'packages/console');
const out = join(folder, 'page');
const STYLE = 'style.css';

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
  cpSync(join(folder, 'src/page/index.html'), join(out, 'index.html'));
  const style = readFileSync(join(folder, 'src/page', STYLE), 'utf8');
  writeFileSync(join(out, STYLE), `${await tokensOf(style)}${style}`);
}

/** Those of Open Props that a style names, of more than a thousand. */
async function tokensOf(style) {
  const { default: tokens } = await import('open-props');
  const named = new Set(style.match(/(?<=var\()--[a-z0-9-]+/gi));
  const used = [...named].filter((name) => name in tokens);
  const own = new Set(style.match(/--[a-z0-9-]+(?=:)/gi));
  const unknown = [...named].filter((name) => !(name in tokens || own.has(name)));
  if (unknown.length > 0) throw new Error(`style.css names what is not: ${unknown.join(', ')}`);
  return `:root{${used.map((name) => `${name}:${tokens[name]}`).join(';')}}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url) && !isCurrent()) await buildConsole();
