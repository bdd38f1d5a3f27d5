import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Driver, Nvrtc } from '@bridgekeeper/native';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Slice, slice } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import type { OpArgs } from '../../ops.ts';
import type { Core } from '../core.ts';
import { Launcher } from '../launch/launcher.ts';
import { Memory } from '../memory.ts';
import { deviceErrorOf, openDriver } from '../native.ts';
import { launchOperation } from '../operations/operations.ts';
import { compileStubGpu, type StubGpu } from '../testing/stub-gpu.ts';
import { KernelCache } from './kernel-cache.ts';
import { KernelLibrary, LIBRARY_INDEX, type LibraryFile, libraryKey } from './kernel-library.ts';
import { kernelProgram, type WantedKernel } from './kernel-source.ts';
import { type KernelCode, Kernels } from './kernels.ts';

describe.each(hasCompiler ? ['compiled stubs'] : [])('kernels by %s', () => {
  let folder: string;
  let gpu: StubGpu;
  let driver: Driver;
  let nvrtc: Nvrtc;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kernels-'));
    gpu = compileStubGpu(folder);
    driver = openDriver(gpu.driverPath);
    nvrtc = new Nvrtc(gpu.nvrtcPath, deviceErrorOf);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const compiled = () => gpu.read('compiledByCaller') + gpu.read('compiledElsewhere');
  const launches = () => gpu.read('launches');
  const kernelsIn = (cache: string) => new Kernels(driver, codeOf(cache), 'sm_90a', { FIXED: 1 });
  const codeOf = (cache: string, library = join(folder, 'no library')): KernelCode => ({
    library: new KernelLibrary(library),
    cache: new KernelCache(cache),
    compiler: () => nvrtc,
  });
  const sizes = (...values: number[]): WantedKernel[] =>
    values.map((HEAD_DIM) => ({ name: 'attention_decode', defines: { HEAD_DIM } }));

  test('what is wanted compiles at once, each program once, and is only loaded then', async () => {
    const kernels = kernelsIn(join(folder, 'cache'));
    const before = compiled();
    await kernels.compileAhead([...sizes(64, 80, 96, 64), { name: 'embed', defines: undefined }]);
    expect(compiled() - before).toBe(4);
    expect(gpu.read('mostCompiledAtOnce')).toBeGreaterThan(1);
    kernels.get('attention_decode', { HEAD_DIM: 80 });
    // The same unit as embed.
    kernels.get('rms_norm');
    await kernels.compileAhead(sizes(80, 96));
    expect(compiled() - before).toBe(4);
    kernels.get('attention_decode', { HEAD_DIM: 128 });
    expect(compiled() - before).toBe(5);
    const later = kernelsIn(join(folder, 'cache'));
    await later.compileAhead(sizes(64, 128));
    later.get('attention_decode', { HEAD_DIM: 128 });
    expect(compiled() - before).toBe(5);
  });

  describe('that were compiled when the product was packed', () => {
    const PORTABLE = ['sm_90a', 'sm_100a', 'compute_90'];
    /** A library of decode attention for heads of 64. */
    function pack(name: string, targets: readonly string[], code = Buffer.from('packed')): string {
      const library = join(folder, name);
      mkdirSync(library);
      const key = libraryKey(kernelProgram('attention-decode', 'sm_90a', { HEAD_DIM: 64 }));
      const sha256 = createHash('sha256').update('packed').digest('hex');
      const file: LibraryFile = { unit: 'attention-decode', targets, bytes: 6, sha256 };
      const index = { compiler: 'nvcc 13.0.88', files: { [key]: file } };
      writeFileSync(join(library, LIBRARY_INDEX), JSON.stringify(index));
      writeFileSync(join(library, `${key}.fatbin`), code);
      return library;
    }
    const open = (library: string, architecture: string, compiler = () => nvrtc) => {
      const code = { ...codeOf(join(folder, `${library} cache`), library), compiler };
      return new Kernels(driver, code, architecture);
    };
    const noCompiler = (): never => {
      throw new DeviceError('library-missing', 'no compiler here');
    };

    test.each(['sm_90a', 'sm_100a'])('are used on %s, and the others compiled', async (machine) => {
      const kernels = open(pack(`for ${machine}`, PORTABLE), machine);
      const before = compiled();
      await kernels.compileAhead(sizes(64, 80));
      kernels.get('attention_decode', { HEAD_DIM: 64 });
      kernels.get('attention_decode', { HEAD_DIM: 80 });
      expect(compiled() - before).toBe(1);
      expect(kernels.notes).toEqual([
        'kernels: 1 were compiled when this was packed (nvcc 13.0.88), ' +
          '1 were compiled by this start',
      ]);
    });

    test('need no compiler; what is not among them does', async () => {
      const kernels = open(pack('complete', PORTABLE), 'sm_90a', noCompiler);
      await kernels.compileAhead(sizes(64));
      expect(kernels.get('attention_decode', { HEAD_DIM: 64 })).toBeGreaterThan(0n);
      await expect(kernels.compileAhead(sizes(80))).rejects.toThrow('no compiler here');
      expect(() => kernels.get('attention_decode', { HEAD_DIM: 80 })).toThrow('no compiler here');
    });

    test('are translated by the driver of a newer GPU where there is no compiler', async () => {
      const library = pack('for newer', PORTABLE);
      const kernels = open(library, 'sm_110a', noCompiler);
      await kernels.compileAhead(sizes(64));
      kernels.get('attention_decode', { HEAD_DIM: 64 });
      expect(kernels.notes.join()).toContain('1 were packed for older GPUs and translated');
      const older = open(library, 'sm_89', noCompiler);
      expect(() => older.get('attention_decode', { HEAD_DIM: 64 })).toThrow('no compiler here');
      const hopperOnly = open(pack('for Hopper', ['sm_90a']), 'sm_100a', noCompiler);
      expect(() => hopperOnly.get('attention_decode', { HEAD_DIM: 64 })).toThrow('no compiler');
    });

    test('are refused where they are not what was packed', async () => {
      const library = pack('damaged', PORTABLE, Buffer.from('packet'));
      const kernels = open(library, 'sm_90a');
      const before = compiled();
      await kernels.compileAhead(sizes(64));
      kernels.get('attention_decode', { HEAD_DIM: 64 });
      expect(compiled() - before).toBe(1);
      expect(kernels.notes.at(-1)).toMatch(/damaged.*[.]fatbin is not what was packed/);
      writeFileSync(join(library, LIBRARY_INDEX), '{');
      expect(open(library, 'sm_90a').notes.join()).toMatch(/library[.]json is not what was packed/);
    });
  });

  test('a cache that cannot be written costs nothing more', async () => {
    const file = join(folder, 'a file');
    writeFileSync(file, '');
    const kernels = kernelsIn(join(file, 'no folder'));
    const before = compiled();
    await kernels.compileAhead(sizes(64, 96));
    kernels.get('attention_decode', { HEAD_DIM: 64 });
    kernels.get('attention_decode', { HEAD_DIM: 96 });
    expect(compiled() - before).toBe(2);
  });

  test('operations are rehearsed without being launched', () => {
    const memory = new Memory(driver);
    const kernels = kernelsIn(join(folder, 'rehearsed'));
    const matmul = { launch: () => expect.fail('a rehearsal has no products') };
    const gpu = { launchesDependent: false, readsFp8: false };
    const parts = { driver, memory, kernels, matmul, gpu };
    const launcher = new Launcher(parts as unknown as Core, 1n);
    const place = (bytes: number): Slice => slice(memory.allocate(bytes, 'rehearsed'));
    const linear: OpArgs['linear'] = {
      count: 2,
      inputs: 64,
      outputs: 64,
      epilogue: 'store',
      outType: 'bf16',
      epsilon: 1e-5,
      format: 'element',
      scales: null,
      blockInputs: 1,
      blockOutputs: 1,
      bias: null,
      input: place(256),
      norm: place(128),
      weight: place(8192),
      out: place(256),
      workspace: place(65_536),
    };
    const before = [compiled(), launches()];
    const wanted = launcher.rehearse(() => {
      launchOperation(launcher, 'copy', { input: place(16), out: place(16), bytes: 16 });
      launchOperation(launcher, 'linear', linear);
      launchOperation(launcher, 'fill-uniform', {
        out: place(64),
        elements: 16,
        type: 'f32',
        mean: 0,
        spread: 1,
        seed: 1,
      });
    });
    expect(wanted.map(({ name }) => name)).toEqual(['rms_norm', 'fill_uniform']);
    expect([compiled(), launches()]).toEqual(before);
    const one = { out: place(64), elements: 16, type: 'f32', mean: 0, spread: 1, seed: 1 } as const;
    launchOperation(launcher, 'fill-uniform', one);
    expect(launches()).toBe(before[1]! + 1);
  });

  test('a rehearsal that fails leaves the launcher as it was', () => {
    const memory = new Memory(driver);
    const kernels = kernelsIn(join(folder, 'failing'));
    const parts = { driver, memory, kernels, gpu: { launchesDependent: false } };
    const launcher = new Launcher(parts as unknown as Core, 1n);
    const small = slice(memory.allocate(16, 'small'));
    const args = { out: small, type: 'f32', mean: 0, spread: 1, seed: 1 } as const;
    const fill = (elements: number) =>
      launchOperation(launcher, 'fill-uniform', { ...args, elements });
    expect(() => launcher.rehearse(() => fill(8))).toThrow('needs 32 bytes');
    const before = launches();
    fill(4);
    expect(launches()).toBe(before + 1);
  });
});
