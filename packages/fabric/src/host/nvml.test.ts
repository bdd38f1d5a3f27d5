import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Nvml } from '@bridgekeeper/native';
import { compileLibrary, hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { driverViewOf, readHealthMask } from './nvml.ts';

const folder = mkdtempSync(join(tmpdir(), 'fabric-nvml-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('a health mask', () => {
  test('of 0xaa is healthy: four faults are said not to be', () => {
    expect(readHealthMask(0xaa)).toEqual({ unhealthy: [], isPartitionAssigned: null });
    expect(readHealthMask(0)).toEqual({ unhealthy: [], isPartitionAssigned: null });
  });

  test('says each fault in words, and whether there is a partition', () => {
    expect(readHealthMask(0x1a9)).toEqual({
      unhealthy: ['its bandwidth is degraded'],
      isPartitionAssigned: null,
    });
    expect(readHealthMask(0x14aa).unhealthy).toEqual(['it is in no partition']);
    expect(readHealthMask(0x255).unhealthy).toHaveLength(5);
    expect(readHealthMask(0xfaa).unhealthy).toEqual(['its configuration is wrong (15)']);
    expect(readHealthMask(0x10aa).isPartitionAssigned).toBe(true);
    expect(readHealthMask(0x20aa).isPartitionAssigned).toBe(false);
  });
});

describe.skipIf(!hasCompiler)('a GPU by NVML', () => {
  const open = (name: string, moduleId: number, fabric: string) =>
    new Nvml(
      compileLibrary(
        folder,
        name,
        `
        #include <string.h>
        typedef unsigned long long u64; typedef unsigned u32;
        int nvmlInit_v2(void) { return 0; }
        int nvmlDeviceGetHandleByPciBusId_v2(const char* t, u64* h)
        { *h = 7; return strcmp(t, "0000:1b:00.0") ? 6 : 0; }
        int nvmlDeviceGetModuleId(u64 h, u32* m) { *m = ${moduleId}; return 0; }
        int nvmlDeviceGetPdi(u64 h, u32* p)
        { if (p[0] != 0x01000010) return 25; *(u64*)(p + 2) = 0xabcdef; return 0; }
        int nvmlDeviceGetGpuFabricInfoV(u64 h, unsigned char* f) { ${fabric} }
        int nvmlDeviceGetNvLinkInfo(u64 h, u32* i)
        { if (i[0] != 0x01000008) return 25; i[1] = ${moduleId} == 5; return 0; }
        int nvmlDeviceGetComputeRunningProcesses_v3(u64 h, u32* n, u32* p)
        { *n = 1; p[0] = 4242; return 0; }
        `,
      ),
    );

  test('has place, identity, fabric and processes', () => {
    // The second version alone, as older drivers have it.
    const fabric = `
      if (*(u32*)f != 0x02000024) return 25;
      f[28] = 3; *(u32*)(f + 32) = 0x10aa; return 0;`;
    expect(driverViewOf(open('nvmlone', 5, fabric), '0000:1b:00.0')).toEqual({
      moduleId: 5,
      identity: '0000000000abcdef',
      fabric: { state: 'completed', status: 0, unhealthy: [], isPartitionAssigned: true },
      encryption: { isOn: true, takesKeys: false },
      processes: [4242],
    });
  });

  test('is not there while it is bound for a guest, and zero is no place', () => {
    const nvml = open('nvmltwo', 0, 'return 3;');
    expect(driverViewOf(nvml, '0000:2a:00.0')).toBeNull();
    expect(driverViewOf(nvml, '0000:1b:00.0')).toMatchObject({ moduleId: null, fabric: null });
  });
});
