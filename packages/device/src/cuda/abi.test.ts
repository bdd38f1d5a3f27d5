import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { referenceProfile } from '@bridgekeeper/bridge';
import { addressOf, type Driver } from '@bridgekeeper/native';
import {
  compileLibrary,
  DRIVER_SIGNATURES,
  hasCompiler,
  openNativeLibrary,
} from '@bridgekeeper/native/testing';
import { viewNative } from '@bridgekeeper/native/threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LaunchConfiguration } from './launch/launch-configuration.ts';
import { ParameterBlock } from './launch/parameters.ts';
import { forbid, openDriver } from './native.ts';
import { cudaAvailability } from './observe/availability.ts';
import { openCudaDevice } from './open.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'abi-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const library = (name: string, source: string) => compileLibrary(folder, name, source);

/** A libcuda whose functions do what `bodies` say and otherwise return 0. */
function driverLibrary(
  name: string,
  bodies: Readonly<Record<string, string>>,
  without: readonly string[] = [],
): string {
  const functions = Object.keys(DRIVER_SIGNATURES)
    .filter((symbol) => !(symbol in bodies) && !without.includes(symbol))
    .map((symbol) => `int ${symbol}() { return 0; }`);
  return library(name, [...functions, ...Object.values(bodies)].join('\n'));
}

const NAMES = {
  cuGetErrorName: 'int cuGetErrorName(int e, const char** t) { *t = "CUDA_ERROR_X"; return 0; }',
  cuGetErrorString: 'int cuGetErrorString(int e, const char** t) { *t = "it broke"; return 0; }',
};
const failing = (name: string, code: number) => ({
  ...NAMES,
  [name]: `int ${name}() { return ${code}; }`,
});

