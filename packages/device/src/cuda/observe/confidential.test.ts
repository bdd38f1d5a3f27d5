import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openNativeLibrary } from '@bridgekeeper/native/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ConfidentialState, readConfidentialState } from './confidential.ts';

/**
 * An NVML with two GPUs. Structures are declared as nvml.h declares them, so that the compiler, not
 * we, says where their members lie. Macros give each variant its statuses and values; a function
 * whose status is not given is not exported.
 */
const STUB = `
#include <string.h>
static int inits, open;
int stubInits(void) { return inits; }
int stubOpen(void) { return open; }
int nvmlInit_v2(void) {
  inits++;
  if (INIT == 0) open++;
  return INIT;
}
int nvmlShutdown(void) { open--; return SHUTDOWN; }

static int text(const char* from, char* to, unsigned length) {
  if (strlen(from) >= length) return 7;
  strcpy(to, from);
  return 0;
}
int nvmlSystemGetDriverVersion(char* to, unsigned length) { return text("580.95.05", to, length); }
int nvmlDeviceGetCount_v2(unsigned* count) { *count = 2; return 0; }
typedef struct nvmlDevice_st* nvmlDevice_t;
static char devices[2];
int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t* device) {
  if (index >= 2) return 2;
  *device = (nvmlDevice_t)&devices[index];
  return 0;
}
int nvmlDeviceGetName(nvmlDevice_t device, char* to, unsigned length) {
  return text("NVIDIA H100 80GB HBM3", to, length);
}
int nvmlDeviceGetUUID(nvmlDevice_t device, char* to, unsigned length) {
  if ((char*)device == &devices[0]) return text("GPU-a", to, length);
  return LOST ? 15 : text("GPU-b", to, length);
}

#ifdef SETTINGS
typedef struct {
  unsigned int version;
  unsigned int environment;
  unsigned int ccFeature;
  unsigned int devToolsMode;
  unsigned int multiGpuMode;
} nvmlSystemConfComputeSettings_v1_t;
int nvmlSystemGetConfComputeSettings(nvmlSystemConfComputeSettings_v1_t* settings) {
  if (settings->version != (sizeof(*settings) | 1 << 24)) return 25;
  settings->environment = 2;
  settings->ccFeature = FEATURE;
  settings->devToolsMode = DEVTOOLS;
  settings->multiGpuMode = MULTI;
  return SETTINGS;
}
#endif
#ifdef STATE
typedef struct { unsigned int environment, ccFeature, devToolsMode; } nvmlConfComputeSystemState_t;
int nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t* state) {
  state->environment = 1;
  state->ccFeature = FEATURE;
  state->devToolsMode = DEVTOOLS;
  return STATE;
}
#endif
#ifdef READY
int nvmlSystemGetConfComputeGpusReadyState(unsigned int* accepting) {
  *accepting = 1;
  return READY;
}
#endif
#ifdef ROTATION
typedef struct {
  unsigned int version;
  unsigned long long attackerAdvantage;
} nvmlConfComputeGetKeyRotationThresholdInfo_t;
int nvmlSystemGetConfComputeKeyRotationThresholdInfo(
    nvmlConfComputeGetKeyRotationThresholdInfo_t* info) {
  if (info->version != (sizeof(*info) | 1 << 24)) return 25;
  info->attackerAdvantage = 1ull << 40;
  return ROTATION;
}
#endif
`;

const DEFAULTS = { INIT: 0, SHUTDOWN: 0, LOST: 0, FEATURE: 0, DEVTOOLS: 0, MULTI: 0 };
type Macros = Partial<
  Record<keyof typeof DEFAULTS | 'SETTINGS' | 'STATE' | 'READY' | 'ROTATION', number>
>;

const hasCompiler = spawnSync('gcc', ['--version']).status === 0;
let folder: string;
let compiled = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'nvml-'));
  writeFileSync(join(folder, 'stub.c'), STUB);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Compiles a variant, reads through it, and checks that NVML was left as it was found. */
