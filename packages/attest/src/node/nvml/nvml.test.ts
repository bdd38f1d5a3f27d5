import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NVML, Nvml } from '@bridgekeeper/native';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromBase64, toHex } from '../../core/bytes.ts';
import { describeObservation } from '../../report/observation.ts';
import { collectGpuEvidence } from './evidence.ts';
import { observeMachine } from './observe.ts';

/**
 * An NVML with two GPUs. Structures are declared as nvml.h declares them, so that the compiler, not
 * we, says where their members lie. Macros change what it answers; what has no macro is left out.
 */
const STUB = `
#include <string.h>
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
static int text(const char* from, char* to, unsigned length) {
  if (strlen(from) >= length) return 7;
  strcpy(to, from);
  return 0;
}
int nvmlSystemGetDriverVersion(char* to, unsigned length) { return text("590.12", to, length); }
int nvmlDeviceGetCount_v2(unsigned* count) { *count = 2; return 0; }
typedef struct nvmlDevice_st* nvmlDevice_t;
static char devices[2];
int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t* device) {
  *device = (nvmlDevice_t)&devices[index];
  return 0;
}
int nvmlDeviceGetName(nvmlDevice_t device, char* to, unsigned length) {
  return text("NVIDIA H100", to, length);
}
int nvmlDeviceGetUUID(nvmlDevice_t device, char* to, unsigned length) {
  return text((char*)device == devices ? "GPU-a" : "GPU-b", to, length);
}
int nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char* to, unsigned length) {
  return text("96.00.A5.00.01", to, length);
}
int nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned* arch) { *arch = ARCH; return 0; }

#ifdef REMAP
typedef struct { unsigned alid, fla[4096], gpa[4096], size; } nvmlNvlinkGetRemapTableInfo_v1_t;
int nvmlDeviceGetNvlinkRemapTableInfo_v1(nvmlDevice_t device, nvmlNvlinkGetRemapTableInfo_v1_t* t) {
  t->alid = (char*)device == devices ? 1 : 2;
  t->size = REMAP;
  for (int i = 0; i < 3; i++) { t->fla[i] = 0x10 + i; t->gpa[i] = 0x20 + i; }
  t->gpa[0] += DIFFERENT * (unsigned)t->alid;
  return 0;
}
int nvmlDeviceLockNvlinkRemapTable_v1(nvmlDevice_t device, unsigned char* lock) {
  lock[0] = 1;
  return 0;
}
#endif
#ifdef NVLE
typedef struct { unsigned version, isNvleEnabled; } nvmlNvLinkInfo_v1_t;
int nvmlDeviceGetNvLinkInfo(nvmlDevice_t device, nvmlNvLinkInfo_v1_t* info) {
  if (info->version != (sizeof(*info) | 1 << 24)) return 25;
  info->isNvleEnabled = NVLE;
  return 0;
}
#endif
#ifdef NVLE_INFO
typedef struct { unsigned char data[256]; unsigned size; } nvmlNvlinkNvlePrivateInfo_v1_t;
int nvmlDeviceGetNvlinkNvlePrivateInfo_v1(nvmlDevice_t device, nvmlNvlinkNvlePrivateInfo_v1_t* i) {
  memset(i->data, (char*)device == devices ? 0xa1 : 0xa2, 256);
  i->size = NVLE_INFO;
  return 0;
}
typedef struct {
  unsigned char nvleKey[32];
  unsigned localGpuAlid, remoteGpuAlid;
  nvmlNvlinkNvlePrivateInfo_v1_t localGpuNvlePrivateInfo, remoteGpuNvlePrivateInfo;
} nvmlNvlinkSetupNvleEncryptionKey_v1_t;
static int isKeyed;
int nvmlDeviceSetupNvlinkNvleEncryptionKey_v1(
    nvmlDevice_t device, nvmlNvlinkSetupNvleEncryptionKey_v1_t* k) {
  if (k->localGpuAlid != 1 || k->remoteGpuAlid != 2) return 2;
  if (k->localGpuNvlePrivateInfo.size != NVLE_INFO) return 2;
  if (k->remoteGpuNvlePrivateInfo.size != NVLE_INFO) return 2;
  for (int i = 0; i < 32; i++) if (k->nvleKey[i] != i) return 2;
  for (int i = 0; i < NVLE_INFO; i++) {
    if (k->localGpuNvlePrivateInfo.data[i] != 0xa1) return 2;
    if (k->remoteGpuNvlePrivateInfo.data[i] != 0xa2) return 2;
  }
  isKeyed = 1;
  return 0;
}
typedef struct { unsigned char bNvleReady; } nvmlNvlinkSetNvleReady_v1_t;
int nvmlDeviceSetNvlinkNvleReady_v1(nvmlDevice_t device, nvmlNvlinkSetNvleReady_v1_t* ready) {
  if (ready->bNvleReady > isKeyed) return 29;
  return 0;
}
#endif
#ifdef SETTINGS
typedef struct {
  unsigned int version, environment, ccFeature, devToolsMode, multiGpuMode;
} nvmlSystemConfComputeSettings_v1_t;
int nvmlSystemGetConfComputeSettings(nvmlSystemConfComputeSettings_v1_t* settings) {
  if (settings->version != (sizeof(*settings) | 1 << 24)) return 25;
  settings->environment = 2;
  settings->ccFeature = FEATURE;
  settings->devToolsMode = 0;
  settings->multiGpuMode = MULTI;
  return SETTINGS;
}
#endif
typedef struct { unsigned int environment, ccFeature, devToolsMode; } nvmlConfComputeSystemState_t;
int nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t* state) {
  *state = (nvmlConfComputeSystemState_t){1, FEATURE, 1};
  return 0;
}
int nvmlSystemGetConfComputeGpusReadyState(unsigned int* accepting) { *accepting = 1; return 0; }
typedef struct {
  unsigned int version;
  unsigned long long attackerAdvantage;
} nvmlConfComputeGetKeyRotationThresholdInfo_t;
int nvmlSystemGetConfComputeKeyRotationThresholdInfo(
    nvmlConfComputeGetKeyRotationThresholdInfo_t* info) {
  if (info->version != (sizeof(*info) | 1 << 24)) return 25;
  info->attackerAdvantage = ~0ull;
  return 0;
}

#ifdef FABRIC
typedef struct {
  unsigned int version;
  unsigned char clusterUuid[16];
  int status;
  unsigned int cliqueId;
  unsigned char state;
  unsigned int healthMask;
  unsigned char healthSummary;
} nvmlGpuFabricInfo_v3_t;
typedef struct {
  unsigned int version;
  unsigned char clusterUuid[16];
  int status;
  unsigned int cliqueId;
  unsigned char state;
  unsigned int healthMask;
} nvmlGpuFabricInfo_v2_t;
int nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfo_v3_t* info) {
  int has = FABRIC == 3 ? sizeof(*info) | 3 << 24 : sizeof(nvmlGpuFabricInfo_v2_t) | 2 << 24;
  if (info->version != has) return 25;
  memset(info->clusterUuid, 0xab, 16);
  info->status = 0;
  info->cliqueId = 7;
  info->state = 3;
  info->healthMask = 2 | 2 << 2 | 1 << 4 | 4 << 8 | 1 << 12;
  if (FABRIC == 3) info->healthSummary = 3;
  return 0;
}
#endif

#ifdef EVIDENCE
typedef struct {
  unsigned int certSize, attestationCertSize;
  unsigned char cert[0x1000];
  unsigned char attestationCert[0x1400];
} nvmlConfComputeGpuCertificate_t;
int nvmlDeviceGetConfComputeGpuCertificate(
    nvmlDevice_t device, nvmlConfComputeGpuCertificate_t* certificate) {
  const char* pem = "-----BEGIN CERTIFICATE-----";
  certificate->attestationCertSize = CHAIN < 0 ? strlen(pem) : CHAIN;
  memcpy(certificate->attestationCert, pem, strlen(pem));
  return 0;
}
typedef struct {
  unsigned int isCecAttestationReportPresent, attestationReportSize, cecAttestationReportSize;
  unsigned char nonce[0x20];
  unsigned char attestationReport[0x2000];
  unsigned char cecAttestationReport[0x1000];
} nvmlConfComputeGpuAttestationReport_t;
static int stale = STALE;
int nvmlDeviceGetConfComputeGpuAttestationReport(
    nvmlDevice_t device, nvmlConfComputeGpuAttestationReport_t* report) {
  report->attestationReportSize = 100;
  memset(report->attestationReport, 0x11, 100);
  if (stale-- <= 0) memcpy(report->attestationReport + 4, report->nonce, 32);
  return EVIDENCE;
}
#endif
`;

