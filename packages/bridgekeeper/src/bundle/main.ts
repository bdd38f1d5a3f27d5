import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildBundle } from './build.ts';

// npm run bundle [-- --json] [-- --out <folder>]: progress on standard error, the result on
// standard output.
const root = fileURLToPath(new URL('../../../..', import.meta.url)).replace(/\/$/, '');
try {
  const { values } = parseArgs({
    options: { json: { type: 'boolean', default: false }, out: { type: 'string' } },
  });
  const bundle = await buildBundle({
    root,
    outFolder: values.out === undefined ? join(root, 'out') : resolve(values.out),
    gzipLevel: 9,
    progress: (line) => void process.stderr.write(`bundle: ${line}\n`),
  });
  const lines = [bundle.path, `sha256 ${bundle.sha256}`, `digest ${bundle.digest}`];
  process.stdout.write(`${values.json ? JSON.stringify(bundle) : lines.join('\n')}\n`);
} catch (error) {
  process.stderr.write(`bundle: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
}
