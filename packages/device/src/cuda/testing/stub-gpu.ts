import { join } from 'node:path';
import { CUDA, OutCell } from '@bridgekeeper/native';
import {
  CUBLASLT_SIGNATURES,
  compileLibrary,
  DRIVER_SIGNATURES,
  openNativeLibrary,
} from '@bridgekeeper/native/testing';

/**
 * What a stub GPU counted, and the last number that was written to let streams go. In the order of
 * its `stubRead`.
 */
const FACTS = [
  'launches',
  'compiledByCaller',
  'compiledElsewhere',
  'mostCompiledAtOnce',
  'events',
  'released',
  'peerCopies',
  'retained',
] as const;
const DRIVER_FACTS: readonly StubFact[] = [
  'launches',
  'events',
  'released',
  'peerCopies',
  'retained',
];
export type StubFact = (typeof FACTS)[number];

/**
 * libcuda, NVRTC and cuBLASLt as compiled stubs: a GPU of 80 GB, Hopper by default, whose memory is
 * real, whose copies are made when they are issued, and whose kernels and library products do
 * nothing. For tests of everything around kernels where no GPU is.
 */
export interface StubGpu {
  readonly driverPath: string;
  readonly nvrtcPath: string;
  /** For LD_LIBRARY_PATH: where NVRTC and cuBLASLt are found. */
  readonly folder: string;
  read(fact: StubFact): number;
  /** Whether threads that wait for a stream stand still. */
  stick(isStuck: boolean): void;
  /** Names of the translation units compiled so far, once for each variant. */
  compiledUnits(): readonly string[];
}

/** What a stub GPU says of itself. */
export interface StubTraits {
  readonly major: number;
  readonly minor: number;
  readonly multiprocessors: number;
  readonly sharedBytesOfBlock: number;
  readonly gpus: number;
  /** Every stream says that it has work to do. */
  readonly isBusy: boolean;
}

const HOPPER: StubTraits = {
  major: 9,
  minor: 0,
  multiprocessors: 132,
  sharedBytesOfBlock: 232_448,
  gpus: 1,
  isBusy: false,
};

const GIVES_HANDLE = ['cuCtxCreate_v2', 'cuStreamCreateWithPriority', 'cuModuleLoadData'];

const DRIVER_BODIES: Readonly<Record<string, string>> = {
  cuDriverGetVersion: '(int* v) { *v = 13000; return 0; }',
  cuDeviceGet: '(int* d, int ordinal) { *d = ordinal; return 0; }',
  cuDeviceCanAccessPeer: '(int* can, int from, int to) { *can = from != to; return 0; }',
  cuDeviceGetName: '(char* t, int n, int d) { strcpy(t, "Stub"); return 0; }',
  cuDevicePrimaryCtxRetain:
    '(u64* p, int d) { *p = ++handles; __sync_add_and_fetch(&retained, 1); return 0; }',
  cuDevicePrimaryCtxRelease_v2: '(int d) { __sync_sub_and_fetch(&retained, 1); return 0; }',
  cuMemGetInfo_v2: '(u64* f, u64* t) { *f = 80000000000ull; *t = 85000000000ull; return 0; }',
  cuMemAlloc_v2:
    '(void** p, u64 n) { return n > 1ull << 34 || posix_memalign(p, 256, n) ? 2 : 0; }',
  cuMemFree_v2: '(void* p) { free(p); return 0; }',
  cuMemHostAlloc: '(void** p, u64 n, int f) { return posix_memalign(p, 4096, n) ? 2 : 0; }',
  cuMemFreeHost: '(void* p) { free(p); return 0; }',
  cuMemsetD8Async: '(void* p, int v, u64 n, u64 s) { memset(p, v, n); return 0; }',
  cuMemcpyHtoDAsync_v2: '(void* d, void* h, u64 n, u64 s) { memcpy(d, h, n); return 0; }',
  cuMemcpyDtoHAsync_v2: '(void* h, void* d, u64 n, u64 s) { memcpy(h, d, n); return 0; }',
  cuMemcpyDtoDAsync_v2: '(void* t, void* f, u64 n, u64 s) { memcpy(t, f, n); return 0; }',
  cuMemcpyPeerAsync:
    '(void* t, u64 c, void* f, u64 d, u64 n, u64 s) { memcpy(t, f, n); peerCopies++; return 0; }',
  cuModuleGetFunction: '(u64* f, u64 m, const char* n) { *f = ++handles; return 0; }',
  cuStreamEndCapture: '(u64 s, u64* g) { *g = ++handles; return 0; }',
  cuGraphInstantiateWithFlags: '(u64* e, u64 g, u64 f) { *e = ++handles; return 0; }',
  cuEventCreate: '(u64* p) { *p = ++handles; __sync_add_and_fetch(&events, 1); return 0; }',
  cuStreamWriteValue32_v2: '(u64 s, u64 p, unsigned v, int f) { released = v; return 0; }',
  cuStreamSynchronize: '() { while (stuck) usleep(1000); return 0; }',
  cuLaunchKernelEx: '() { __sync_add_and_fetch(&launches, 1); return 0; }',
  ...Object.fromEntries(
    GIVES_HANDLE.map((name) => [name, '(u64* p) { *p = ++handles; return 0; }']),
  ),
};

