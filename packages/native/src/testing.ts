import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export { CUBLASLT_SIGNATURES } from './cublaslt.ts';
export { DRIVER_SIGNATURES } from './driver.ts';
export { openNativeLibrary } from './library.ts';

/** Whether libraries of C can be compiled here, to stand for NVIDIA's in tests. */
export const hasCompiler = spawnSync('cc', ['--version']).status === 0;

/** By source: tests want the same library in many folders, each for what it keeps there. */
const compiled = new Map<string, Buffer>();

/** Compiles C to a shared library in `folder`, and returns its path. */
export function compileLibrary(
  folder: string,
  name: string,
  source: string,
  ending = '.so',
): string {
  const path = join(folder, `lib${name}${ending}`);
  const known = compiled.get(source);
  if (known !== undefined) {
    writeFileSync(path, known);
    return path;
  }
  const file = join(folder, `${name}.c`);
  writeFileSync(file, source);
  const result = spawnSync('cc', ['-shared', '-fPIC', '-w', '-o', path, file], {
    encoding: 'utf8',
  });
  if (result.status !== 0) throw new Error(result.stderr);
  compiled.set(source, readFileSync(path));
  return path;
}
