import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  type KernelVariant,
  kernelProgram,
  LIBRARY_INDEX,
  type LibraryFile,
  type LibraryIndex,
  libraryKey,
} from '@bridgekeeper/device/kernels';
import { BundleError } from './errors.ts';

const run = promisify(execFile);
/** The run-time compiler's own; nvcc is told by the sources. */
const NOT_FOR_NVCC = /^(?:--gpu-architecture=|-default-device$)/;

export interface CompileOptions {
  readonly variants: readonly KernelVariant[];
  /** What was compiled before and is still right stays; the rest of the folder goes. */
  readonly folder: string;
  readonly nvcc: string;
  progress(line: string): void;
}

/** What nvcc calls itself, as `nvcc 13.0.88`; null: there is none. */
export async function compilerName(nvcc: string): Promise<string | null> {
  try {
    const { stdout } = await run(nvcc, ['--version']);
    const version = /\bV(\d+(?:\.\d+)+)/.exec(stdout)?.[1];
    return version === undefined ? null : `nvcc ${version}`;
  } catch {
    return null;
  }
}

/**
 * Compiles kernels for every GPU of their targets into a folder that `KernelLibrary` reads. Throws
 * BundleError `no-compiler`, or `bad-kernel` with the compiler's log.
 */
export async function compileKernels(options: CompileOptions): Promise<LibraryIndex> {
  const { folder, nvcc, progress } = options;
  const compiler = await compilerName(nvcc);
  if (compiler === null) throw new BundleError('no-compiler', `${nvcc} cannot be run`);
  await mkdir(folder, { recursive: true });
  const before = readIndex(folder);
  const known = before.compiler === compiler ? before.files : {};
  const files: Record<string, LibraryFile> = {};
  const absent: (readonly [key: string, variant: KernelVariant])[] = [];
  for (const variant of options.variants) {
    const key = libraryKey(programOf(variant));
    const file = known[key];
    const isSame = file !== undefined && file.targets.join() === variant.targets.join();
    if (isSame && isWhole(folder, key, file)) files[key] = file;
    else absent.push([key, variant]);
  }
  // Until all are there, the index lists those that are: a run that was stopped goes on later.
  writeIndex(folder, compiler, files);
  if (absent.length > 0) {
    progress(`compiling ${absent.length} of ${options.variants.length} kernels with ${compiler}`);
    await compileAll(absent, options, (key, file, done) => {
      files[key] = file;
      writeIndex(folder, compiler, files);
      if (done % 10 === 0) progress(`${done} of ${absent.length} kernels`);
    });
  }
  for (const name of await readdir(folder)) {
    const isListed = name === LIBRARY_INDEX || name.replace(/\.fatbin$/, '') in files;
    if (!isListed) await rm(join(folder, name));
  }
  return { compiler, files };
}

async function compileAll(
  absent: readonly (readonly [key: string, variant: KernelVariant])[],
  { folder, nvcc }: CompileOptions,
  add: (key: string, file: LibraryFile, done: number) => void,
): Promise<void> {
  const queue = [...absent];
  let done = 0;
  const work = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [key, variant] = next;
      const code = await compile(variant, nvcc);
      await writeFile(join(folder, `${key}.partial`), code);
      await rename(join(folder, `${key}.partial`), join(folder, `${key}.fatbin`));
      const { unit, targets } = variant;
      done += 1;
      add(key, { unit, targets, bytes: code.length, sha256: sha256(code) }, done);
    }
  };
  try {
    await Promise.all(Array.from({ length: availableParallelism() }, work));
  } finally {
    // One that failed ends the others.
    queue.length = 0;
  }
}

/** The targets' machine code in one file. */
async function compile(variant: KernelVariant, nvcc: string): Promise<Buffer> {
  const { name, source, headers, options } = programOf(variant);
  const scratch = await mkdtemp(join(tmpdir(), 'kernels-'));
  try {
    for (const [file, text] of Object.entries({ ...headers, [name]: source })) {
      await writeFile(join(scratch, file), text);
    }
    const targets = variant.targets.map((target) => {
      const virtual = target.replace(/^sm_/, 'compute_');
      return `-gencode=arch=${virtual},code=${target}`;
    });
    const flags = options.filter((option) => !NOT_FOR_NVCC.test(option));
    const out = 'out.fatbin';
    await run(nvcc, ['--fatbin', ...targets, ...flags, '-o', out, name], { cwd: scratch });
    return await readFile(join(scratch, out));
  } catch (cause) {
    const { stderr = String(cause) } = cause as { stderr?: string };
    const what = `${name} for ${variant.targets.join(', ')} ${JSON.stringify(variant.defines)}`;
    throw new BundleError('bad-kernel', `${what} did not compile:\n${stderr}`);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The architecture is no part of what is compiled for several. */
function programOf({ unit, defines }: KernelVariant) {
  return kernelProgram(unit, 'any', defines);
}

function readIndex(folder: string): LibraryIndex {
  try {
    return JSON.parse(readFileSync(join(folder, LIBRARY_INDEX), 'utf8')) as LibraryIndex;
  } catch {
    return { compiler: 'none', files: {} };
  }
}

function writeIndex(folder: string, compiler: string, files: LibraryIndex['files']): void {
  const sorted = Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1));
  const index: LibraryIndex = { compiler, files: Object.fromEntries(sorted) };
  writeFileSync(join(folder, LIBRARY_INDEX), `${JSON.stringify(index, null, 1)}\n`);
}

function isWhole(folder: string, key: string, file: LibraryFile): boolean {
  const path = join(folder, `${key}.fatbin`);
  return existsSync(path) && sha256(readFileSync(path)) === file.sha256;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