function attributeBody({ major, minor, multiprocessors, sharedBytesOfBlock }: StubTraits): string {
  const values = [
    [CUDA.ATTRIBUTE_MAJOR, major],
    [CUDA.ATTRIBUTE_MINOR, minor],
    [CUDA.ATTRIBUTE_MULTIPROCESSORS, multiprocessors],
    [CUDA.ATTRIBUTE_SHARED_BYTES_OF_BLOCK, sharedBytesOfBlock],
  ];
  const cases = values.map(([which, value]) => `case ${which}: *v = ${value}; break;`);
  return `(int* v, int w, int d) { switch (w) { ${cases.join(' ')} default: *v = 1; } return 0; }`;
}

function driverSource(traits: StubTraits): string {
  const query = `() { return ${traits.isBusy ? CUDA.ERROR_NOT_READY : CUDA.SUCCESS}; }`;
  const bodies: typeof DRIVER_BODIES = {
    ...DRIVER_BODIES,
    cuDeviceGetAttribute: attributeBody(traits),
    cuDeviceGetCount: `(int* n) { *n = ${traits.gpus}; return 0; }`,
    cuStreamQuery: query,
  };
  const functions = Object.keys(DRIVER_SIGNATURES).map(
    (name) => `int ${name}${bodies[name] ?? '() { return 0; }'}`,
  );
  return [
    '#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>',
    'static volatile int stuck; int stubStick(int is) { stuck = is; return 0; }',
    'typedef unsigned long long u64; static u64 handles; ',
    'static int launches, events, released, peerCopies, retained;',
    ...functions,
    'int stubRead(int fact, int* out)',
    '{ int all[] = {launches, 0, 0, 0, events, released, peerCopies, retained};',
    '*out = all[fact]; return 0; }',
  ].join('\n');
}

/**
 * Compiles anything to three bytes, and sees on which threads, and how many at once: each waits a
 * moment for another.
 */
const NAMES_BYTES = 65_536;
const NVRTC_SOURCE = `
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static long caller;
static int onCaller, elsewhere, running, most;
static char names[${NAMES_BYTES}];
int nvrtcVersion(int* a, int* b) { *a = 13; *b = 0; return 0; }
int nvrtcCreateProgram(void** p, const char* s, const char* n, int c, void* h, void* i)
{ *p = (void*)1; caller = syscall(SYS_gettid); strcat(strcat(names, n), "\\n"); return 0; }
int nvrtcDestroyProgram(void** p) { return 0; }
int nvrtcCompileProgram(void* p, int n, void* o) {
  int now = __sync_add_and_fetch(&running, 1);
  if (now > most) most = now;
  for (int i = 0; i < 20 && most < 2; i++) usleep(10000);
  __sync_sub_and_fetch(&running, 1);
  __sync_add_and_fetch(syscall(SYS_gettid) == caller ? &onCaller : &elsewhere, 1);
  return 0;
}
int nvrtcGetCUBINSize(void* p, unsigned long* n) { *n = 3; return 0; }
int nvrtcGetCUBIN(void* p, char* c) { c[0] = 1; c[1] = 2; c[2] = 3; return 0; }
int nvrtcGetProgramLogSize(void* p, unsigned long* n) { *n = 1; return 0; }
int nvrtcGetProgramLog(void* p, char* c) { c[0] = 0; return 0; }
int stubRead(int fact, int* out)
{ *out = fact == 1 ? onCaller : fact == 2 ? elsewhere : most; return 0; }
int stubNames(char* out) { strcpy(out, names); return 0; }
`;

/** Supports no product: each is then a kernel of ours. */
function cublasLtSource(): string {
  const results: Readonly<Record<string, number>> = {
    cublasLtGetVersion: 130_100,
    cublasLtMatmulAlgoGetHeuristic: 15,
  };
  return Object.keys(CUBLASLT_SIGNATURES)
    .map((name) => `unsigned long ${name}() { return ${results[name] ?? 0}; }`)
    .join('\n');
}

/** Compiles the stubs into `folder`; what `traits` leaves out is as on a Hopper GPU. */
export function compileStubGpu(folder: string, traits: Partial<StubTraits> = {}): StubGpu {
  const driverPath = compileLibrary(folder, 'cuda', driverSource({ ...HOPPER, ...traits }));
  const nvrtcPath = compileLibrary(folder, 'nvrtc', NVRTC_SOURCE, '.so.13');
  compileLibrary(folder, 'cublasLt', cublasLtSource(), '.so.13');
  const [driver, nvrtc] = [driverPath, nvrtcPath].map((path) =>
    openNativeLibrary(path).bind({ stubRead: ['i32', 'pointer'] }),
  );
  const { stubStick } = openNativeLibrary(driverPath).bind({ stubStick: ['i32'] });
  const { stubNames } = openNativeLibrary(nvrtcPath).bind({ stubNames: ['pointer'] });
  return {
    driverPath: join(folder, 'libcuda.so'),
    nvrtcPath,
    folder,
    read: (fact) => {
      const cell = new OutCell();
      const index = FACTS.indexOf(fact);
      (DRIVER_FACTS.includes(fact) ? driver : nvrtc)!.stubRead(index, cell.bytes);
      return cell.i32;
    },
    stick: (isStuck) => {
      stubStick(isStuck ? 1 : 0);
    },
    compiledUnits: () => {
      const names = Buffer.alloc(NAMES_BYTES);
      stubNames(names);
      return names.toString('utf8', 0, names.indexOf(0)).split('\n').slice(0, -1);
    },
  };
}
