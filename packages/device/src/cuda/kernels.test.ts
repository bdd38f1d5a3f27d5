import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Slice, slice } from '../device.ts';
import type { OpArgs } from '../ops.ts';
import type { Core } from './core.ts';
import { DRIVER_SIGNATURES, type Driver, openDriver } from './ffi/driver.ts';
import { OutCell, openNativeLibrary } from './ffi/native.ts';
import { Nvrtc } from './ffi/nvrtc.ts';
import { KernelCache } from './kernel-cache.ts';
import { Kernels } from './kernels.ts';
import { Launcher, type WantedKernel } from './launcher.ts';
import { Memory } from './memory.ts';
import { launchOperation } from './operations.ts';
import { compileLibrary, hasCompiler } from './testing.ts';

/** Compiles anything in 30 ms to three bytes; counts, and sees how many it does at once. */
const NVRTC_SOURCE = `
#include <unistd.h>
static int programs, compiled, running, most;
int nvrtcVersion(int* a, int* b) { *a = 13; *b = 0; return 0; }
int nvrtcCreateProgram(void** p, const char* s, const char* n, int c, void* h, void* i)
{ *p = (void*)(long)++programs; return 0; }
int nvrtcDestroyProgram(void** p) { *p = 0; return 0; }
int nvrtcCompileProgram(void* p, int n, void* o) {
  int now = __sync_add_and_fetch(&running, 1);
  if (now > most) most = now;
  usleep(30000);
  __sync_sub_and_fetch(&running, 1);
  __sync_add_and_fetch(&compiled, 1);
  return 0;
}
int nvrtcGetCUBINSize(void* p, unsigned long* n) { *n = 3; return 0; }
int nvrtcGetCUBIN(void* p, char* c) { c[0] = 1; c[1] = 2; c[2] = 3; return 0; }
int nvrtcGetProgramLogSize(void* p, unsigned long* n) { *n = 1; return 0; }
int nvrtcGetProgramLog(void* p, char* c) { c[0] = 0; return 0; }
int stubRead(int what, int* out) { *out = what == 0 ? compiled : most; return 0; }
`;

/** Handles out addresses and handles, and counts what was put on streams. */
const DRIVER_BODIES: Readonly<Record<string, string>> = {
  cuMemAlloc_v2:
    'int cuMemAlloc_v2(u64* p, u64 n) { static u64 at = 4096; *p = at; at += n; return 0; }',
  cuModuleLoadData: 'int cuModuleLoadData(u64* m, void* c) { *m = ++handles; return 0; }',
  cuModuleGetFunction:
    'int cuModuleGetFunction(u64* f, u64 m, const char* n) { *f = ++handles; return 0; }',
  cuLaunchKernelEx: 'int cuLaunchKernelEx() { launches++; return 0; }',
  cuMemcpyDtoDAsync_v2: 'int cuMemcpyDtoDAsync_v2() { launches++; return 0; }',
};

