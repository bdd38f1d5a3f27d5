import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { contractCases } from '../../contract/index.ts';
import { openCudaDevice } from '../open.ts';
import { compileStubGpu, type StubGpu } from './stub-gpu.ts';

/** What of the contract needs no kernel. */
const CASES = [
  'allocations are counted, distinct and freed',
  'too large an allocation is refused and harms nothing',
  'copies outside a buffer or of a freed one are refused',
  'copies round trip through the inline lane',
  'another thread fills host memory by its handle',
  'another thread copies up by itself',
  'copies round trip through a worker lane, own context',
  'copies round trip through a worker lane, shared context',
  'launches are counted',
  'a closed device refuses everything',
];

describe.each(hasCompiler ? ['stub GPU'] : [])('the cuda device on a %s', () => {
  let folder: string;
  let gpu: StubGpu;
  const path = process.env.LD_LIBRARY_PATH;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'stub-gpu-'));
    gpu = compileStubGpu(folder);
    process.env.LD_LIBRARY_PATH = gpu.folder;
  });
  afterAll(() => {
    if (path === undefined) delete process.env.LD_LIBRARY_PATH;
    else process.env.LD_LIBRARY_PATH = path;
    rmSync(folder, { recursive: true });
  });

  test.each(CASES)('%s', async (name) => {
    const contractCase = contractCases.find((each) => each.name === name);
    expect(contractCase, 'a case of the contract').toBeDefined();
    const kernelCacheFolder = join(folder, 'kernels');
    const device = await openCudaDevice({ driverPath: gpu.driverPath, kernelCacheFolder });
    try {
      await contractCase!.run(device);
    } finally {
      await device.close();
    }
  });
});
