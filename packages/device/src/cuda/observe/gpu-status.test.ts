import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openNativeLibrary } from '@bridgekeeper/native/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GpuStatuses, readGpuStatuses } from './gpu-status.ts';

/** An NVML with two GPUs, its structure declared as nvml.h declares it. */
const STUB = `
static int open;
int stubOpen(void) { return open; }
int nvmlInit_v2(void) { if (INIT == 0) open++; return INIT; }
int nvmlShutdown(void) { open--; return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) { *count = 2; return COUNT; }
typedef struct nvmlDevice_st* nvmlDevice_t;
static char devices[2];
int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t* device) {
  if (index >= 2) return 2;
  *device = (nvmlDevice_t)&devices[index];
  return 0;
}
#ifdef PERSISTENCE
int nvmlDeviceGetPersistenceMode(nvmlDevice_t device, unsigned* mode) {
  *mode = (char*)device == &devices[1];
  return PERSISTENCE;
}
#endif
int nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned* current, unsigned* pending) {
  *current = 1;
  *pending = 0;
  return MIG;
}
typedef struct {
  unsigned int pid;
  unsigned long long usedGpuMemory;
  unsigned int gpuInstanceId;
  unsigned int computeInstanceId;
} nvmlProcessInfo_t;
int nvmlDeviceGetComputeRunningProcesses_v3(
    nvmlDevice_t device, unsigned* count, nvmlProcessInfo_t* infos) {
  if (*count < PROCESSES) { *count = PROCESSES; return 7; }
  *count = (char*)device == &devices[0] ? PROCESSES : 0;
  for (unsigned index = 0; index < *count; index++) {
    infos[index] = (nvmlProcessInfo_t){100 + index, ~0ull, ~0u, ~0u};
  }
  return LIST;
}
`;

const DEFAULTS = { INIT: 0, COUNT: 0, MIG: 3, PROCESSES: 2, LIST: 0 };
const hasCompiler = spawnSync('gcc', ['--version']).status === 0;
let folder: string;
let compiled = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'nvml-status-'));
  writeFileSync(join(folder, 'stub.c'), STUB);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Compiles a variant, reads through it, and checks that NVML was left as it was found. */
function read(macros: Readonly<Record<string, number>>): GpuStatuses {
  const libraryPath = join(folder, `libnvml${compiled++}.so`);
  const defines = Object.entries({ ...DEFAULTS, ...macros }).map((pair) => `-D${pair.join('=')}`);
  const command = ['-shared', '-fPIC', ...defines, '-o', libraryPath, join(folder, 'stub.c')];
  const result = spawnSync('gcc', command, { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(result.stderr);
  const statuses = readGpuStatuses({ libraryPath });
  expect(openNativeLibrary(libraryPath).bind({ stubOpen: [] }).stubOpen()).toBe(0);
  return statuses;
}

it.each(hasCompiler ? [] : ['stub libraries are not tested'])('without gcc, %s', () => {
  expect(hasCompiler).toBe(false);
});

describe.each(hasCompiler ? ['compiled stub'] : [])('NVML by a %s', () => {
  it('says for each GPU what it is set to and who uses it', () => {
    expect(read({ PERSISTENCE: 0 })).toEqual({
      known: true,
      gpus: [
        { index: 0, persistence: false, mig: false, processes: [100, 101] },
        { index: 1, persistence: true, mig: false, processes: [] },
      ],
      gaps: [],
    });
    expect(read({ PERSISTENCE: 0, MIG: 0 })).toMatchObject({ gpus: [{ mig: true }, {}] });
  });

  it('names what could not be read', () => {
    const statuses = read({ MIG: 15, LIST: 4 });
    expect(statuses).toMatchObject({
      gpus: [{ index: 0, persistence: null, mig: null, processes: null }, { index: 1 }],
      gaps: expect.arrayContaining([
        'nvmlDeviceGetPersistenceMode returned 13 (function not found)',
        'nvmlDeviceGetMigMode returned 15 (GPU is lost)',
        'nvmlDeviceGetComputeRunningProcesses_v3 returned 4 (no permission)',
      ]),
    });
  });

  it('keeps its bound on the number of processes', () => {
    expect(read({ PROCESSES: 300 })).toMatchObject({
      gpus: [{ processes: null }, { processes: null }],
      gaps: expect.arrayContaining([expect.stringContaining('returned 7 (insufficient size)')]),
    });
  });

  it('knows no GPU when they cannot be counted, and nothing when NVML does not start', () => {
    const counted = { known: true, gpus: [], gaps: [expect.stringContaining('returned 999')] };
    expect(read({ COUNT: 999 })).toMatchObject(counted);
    expect(read({ INIT: 9 })).toEqual({
      known: false,
      reason: expect.stringContaining('driver not loaded'),
    });
  });
});

it('knows nothing without the library', () => {
  const statuses = readGpuStatuses({ libraryPath: '/nowhere/libnvidia-ml.so.1' });
  expect(statuses).toMatchObject({ known: false });
});