describe.each(hasCompiler ? ['compiled stubs'] : [])('kernels by %s', () => {
  let folder: string;
  let driver: Driver;
  let nvrtc: Nvrtc;
  let compiled: () => { count: number; mostAtOnce: number };
  let launches: () => number;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kernels-'));
    const others = Object.keys(DRIVER_SIGNATURES).filter((name) => !(name in DRIVER_BODIES));
    const path = compileLibrary(
      folder,
      'driver',
      [
        'typedef unsigned long long u64; static u64 handles, launches;',
        ...others.map((name) => `int ${name}() { return 0; }`),
        ...Object.values(DRIVER_BODIES),
        'int stubLaunches(int* out) { *out = launches; return 0; }',
      ].join('\n'),
    );
    driver = openDriver(path);
    const counted = openNativeLibrary(path).bind({ stubLaunches: ['pointer'] });
    launches = () => {
      const cell = new OutCell();
      counted.stubLaunches(cell.bytes);
      return cell.i32;
    };
    const compilerPath = compileLibrary(folder, 'nvrtc', NVRTC_SOURCE);
    nvrtc = new Nvrtc(compilerPath);
    const { stubRead } = openNativeLibrary(compilerPath).bind({ stubRead: ['i32', 'pointer'] });
    const read = (what: number) => {
      const cell = new OutCell();
      stubRead(what, cell.bytes);
      return cell.i32;
    };
    compiled = () => ({ count: read(0), mostAtOnce: read(1) });
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const kernelsIn = (cache: string) =>
    new Kernels(driver, nvrtc, new KernelCache(cache), 'sm_90a', { FIXED: 1 });
  const sizes = (...values: number[]): WantedKernel[] =>
    values.map((HEAD_DIM) => ({ name: 'attention_decode', defines: { HEAD_DIM } }));

  test('what is wanted compiles at once, each program once, and is only loaded then', async () => {
    const kernels = kernelsIn(join(folder, 'cache'));
    const before = compiled().count;
    await kernels.compileAhead([...sizes(64, 80, 96, 64), { name: 'embed', defines: undefined }]);
    expect(compiled().count - before).toBe(4);
    expect(compiled().mostAtOnce).toBeGreaterThan(1);
    kernels.get('attention_decode', { HEAD_DIM: 80 });
    // The same unit as embed.
    kernels.get('rms_norm');
    await kernels.compileAhead(sizes(80, 96));
    expect(compiled().count - before).toBe(4);
    kernels.get('attention_decode', { HEAD_DIM: 128 });
    expect(compiled().count - before).toBe(5);
    const later = kernelsIn(join(folder, 'cache'));
    await later.compileAhead(sizes(64, 128));
    later.get('attention_decode', { HEAD_DIM: 128 });
    expect(compiled().count - before).toBe(5);
  });

  test('a cache that cannot be written costs nothing more', async () => {
    const file = join(folder, 'a file');
    writeFileSync(file, '');
    const kernels = kernelsIn(join(file, 'no folder'));
    const before = compiled().count;
    await kernels.compileAhead(sizes(64, 96));
    kernels.get('attention_decode', { HEAD_DIM: 64 });
    kernels.get('attention_decode', { HEAD_DIM: 96 });
    expect(compiled().count - before).toBe(2);
  });

  test('operations are rehearsed without being launched', () => {
    const memory = new Memory(driver);
    const kernels = kernelsIn(join(folder, 'rehearsed'));
    const matmul = { launch: () => expect.fail('a rehearsal has no products') };
    const parts = { driver, memory, kernels, matmul, launchesDependent: false, readsFp8: false };
    const launcher = new Launcher(parts as unknown as Core, 1n);
    const place = (bytes: number): Slice => slice(memory.allocate(bytes, 'rehearsed'));
    const linear: OpArgs['linear'] = {
      ...{ count: 2, inputs: 64, outputs: 64, epilogue: 'store', outType: 'bf16', epsilon: 1e-5 },
      ...{ format: 'element', scales: null, blockInputs: 1, blockOutputs: 1, bias: null },
      ...{ input: place(256), norm: place(128), weight: place(8192), out: place(256) },
      workspace: place(65_536),
    };
    const before = [compiled().count, launches()];
    const wanted = launcher.rehearse(() => {
      launchOperation(launcher, 'copy', { input: place(16), out: place(16), bytes: 16 });
      launchOperation(launcher, 'linear', linear);
      launchOperation(launcher, 'fill-uniform', {
        ...{ out: place(64), elements: 16, type: 'f32', mean: 0, spread: 1, seed: 1 },
      });
    });
    expect(wanted.map(({ name }) => name)).toEqual(['rms_norm', 'fill_uniform']);
    expect([compiled().count, launches()]).toEqual(before);
    launchOperation(launcher, 'copy', { input: place(16), out: place(16), bytes: 16 });
    expect(launches()).toBe(before[1]! + 1);
  });

  test('a rehearsal that fails leaves the launcher as it was', () => {
    const memory = new Memory(driver);
    const kernels = kernelsIn(join(folder, 'failing'));
    const parts = { driver, memory, kernels, launchesDependent: false };
    const launcher = new Launcher(parts as unknown as Core, 1n);
    const small = slice(memory.allocate(16, 'small'));
    const args = { input: small, out: small, bytes: 32 };
    const copy = () => launchOperation(launcher, 'copy', args);
    expect(() => launcher.rehearse(copy)).toThrow('needs 32 bytes');
    const before = launches();
    launchOperation(launcher, 'copy', { ...args, bytes: 16 });
    expect(launches()).toBe(before + 1);
  });
});