type Macros = Readonly<Record<string, number>>;
const DEFAULTS: Macros = {
  INIT: 0,
  ARCH: 9,
  FEATURE: 1,
  MULTI: 0,
  STALE: 0,
  CHAIN: -1,
  DIFFERENT: 0,
};

const hasCompiler = spawnSync('gcc', ['--version']).status === 0;
let folder: string;
const compiled = new Map<string, string>();
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'nvml-'));
  writeFileSync(join(folder, 'stub.c'), STUB);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Compiles a variant; the options to read through it. */
function stub(macros: Macros): { libraryPath: string } {
  const defines = Object.entries({ ...DEFAULTS, ...macros }).map((pair) => `-D${pair.join('=')}`);
  const key = defines.toSorted().join(' ');
  const known = compiled.get(key);
  if (known !== undefined) return { libraryPath: known };
  const libraryPath = join(folder, `libnvml${compiled.size}.so`);
  const flags = ['-shared', '-fPIC', '-w', ...defines, join(folder, 'stub.c'), '-o', libraryPath];
  const result = spawnSync('gcc', flags, { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(result.stderr);
  compiled.set(key, libraryPath);
  return { libraryPath };
}

it.each(hasCompiler ? [] : ['stub libraries are not tested'])('without gcc, %s', () => {
  expect(hasCompiler).toBe(false);
});

it('says what is missing where there is no NVML', () => {
  const libraryPath = '/nonexistent/libnvidia-ml.so.1';
  expect(() => observeMachine({ libraryPath })).toThrow('comes with the NVIDIA driver');
});

const NONCE = new Uint8Array(32).fill(0x5a);

describe.each(hasCompiler ? ['compiled stub'] : [])('NVML by a %s', () => {
  it('is observed: settings, key rotation, NVLink', () => {
    const seen = observeMachine(stub({ SETTINGS: 0, MULTI: 1, FABRIC: 3 }));
    expect(seen).toMatchObject({
      driverVersion: '590.12',
      confidential: {
        environment: 'production',
        isOn: true,
        isDevTools: false,
        multiGpuMode: 'protected-pcie',
      },
      areGpusReady: true,
      keyRotationThreshold: String(2n ** 64n - 1n),
      gaps: [],
    });
    expect(seen.gpus.map(({ uuid }) => uuid)).toEqual(['GPU-a', 'GPU-b']);
    expect(seen.gpus[1]!.fabric).toEqual({
      state: 'completed',
      clusterUuid: 'ab'.repeat(16),
      cliqueId: 7,
      status: 0,
      summary: 'limited',
      isDegraded: false,
      isRouteRecovering: false,
      isRouteUnhealthy: true,
      isAccessTimingOut: null,
      isPartitionAssigned: true,
      incorrectConfiguration: 4,
    });
    expect(describeObservation(seen)).toContain(
      'GPU-0 fabric completed (limited, partition assigned)',
    );
  });

  it('is observed through the older calls of older drivers', () => {
    const seen = observeMachine(stub({ FABRIC: 2 }));
    expect(seen.confidential).toEqual({
      environment: 'simulation',
      isOn: true,
      isDevTools: true,
      multiGpuMode: null,
    });
    expect(seen.gpus[0]!.fabric).toMatchObject({ state: 'completed', summary: null });
    expect(observeMachine(stub({})).gpus[0]!.fabric).toBeNull();
  });

  it('is observed as to where NVLink addresses lead, by drivers that tell', () => {
    const tables = (defines: Readonly<Record<string, number>>) =>
      observeMachine(stub(defines)).gpus.map(({ remapTableSha256 }) => remapTableSha256);
    expect(tables({})).toEqual([undefined, undefined]);
    const words = [0x10, 0x11, 0x12, 0x20, 0x21, 0x22];
    const bytes = Buffer.from(Uint32Array.from(words).buffer);
    const digest = createHash('sha256').update(bytes).digest('hex');
    expect(tables({ REMAP: 3 })).toEqual([digest, digest]);
    expect(new Set(tables({ REMAP: 3, DIFFERENT: 1 })).size).toBe(2);
    const beyond = observeMachine(stub({ REMAP: 4097 }));
    expect(beyond.gpus[0]!.remapTableSha256).toBeUndefined();
    expect(beyond.gaps[0]).toMatch(/counts 4097 entries/);
    const nvml = new Nvml(stub({ REMAP: 3 }).libraryPath);
    const [handle] = nvml.handles() as bigint[];
    expect(nvml.lockRemapTable(handle!)).toEqual({ isLocked: true, isDisabled: false });
    expect(new Nvml(stub({}).libraryPath).lockRemapTable(handle!)).toBe(NVML.FUNCTION_NOT_FOUND);
  });

  it('is observed as to whether NVLink is encrypted, by drivers that tell', () => {
    const encrypted = (defines: Readonly<Record<string, number>>) =>
      observeMachine(stub(defines)).gpus.map(({ isNvlinkEncrypted }) => isNvlinkEncrypted);
    expect(encrypted({})).toEqual([undefined, undefined]);
    expect(encrypted({ REMAP: 3, NVLE: 0, NVLE_INFO: 200 })).toEqual([false, false]);
    const on = observeMachine(stub({ NVLE: 1, NVLE_INFO: 257 }));
    expect(on.gpus.map(({ isNvlinkEncrypted }) => isNvlinkEncrypted)).toEqual([true, true]);
    expect(describeObservation(on)).toContain('GPU-1 NVLink encryption on');
  });

  it('can be keyed by drivers that have the calls, each side of a pair with its own', () => {
    const nvml = new Nvml(stub({ REMAP: 3, NVLE: 0, NVLE_INFO: 200 }).libraryPath);
    expect(nvml.takesNvleKeys).toBe(true);
    const [one, two] = nvml.handles() as [bigint, bigint];
    expect(nvml.setNvleReady(one, true)).toBe(29);
    const infoOf = (handle: bigint) => nvml.nvlePrivateInfo(handle) as Buffer;
    const secret = Uint8Array.from({ length: 32 }, (_, i) => i);
    const [localInfo, remoteInfo] = [infoOf(one), infoOf(two)];
    const key = { secret, localAlid: 1, remoteAlid: 2, localInfo, remoteInfo };
    expect(nvml.setNvleKey(one, { ...key, localInfo: remoteInfo })).toBe(2);
    expect(nvml.setNvleKey(one, key)).toBe(NVML.SUCCESS);
    expect(nvml.setNvleReady(one, true)).toBe(NVML.SUCCESS);
    for (const wrong of [{ secret: secret.subarray(1) }, { localInfo: new Uint8Array(257) }]) {
      expect(() => nvml.setNvleKey(one, { ...key, ...wrong })).toThrow('it takes 32');
    }
    const beyond = new Nvml(stub({ NVLE: 1, NVLE_INFO: 257 }).libraryPath);
    expect(() => beyond.nvlePrivateInfo(one)).toThrow('counts 257 bytes');
    // A driver of today: none of it is there, and nothing is called.
    const older = new Nvml(stub({}).libraryPath);
    expect(older.takesNvleKeys).toBe(false);
    expect(older.nvlePrivateInfo(one)).toBe(NVML.FUNCTION_NOT_FOUND);
    expect(older.setNvleKey(one, key)).toBe(NVML.FUNCTION_NOT_FOUND);
    // A call that is missing among them is none: what is begun could not be ended.
    expect(beyond.takesNvleKeys).toBe(false);
  });

  it('names what fails', () => {
    const { gaps } = observeMachine(stub({ SETTINGS: 999 }));
    expect(gaps).toEqual(['nvmlSystemGetConfComputeSettings returned 999 (unknown error)']);
    expect(() => observeMachine(stub({ INIT: 9 }))).toThrow('driver not loaded');
  });

  it("gives evidence in the form of NVIDIA's SDK, with the nonce it was asked for", async () => {
    const [first, ...others] = await collectGpuEvidence(NONCE, stub({ EVIDENCE: 0 }));
    expect(others).toHaveLength(1);
    expect(first).toMatchObject({
      arch: 'HOPPER',
      nonce: toHex(NONCE),
      driver_version: '590.12',
      vbios_version: '96.00.A5.00.01',
      version: '1.0',
    });
    const report = fromBase64(first!.evidence, 'evidence');
    expect(report).toHaveLength(100);
    expect(report.subarray(4, 36)).toEqual(NONCE);
    expect(atob(first!.certificate)).toBe('-----BEGIN CERTIFICATE-----');
  });

  it("asks again for another process's report, and gives up in the end", async () => {
    const late = await collectGpuEvidence(NONCE, stub({ EVIDENCE: 0, STALE: 3, ARCH: 10 }));
    expect(late[0]!.arch).toBe('BLACKWELL');
    await expect(collectGpuEvidence(NONCE, stub({ EVIDENCE: 0, STALE: 9 }))).rejects.toMatchObject({
      code: 'nonce-mismatch',
    });
  });

  it.each<[string, Macros, string]>([
    ['confidential computing is off', { EVIDENCE: 3 }, 'confidential computing is off'],
    ['the driver does not know the call', {}, 'function not found'],
    ['the GPU is of another kind', { EVIDENCE: 0, ARCH: 8 }, 'architecture 8'],
    ['the chain has no length', { EVIDENCE: 0, CHAIN: 0 }, 'NVML gave 0 bytes'],
    ['the chain is longer than its room', { EVIDENCE: 0, CHAIN: 5121 }, 'NVML gave 5121 bytes'],
  ])('says when %s', async (_, macros, message) => {
    await expect(collectGpuEvidence(NONCE, stub(macros))).rejects.toThrow(message);
  });
});
