import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { NativeError } from './errors.ts';

/** A library that running on a GPU needs and the user may not have. */
export interface LibraryWanted {
  /** What the file name starts with: `libnvrtc.so`. */
  readonly file: string;
  /** What it is for and what to install, for the message. */
  readonly hint: string;
}

export const NVRTC_LIBRARY: LibraryWanted = {
  file: 'libnvrtc.so',
  hint: 'it compiles the kernels; install the CUDA toolkit, or `pip install nvidia-cuda-nvrtc`',
};
export const CUBLASLT_LIBRARY: LibraryWanted = {
  file: 'libcublasLt.so',
  hint: 'it multiplies matrices; install the CUDA toolkit, or `pip install nvidia-cublas`',
};

/** Where to look, apart from what the file system holds. */
export interface SearchEnvironment {
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** Roots under which toolkits (`usr/local/cuda*`) lie: `/` outside tests. */
  readonly root: string;
  /** Folders that hold Python packages. Asked for only when nothing nearer has the library. */
  pythonFolders(): readonly string[];
}

export function hostEnvironment(): SearchEnvironment {
  return { variables: process.env, root: '/', pythonFolders: askPython };
}

/**
 * The newest usable copy of a library. `maxMajor` is the CUDA major version that the driver
 * supports: newer copies make code it cannot load. Throws NativeError `library-missing` that lists
 * every folder looked at.
 */
export function findLibrary(
  wanted: LibraryWanted,
  maxMajor: number,
  environment: SearchEnvironment,
): string {
  const looked: string[] = [];
  for (const folders of searchOrder(environment)) {
    for (const folder of folders()) {
      looked.push(folder);
      const found = newestIn(folder, wanted.file, maxMajor);
      if (found !== null) return join(folder, found);
    }
  }
  throw new NativeError(
    'library-missing',
    `${wanted.file} for CUDA ${maxMajor} or older was not found: ${wanted.hint}. ` +
      'Set CUDA_HOME or LD_LIBRARY_PATH when it is elsewhere. ' +
      `Looked in: ${[...new Set(looked)].join(', ')}`,
  );
}

function searchOrder(environment: SearchEnvironment): (() => readonly string[])[] {
  const { variables, root } = environment;
  const listed = (name: string) => (variables[name] ?? '').split(delimiter).filter(Boolean);
  return [
    () => listed('LD_LIBRARY_PATH'),
    () => ['CUDA_HOME', 'CUDA_PATH'].flatMap(listed).flatMap(toolkitFolders),
    () => matching(join(root, 'usr/local'), /^cuda(-|$)/).flatMap(toolkitFolders),
    () => [join(root, 'usr/lib/x86_64-linux-gnu'), join(root, 'usr/lib64')].filter(existsSync),
    () => wheelFolders(nearPythonFolders(environment)),
    () => wheelFolders(environment.pythonFolders()),
  ];
}

function toolkitFolders(home: string): string[] {
  const targets = matching(join(home, 'targets'), /./).map((target) => join(target, 'lib'));
  return [join(home, 'lib64'), join(home, 'lib'), ...targets].filter(existsSync);
}

/** Package folders that variables name, without starting an interpreter. */
function nearPythonFolders({ variables }: SearchEnvironment): string[] {
  const listed = (variables.PYTHONPATH ?? '').split(delimiter).filter(Boolean);
  const environments = [variables.VIRTUAL_ENV, variables.CONDA_PREFIX]
    .filter((folder) => folder !== undefined)
    .flatMap((folder) => matching(join(folder, 'lib'), /^python3/))
    .map((folder) => join(folder, 'site-packages'));
  return [...listed, ...environments];
}

/**
 * Libraries of pip wheels lie in `nvidia/<component>/lib`; from CUDA 13 on all in
 * `nvidia/cu13/lib`.
 */
function wheelFolders(packageFolders: readonly string[]): string[] {
  return packageFolders
    .flatMap((folder) => matching(join(folder, 'nvidia'), /./))
    .map((component) => join(component, 'lib'))
    .filter(existsSync);
}

function askPython(): string[] {
  const script = 'import sys; print("\\n".join(sys.path))';
  try {
    const output = execFileSync('python3', ['-c', script], {
      encoding: 'utf8',
      timeout: 10_000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return output.split('\n').filter(Boolean);
  } catch {
    return [];
  }
}

/** Entries of a folder as paths, newest name first; none when it cannot be read. */
function matching(folder: string, pattern: RegExp): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => pattern.test(name))
      .sort((a, b) => b.localeCompare(a, 'en', { numeric: true }))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}

function newestIn(folder: string, file: string, maxMajor: number): string | null {
  let entries: string[];
  try {
    entries = readdirSync(folder);
  } catch {
    return null;
  }
  const versions = entries
    .filter((name) => name.startsWith(`${file}.`))
    .map((name) => ({ name, major: Number.parseInt(name.slice(file.length + 1), 10) }))
    .filter(({ major }) => major <= maxMajor)
    .sort((a, b) => b.major - a.major || a.name.length - b.name.length);
  return versions[0]?.name ?? null;
}
