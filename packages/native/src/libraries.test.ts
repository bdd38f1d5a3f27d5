import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NativeError } from './errors.ts';
import {
  CUBLASLT_LIBRARY,
  findLibrary,
  NVRTC_LIBRARY,
  type SearchEnvironment,
} from './libraries.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'libraries-'));
});
afterEach(() => rmSync(root, { recursive: true }));

/** Makes an empty file of that name under the root, and returns its path. */
function place(path: string): string {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, '');
  return full;
}

function environment(
  variables: Record<string, string> = {},
  pythonFolders: readonly string[] = [],
): SearchEnvironment {
  return { variables, root, pythonFolders: () => pythonFolders };
}

describe('findLibrary', () => {
  it('finds the newest toolkit', () => {
    place('usr/local/cuda-12.9/lib64/libnvrtc.so.12');
    const newest = place('usr/local/cuda-13.0/targets/x86_64-linux/lib/libnvrtc.so.13');
    expect(findLibrary(NVRTC_LIBRARY, 13, environment())).toBe(newest);
  });

  it('leaves out versions that the driver is too old for', () => {
    place('usr/local/cuda-13.0/lib64/libnvrtc.so.13');
    const old = place('usr/local/cuda-12.9/lib64/libnvrtc.so.12');
    expect(findLibrary(NVRTC_LIBRARY, 12, environment())).toBe(old);
  });

  it('prefers LD_LIBRARY_PATH, then CUDA_HOME, then toolkits, then wheels', () => {
    const wheel = place('site/nvidia/cu13/lib/libcublasLt.so.13');
    const python = [join(root, 'site')];
    const find = (variables: Record<string, string>) =>
      findLibrary(CUBLASLT_LIBRARY, 13, environment(variables, python));
    expect(find({})).toBe(wheel);
    const toolkit = place('usr/local/cuda/lib64/libcublasLt.so.13');
    expect(find({})).toBe(toolkit);
    const home = place('opt/cuda/lib64/libcublasLt.so.13');
    const variables = { CUDA_HOME: join(root, 'opt/cuda') };
    expect(find(variables)).toBe(home);
    const listed = place('elsewhere/libcublasLt.so.13');
    expect(find({ ...variables, LD_LIBRARY_PATH: join(root, 'elsewhere') })).toBe(listed);
  });

  it('knows both layouts of wheels, in PYTHONPATH, VIRTUAL_ENV and what python says', () => {
    const old = place('a/nvidia/cuda_nvrtc/lib/libnvrtc.so.12');
    const fresh = place('venv/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13');
    expect(findLibrary(NVRTC_LIBRARY, 13, environment({ PYTHONPATH: join(root, 'a') }))).toBe(old);
    const venv = { VIRTUAL_ENV: join(root, 'venv') };
    expect(findLibrary(NVRTC_LIBRARY, 13, environment(venv))).toBe(fresh);
    expect(findLibrary(NVRTC_LIBRARY, 13, environment({}, [join(root, 'a')]))).toBe(old);
  });

  it('does not take the built-ins or another library for NVRTC', () => {
    place('usr/local/cuda/lib64/libnvrtc-builtins.so.13.0');
    place('usr/local/cuda/lib64/libnvrtc.alt.so.13');
    expect(() => findLibrary(NVRTC_LIBRARY, 13, environment())).toThrow(NativeError);
  });

  it('says what is missing, where it looked and what to install', () => {
    place('usr/local/cuda-13.0/lib64/libcudart.so.13');
    const find = () => findLibrary(CUBLASLT_LIBRARY, 13, environment());
    expect(find).toThrow(expect.objectContaining({ code: 'library-missing' }));
    for (const part of ['libcublasLt.so', 'cuda-13.0/lib64', 'pip install nvidia-cublas']) {
      expect(find).toThrow(part);
    }
  });
});
