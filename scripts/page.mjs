// npm run page [-- --out <folder>]: the verifier for browsers, as one page and as one module.
//
//   bridgekeeper-verify.html   everything inline, by a strict content security policy
//   bridgekeeper-attest.js     the public surface of @bridgekeeper/attest

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'vite';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const attest = join(root, 'packages/attest');

/** One module for browsers, with nothing left to import. */
async function bundle(entry) {
  const [built] = await build({
    configFile: false,
    logLevel: 'silent',
    root,
    build: {
      write: false,
      minify: true,
      lib: { entry: join(attest, 'dist', entry), formats: ['es'], fileName: 'module' },
      rolldownOptions: { output: { codeSplitting: false } },
    },
  });
  const [chunk, ...others] = built.output;
  const imports = [...chunk.imports, ...chunk.dynamicImports].filter(
    (name) => name !== chunk.fileName,
  );
  if (others.length + imports.length > 0) {
    throw new Error(`${entry} does not fit into one module: it needs ${imports.join(', ')}`);
  }
  return chunk.code;
}

const hashOf = (text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** The texts of both files. Needs a build. */
export async function buildPage() {
  const read = (name) => readFileSync(join(attest, 'src/page', name), 'utf8');
  // What ends a script in HTML may be in a string of it, where a backslash changes nothing.
  const script = (await bundle('page/main.js')).replaceAll('</script', '<\\/script');
  const style = read('page.css');
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(script)}`,
    `style-src ${hashOf(style)}`,
    'img-src data:',
    'connect-src https: http://localhost:* http://127.0.0.1:*',
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ');
  const parts = { policy, style, script };
  const html = read('page.html').replace(/\/\*(\w+)\*\//g, (_, name) => parts[name]);
  return { html, library: await bundle('index.js') };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { out: { type: 'string', default: join(root, 'out') } },
  });
  const { html, library } = await buildPage();
  mkdirSync(values.out, { recursive: true });
  for (const [name, text] of [
    ['bridgekeeper-verify.html', html],
    ['bridgekeeper-attest.js', library],
  ]) {
    const path = join(values.out, name);
    writeFileSync(path, text);
    const sha256 = createHash('sha256').update(text).digest('hex');
    process.stdout.write(`${sha256}  ${path} (${text.length} characters)\n`);
  }
}
