import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { commonVariants, LIBRARY_FOLDER } from '@bridgekeeper/device/kernels';
import { buildBundle } from './build.ts';
import { compileKernels, compilerName } from './compile-kernels.ts';

// npm run bundle [-- --json] [-- --out <folder>] [-- --kernels none]: progress on standard error,
// the result on standard output.
const root = fileURLToPath(new URL('../../../..', import.meta.url)).replace(/\/$/, '');
try {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      out: { type: 'string' },
      kernels: { type: 'string', default: 'auto' },
    },
  });
  const progress = (line: string) => void process.stderr.write(`bundle: ${line}\n`);
  await withKernels(values.kernels, progress);
  const bundle = await buildBundle({
    root,
    outFolder: values.out === undefined ? join(root, 'out') : resolve(values.out),
    gzipLevel: 9,
    progress,
  });
  const lines = [bundle.path, `sha256 ${bundle.sha256}`, `digest ${bundle.digest}`];
  process.stdout.write(`${values.json ? JSON.stringify(bundle) : lines.join('\n')}\n`);
} catch (error) {
  process.stderr.write(`bundle: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
}

/** Compiles the kernels that the bundle brings along; `none` leaves them to the first start. */
async function withKernels(wanted: string, progress: (line: string) => void): Promise<void> {
  if (wanted !== 'auto' && wanted !== 'none') {
    throw Object.assign(new Error(`--kernels ${wanted}: auto or none`), { code: 'ERR_PARSE_ARGS' });
  }
  const nvcc = process.env.NVCC ?? 'nvcc';
  if (wanted === 'none' || (await compilerName(nvcc)) === null) {
    await rm(LIBRARY_FOLDER, { recursive: true, force: true });
    const why = wanted === 'none' ? 'as --kernels none asks' : `as there is no ${nvcc} here`;
    progress(`no kernels are compiled ahead, ${why}: a first start on a GPU compiles them`);
    return;
  }
  await compileKernels({ variants: commonVariants(), folder: LIBRARY_FOLDER, nvcc, progress });
}
