import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileLibrary, DRIVER_SIGNATURES, hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { openCudaPeers } from './cuda-peers.ts';
import { H200_PAIR } from './law.ts';
import { modelPeers } from './model-peers.ts';
import { probeFabric } from './probe.ts';
import { probeLines } from './text.ts';

const folder = mkdtempSync(join(tmpdir(), 'fabric-probe-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('on modelled GPUs', () => {
  test('finds the law that they follow', () => {
    const { law, links, pairs, findings } = probeFabric(modelPeers(H200_PAIR, 3), {
      floorBytesPerSecond: null,
    });
    expect(findings).toEqual([]);
    expect(links).toHaveLength(6);
    for (const { bothWaysReadBytesPerSecond } of pairs) {
      expect(bothWaysReadBytesPerSecond! / H200_PAIR.bothWaysBytesPerSecond).toBeCloseTo(1, 1);
    }
    for (const term of ['awaitedTollNs', 'bytesPerSecond', 'loadNs'] as const) {
      expect(law[term] / H200_PAIR[term]).toBeCloseTo(1, 2);
    }
    expect(law.bothWaysBytesPerSecond / H200_PAIR.bothWaysBytesPerSecond).toBeCloseTo(1, 1);
  });

  test('says which links are below a floor, and which are slower than others', () => {
    const peers = modelPeers(H200_PAIR, 2);
    expect(probeFabric(peers, { floorBytesPerSecond: 400e9 }).findings).toHaveLength(2);
    const uneven = {
      ...peers,
      copy: (...[moves, bytes, rounds]: Parameters<typeof peers.copy>) =>
        peers.copy(moves, moves[0]!.from === 1 ? 2 * bytes : bytes, rounds),
    };
    const { findings } = probeFabric(uneven, { floorBytesPerSecond: null });
    expect(findings).toEqual([expect.stringMatching(/^GPU 1 to 0: 198.5 GB\/s where the fastest/)]);
  });

  test('refuses to probe one GPU', () => {
    const options = { floorBytesPerSecond: null };
    expect(() => probeFabric(modelPeers(H200_PAIR, 1), options)).toThrow('1 GPU is visible');
  });
});

/** Two GPUs whose memory is real and whose copies are made at once; kernels do nothing. */
function stubDriver(name: string, reaches: 0 | 1, arrives: 0 | 1): string {
  const handle = '(u64* p) { *p = ++handles; return 0; }';
  const bodies: Readonly<Record<string, string>> = {
    cuDeviceGetCount: '(int* n) { *n = 2; return 0; }',
    cuDeviceGetName: '(char* t, int n, int d) { strcpy(t, "Stub"); return 0; }',
    cuDeviceGetAttribute: '(int* v, int w, int d) { *v = 132; return 0; }',
    cuDeviceCanAccessPeer: `(int* v, int a, int b) { *v = ${reaches}; return 0; }`,
    cuMemcpyPeerAsync:
      '(void* d, u64 dc, void* s, u64 sc, u64 n, u64 t)' +
      `{ if (${arrives}) memcpy(d, s, n); return 0; }`,
    cuDevicePrimaryCtxRetain: handle,
    cuStreamCreateWithPriority: handle,
    cuModuleLoadData: handle,
    cuModuleGetFunction: '(u64* f, u64 m, const char* n) { *f = ++handles; return 0; }',
    cuMemAlloc_v2: '(void** p, u64 n) { return posix_memalign(p, 256, n) ? 2 : 0; }',
    cuMemFree_v2: '(void* p) { free(p); return 0; }',
    cuMemsetD8Async: '(void* p, int v, u64 n, u64 s) { memset(p, v, n); return 0; }',
    cuMemcpyHtoDAsync_v2: '(void* d, void* h, u64 n, u64 s) { memcpy(d, h, n); return 0; }',
    cuMemcpyDtoHAsync_v2: '(void* h, void* d, u64 n, u64 s) { memcpy(h, d, n); return 0; }',
  };
  const functions = Object.keys(DRIVER_SIGNATURES).map(
    (each) => `int ${each}${bodies[each] ?? '() { return 0; }'}`,
  );
  return compileLibrary(
    folder,
    name,
    [
      '#include <stdlib.h>\n#include <string.h>',
      'typedef unsigned long long u64; static u64 handles;',
      ...functions,
      'int cuDeviceGetPCIBusId(char* t, int n, int d)',
      '{ strcpy(t, d ? "0000:2A:00.0" : "0000:1B:00.0"); return 0; }',
    ].join('\n'),
  );
}

describe.skipIf(!hasCompiler)('through the CUDA driver', () => {
  /** A clock on which everything takes some time. */
  const open = (driverPath: string) => {
    let now = 0;
    const nowNs = () => {
      now += 1e6;
      return now;
    };
    return openCudaPeers({ driverPath, copyBytesMax: 65_536, nowNs });
  };
  const probe = (path: string) => {
    const peers = open(path);
    try {
      return probeFabric(peers, { floorBytesPerSecond: null, copyBytesMax: 65_536 });
    } finally {
      peers.close();
    }
  };

  test('sends what both sides can tell, and finds nothing wrong', () => {
    const found = probe(stubDriver('cudafine', 1, 1));
    expect(found.findings).toEqual([]);
    expect(found.gpus).toEqual([
      { name: 'Stub', bdf: '0000:1b:00.0' },
      { name: 'Stub', bdf: '0000:2a:00.0' },
    ]);
    expect(probeLines(found).at(-1)).toBe('they reach each other as they should');
  });

  test('notices bytes that do not arrive', () => {
    const { findings } = probe(stubDriver('cudalost', 1, 0));
    expect(findings).toEqual([
      'GPU 0 to 1: what was sent is not what came',
      'GPU 1 to 0: what was sent is not what came',
    ]);
  });

  test('notices GPUs that cannot reach each other, and runs no kernel between them', () => {
    const { findings, links, pairs } = probe(stubDriver('cudaapart', 0, 1));
    expect(findings[0]).toMatch(/^GPU 0 to 1: no peer access/);
    expect(links[0]).toMatchObject({ loadNs: null, readBytesPerSecond: null });
    expect(pairs[0]).toMatchObject({ bothWaysWriteBytesPerSecond: null });
  });
});
