import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { compileStubGpu } from '../testing/stub-gpu.ts';
import { CudaWarmUp } from './warm-up.ts';

const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-warm-up-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.runIf(hasCompiler)('a GPU that is made ready', () => {
  it.each([
    ['where the library is there', true],
    ['where it is not', false],
  ])('has its context until it is told that another has it, %s', async (_, hasLibrary) => {
    const gpu = compileStubGpu(mkdtempSync(join(folder, 'gpu-')));
    if (!hasLibrary) rmSync(join(gpu.folder, 'libcublasLt.so.13'));
    vi.stubEnv('LD_LIBRARY_PATH', gpu.folder);
    const warmUp = new CudaWarmUp({ driverPath: gpu.driverPath });
    await vi.waitFor(() => expect(gpu.read('retained')).toBe(1), 10_000);
    warmUp.end();
    await warmUp.ended;
    expect(gpu.read('retained')).toBe(0);
    vi.unstubAllEnvs();
  });
});

it('without a driver nothing happens, and nobody is told', async () => {
  const warmUp = new CudaWarmUp({ driverPath: join(folder, 'nothing.so') });
  await warmUp.ended;
  warmUp.end();
});
