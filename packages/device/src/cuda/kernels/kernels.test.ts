import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Driver, Nvrtc } from '@bridgekeeper/native';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Slice, slice } from '../../device.ts';
import type { OpArgs } from '../../ops.ts';
import type { Core } from '../core.ts';
import { Launcher, type WantedKernel } from '../launch/launcher.ts';
import { Memory } from '../memory.ts';
import { deviceErrorOf, openDriver } from '../native.ts';
import { launchOperation } from '../operations/operations.ts';
import { compileStubGpu, type StubGpu } from '../testing/stub-gpu.ts';
import { KernelCache } from './kernel-cache.ts';
import { Kernels } from './kernels.ts';

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
  const kernelsIn = (cache: string) =>
    new Kernels(driver, nvrtc, new KernelCache(cache), 'sm_90a', { FIXED: 1 });
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
    const parts = { driver, memory, kernels, matmul, launchesDependent: false, readsFp8: false };
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
    const parts = { driver, memory, kernels, launchesDependent: false };
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