function read(macros: Macros): ConfidentialState {
  const libraryPath = join(folder, `libnvml${compiled++}.so`);
  const defines = Object.entries({ ...DEFAULTS, ...macros }).map((pair) => `-D${pair.join('=')}`);
  const source = join(folder, 'stub.c');
  const command = ['-shared', '-fPIC', ...defines, '-o', libraryPath, source];
  const result = spawnSync('gcc', command, { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(result.stderr);
  const state = readConfidentialState({ libraryPath });
  const stub = openNativeLibrary(libraryPath).bind({ stubInits: [], stubOpen: [] });
  expect(stub.stubInits()).toBe(1);
  expect(stub.stubOpen()).toBe(0);
  return state;
}

const OFF = { SETTINGS: 0, STATE: 0 };
const BY_SETTINGS = { known: true, vouchedBy: 'nvmlSystemGetConfComputeSettings' };
const BY_STATE = { known: true, vouchedBy: 'nvmlSystemGetConfComputeState' };

it.each(hasCompiler ? [] : ['stub libraries are not tested'])('without gcc, %s', () => {
  expect(hasCompiler).toBe(false);
});

describe.each(hasCompiler ? ['compiled stub'] : [])('NVML by a %s', () => {
  it.each<[string, Macros, object]>([
    ['on by feature', { ...OFF, FEATURE: 1 }, { ...BY_SETTINGS, confidential: true }],
    ['off', OFF, { ...BY_SETTINGS, confidential: false }],
    ['protected PCIe only', { ...OFF, MULTI: 1 }, { ...BY_SETTINGS, confidential: true }],
    ['NVLink encryption only', { ...OFF, MULTI: 2 }, { ...BY_SETTINGS, confidential: false }],
    ['both', { ...OFF, FEATURE: 1, MULTI: 2 }, { ...BY_SETTINGS, confidential: true }],
    ['no settings, on', { STATE: 0, FEATURE: 1 }, { ...BY_STATE, confidential: true }],
    ['no settings, off', { STATE: 0 }, { ...BY_STATE, confidential: false }],
    ['settings not supported', { SETTINGS: 3, STATE: 0 }, { ...BY_STATE, confidential: false }],
    [
      'settings fail, on',
      { SETTINGS: 9, STATE: 0, FEATURE: 1 },
      { ...BY_STATE, confidential: true },
    ],
    ['neither exported', {}, { ...BY_STATE, confidential: false, settings: null }],
    ['neither supported', { SETTINGS: 3, STATE: 3 }, { confidential: false, settings: null }],
  ])('confidential computing: %s', (_, macros, expected) => {
    expect(read(macros)).toMatchObject(expected);
  });

  it('tells every value that the settings call gives', () => {
    const macros = { ...OFF, FEATURE: 1, DEVTOOLS: 1, MULTI: 2, READY: 0, ROTATION: 0 };
    expect(read(macros)).toEqual({
      ...BY_SETTINGS,
      confidential: true,
      observedBy: 'guest',
      settings: {
        environment: 'production',
        ccFeature: 1,
        devTools: true,
        multiGpuMode: 'nvlink-encryption',
      },
      reason:
        'nvmlSystemGetConfComputeSettings says ccFeature 1, environment production, ' +
        'multi-GPU mode nvlink-encryption, developer tools on',
      driverVersion: '580.95.05',
      gpus: [
        { index: 0, name: 'NVIDIA H100 80GB HBM3', uuid: 'GPU-a' },
        { index: 1, name: 'NVIDIA H100 80GB HBM3', uuid: 'GPU-b' },
      ],
      gpusReady: true,
      keyRotationAttackerAdvantage: 2 ** 40,
      gaps: [],
    });
  });

  it('tells the values of the state call, which has no multi-GPU mode', () => {
    expect(read({ STATE: 0, FEATURE: 1 })).toMatchObject({
      settings: { environment: 'simulation', ccFeature: 1, devTools: false, multiGpuMode: null },
      gpusReady: null,
      keyRotationAttackerAdvantage: null,
      gaps: [],
    });
  });

  it.each<[string, Macros, string]>([
    ['settings refuse the version', { SETTINGS: 25, STATE: 0 }, 'does not exclude protected PCIe'],
    ['settings break', { SETTINGS: 999, STATE: 3 }, 'returned 999 (unknown error)'],
    ['both break', { SETTINGS: 999, STATE: 15 }, 'ConfComputeState returned 15 (GPU is lost)'],
    ['the state breaks', { STATE: 77 }, 'returned 77 (no known status)'],
  ])('leaves the question open when %s', (_, macros, reason) => {
    const state = read(macros);
    expect(state.known).toBe(false);
    expect(state.reason).toContain(reason);
    expect(state.gpus).toHaveLength(2);
  });

  it('knows nothing when NVML does not start', () => {
    const state = read({ ...OFF, INIT: 9 });
    expect(state).toMatchObject({ known: false, gpus: [], driverVersion: null });
    expect(state.reason).toContain('nvmlInit_v2 returned 9 (driver not loaded)');
  });

  it('reports what failed beside the question, and keeps the rest', () => {
    const state = read({ ...OFF, LOST: 1, READY: 2, ROTATION: 25, SHUTDOWN: 999 });
    expect(state).toMatchObject({ ...BY_SETTINGS, confidential: false, gpusReady: null });
    expect(state.gpus[1]).toEqual({ index: 1, name: 'NVIDIA H100 80GB HBM3', uuid: null });
    expect(state.gaps).toEqual([
      'nvmlDeviceGetUUID returned 15 (GPU is lost)',
      'nvmlSystemGetConfComputeGpusReadyState returned 2 (invalid argument)',
      'nvmlSystemGetConfComputeKeyRotationThresholdInfo returned 25 (argument version mismatch)',
      'nvmlShutdown returned 999 (unknown error)',
    ]);
  });

  it('does not take another library for NVML', () => {
    const state = readConfidentialState({ libraryPath: 'libc.so.6' });
    expect(state.known).toBe(false);
    expect(state.reason).toContain('nvmlInit_v2 returned 13 (function not found)');
  });
});

it('knows nothing without the library, and says what brings it', () => {
  const state = readConfidentialState({ libraryPath: '/nowhere/libnvidia-ml.so.1' });
  expect(state).toMatchObject({ known: false, gpus: [], gaps: [] });
  expect(state.reason).toContain('/nowhere/libnvidia-ml.so.1 could not be opened');
  expect(state.reason).toContain('NVIDIA driver');
});

it('gives plain data wherever it runs', () => {
  const state = readConfidentialState();
  expect(structuredClone(state)).toEqual(state);
  expect(JSON.parse(JSON.stringify(state))).toEqual(state);
});