/** Stands for the real library, compiled. Without a C compiler there is nothing to test against. */
describe.each(hasCompiler ? ['compiled stub'] : [])('the driver by a %s', () => {
  it('refuses what the law in force forbids, and only that', () => {
    const driver = openDriver(driverLibrary('forbidding', NAMES));
    const calls = () =>
      (['cuMemHostRegister_v2', 'cuEventElapsedTime'] as const).map((name) => {
        try {
          driver.call(
            name,
            ...(name === 'cuEventElapsedTime' ? [Buffer.alloc(4), 0n, 0n] : [0n, 0n, 0]),
          );
          return 'called';
        } catch (error) {
          return (error as { code: string }).code;
        }
      });
    expect(calls()).toEqual(['called', 'called']);
    forbid(driver, ['host-registration']);
    expect(calls()).toEqual(['forbidden-under-cc', 'called']);
    forbid(driver, referenceProfile('b300-cc').forbidden);
    expect(calls()).toEqual(['forbidden-under-cc', 'forbidden-under-cc']);
  });

  it('names the function that is missing', () => {
    const path = driverLibrary('partial', {}, ['cuGraphLaunch']);
    expect(() => openDriver(path)).toThrow(expect.objectContaining({ code: 'library-missing' }));
    expect(() => openDriver(path)).toThrow(/cuGraphLaunch.*driver 525/);
  });

  it.each([
    [100, 'no-device', 'nvidia-smi'],
    [34, 'no-device', 'stub libcuda'],
    [802, 'launch-failed', 'conf-compute -srs 1'],
    [2, 'out-of-memory', 'CUDA_ERROR_X: it broke'],
  ])('says what status %i of cuInit means', (status, code, text) => {
    const path = driverLibrary(`init${status}`, failing('cuInit', status));
    expect(() => openDriver(path)).toThrow(expect.objectContaining({ code }));
    expect(() => openDriver(path)).toThrow(text);
    expect(() => openDriver(path)).toThrow(`cuInit returned ${status}`);
  });

  it('refuses a GPU that is not there', async () => {
    const path = driverLibrary('empty', {
      cuDeviceGetCount: 'int cuDeviceGetCount(int* n) { *n = 1; return 0; }',
    });
    const opening = openCudaDevice({ driverPath: path, ordinal: 1 });
    await expect(opening).rejects.toMatchObject({ code: 'no-device' });
  });

  it('names the GPU and its UUID as nvidia-smi writes them', () => {
    const path = driverLibrary('identity', {
      cuDeviceGetCount: 'int cuDeviceGetCount(int* n) { *n = 2; return 0; }',
      cuDeviceGet: 'int cuDeviceGet(int* d, int n) { *d = n; return 0; }',
      cuDeviceGetName:
        'int cuDeviceGetName(char* t, int n, int d) { t[0] = 65; t[1] = 0; return n < 2; }',
      cuDeviceGetUuid:
        'int cuDeviceGetUuid(unsigned char* u, int d) ' +
        '{ for (int i = 0; i < 16; i++) u[i] = i * 17 + d; return 0; }',
    });
    const gpus = [
      { name: 'A', uuid: 'GPU-00112233-4455-6677-8899-aabbccddeeff' },
      { name: 'A', uuid: 'GPU-01122334-4556-6778-899a-abbccddeef00' },
    ];
    const detail = '2 NVIDIA GPUs';
    expect(cudaAvailability(path)).toEqual({ available: true, detail, gpu: gpus[0], gpus });
    const failed = driverLibrary('unidentified', failing('cuDeviceGetCount', 100));
    expect(cudaAvailability(failed)).toMatchObject({ available: false, gpu: null, gpus: [] });
  });

  it('passes 64-bit handles and sizes whole', () => {
    const driver = openDriver(
      driverLibrary('wide', {
        cuMemAlloc_v2:
          'int cuMemAlloc_v2(unsigned long long* p, unsigned long long n) ' +
          '{ *p = 0xfedcba9876543210ull ^ n; return 0; }',
        cuMemFree_v2:
          'int cuMemFree_v2(unsigned long long p) { return p != 0xfedcba9876543210ull; }',
      }),
    );
    const bytes = 2 ** 40 + 5;
    const { pointer } = driver.read('cuMemAlloc_v2', bytes);
    expect(pointer).toBe(0xfedcba9876543210n ^ BigInt(bytes));
    driver.call('cuMemFree_v2', 0xfedcba9876543210n);
    expect(() => driver.call('cuMemFree_v2', 1n)).toThrow('cuMemFree_v2 returned 1');
  });

  it('tells work that goes on from work that failed', () => {
    const query = (code: number): Driver =>
      openDriver(driverLibrary(`query${code}`, failing('cuEventQuery', code)));
    expect(query(0).isEventDone(1n)).toBe(true);
    expect(query(600).isEventDone(1n)).toBe(false);
    expect(() => query(700).isEventDone(1n)).toThrow('CUDA_ERROR_X');
  });

  it('packs kernel parameters as C lays them out', () => {
    const path = library(
      'layout',
      `#include <string.h>
       struct pages { void* table; int a, b, c; };
       struct shape { struct pages pages; int d; float e; };
       struct all { void* p; int i; void* q; float f; struct shape shape; };
       int check(void** extra, unsigned long long size) {
         if (extra[0] != (void*)1 || extra[2] != (void*)2 || extra[4] != 0) return 1;
         if (*(size_t*)extra[3] != size) return 2;
         struct all* x = extra[1];
         if (x->p != (void*)0x1122334455667788 || x->i != -5) return 3;
         if (x->q != (void*)9 || x->f != 0.5f) return 4;
         struct shape* s = &x->shape;
         if (s->pages.table != (void*)7 || s->pages.c != 3) return 5;
         return s->d == 4 && s->e == -2.0f ? 0 : 6;
       }`,
    );
    const { check } = openNativeLibrary(path).bind({ check: ['pointer', 'u64'] });
    const block = new ParameterBlock()
      .start()
      .pointers(0x1122334455667788n)
      .ints(-5)
      .pointers(9n)
      .floats(0.5)
      // A struct starts where its widest member may.
      .pointers(7n)
      .ints(1, 2, 3, 0, 4)
      .floats(-2);
    expect(check(block.finish(), 64)).toBe(0);
  });

  it('a launch has its shape, its stream and its attributes where cuda.h has them', () => {
    const path = library(
      'launching',
      `typedef struct { int id; char pad[4]; union { char pad[64]; int one; unsigned xyz[3]; } v; }
         Attribute;
       typedef struct { unsigned grid[3], block[3], shared; void *stream; Attribute *attributes;
         unsigned count; } Configuration;
       int check(const Configuration *c, int attributes) {
         const Attribute *a = c->attributes;
         if (sizeof(Configuration) != 56 || sizeof(Attribute) != 72) return 1;
         if (c->grid[0] != 7 || c->grid[1] != 2 || c->grid[2] != 1) return 2;
         if (c->block[0] != 96 || c->block[1] != 1 || c->block[2] != 1) return 3;
         if (c->shared != 4096 || c->stream != (void *)0x1234) return 4;
         if (c->count != attributes) return 5;
         if (attributes > 0 && (a[0].id != 6 || a[0].v.one != 1)) return 6;
         if (attributes < 2) return 0;
         return a[1].id == 4 && a[1].v.xyz[0] == 2 && a[1].v.xyz[1] == 1 && a[1].v.xyz[2] == 1
           ? 0 : 7;
       }`,
    );
    const { check } = openNativeLibrary(path).bind({ check: ['pointer', 'i32'] });
    const shape = { grid: [7, 2], threads: 96, sharedBytes: 4096 } as const;
    const hopper = new LaunchConfiguration(0x1234n, true);
    expect(check(hopper.fill({ ...shape, clusterBlocks: 2 }), 2)).toBe(0);
    expect(check(hopper.fill(shape), 1)).toBe(0);
    expect(check(new LaunchConfiguration(0x1234n, false).fill(shape), 0)).toBe(0);
  });
});

describe('native memory', () => {
  it('is seen by view and by address alike', () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(64));
    viewNative(addressOf(bytes), 64)[5] = 77;
    expect(bytes[5]).toBe(77);
  });

  it('says which driver library cannot be opened, and what to do', async () => {
    const opening = openCudaDevice({ driverPath: '/nowhere/libcuda.so.1' });
    await expect(opening).rejects.toMatchObject({ code: 'library-missing' });
    await expect(opening).rejects.toThrow('/nowhere/libcuda.so.1');
    await expect(opening).rejects.toThrow('install the driver');
  });
});
