import type { Clock } from '@bridgekeeper/bridge';
import { CublasLt, type Driver, OutCell } from '@bridgekeeper/native';
import {
  CUBLASLT_SIGNATURES,
  compileLibrary,
  DRIVER_SIGNATURES,
  openNativeLibrary,
} from '@bridgekeeper/native/testing';
import { deviceErrorOf, openDriver } from '../native.ts';

/** What the stub's heuristic proposes: an algorithm of its own making. */
export interface Offer {
  readonly costNs: number;
  /** cublasLtReductionScheme_t */
  readonly reduction?: number;
  /** cublasStatus_t of the proposal. */
  readonly state?: number;
  readonly workspaceBytes?: number;
  /** The proposal is taken back at its launch. */
  readonly isRefused?: boolean;
  /** Proposed for this count alone, though taken for any. */
  readonly count?: number;
}

/** What the stub counts. In the order of its `stubRead`. */
const FACTS = ['nowNs', 'launches', 'algorithm', 'repeats', 'beta', 'bias', 'alive'] as const;
type Fact = (typeof FACTS)[number];

/** libcuda and libcublasLt as one compiled library in which time passes only by launches. */
export interface MatmulStub {
  readonly driver: Driver;
  readonly lt: CublasLt;
  readonly clock: Clock;
  readonly stream: bigint;
  read(fact: Fact): number;
  /** As when it was opened. */
  reset(): void;
  /** Proposed from now on, in order. */
  offer(offers: readonly Offer[]): void;
  /** Every `period`th launch of a graph takes `percent` more time. */
  disturb(period: number, percent: number): void;
  /** As a CUgraphExec. */
  capture(record: () => void): { readonly handle: bigint };
}

/**
 * Algorithms hold their number, cost, reduction and refusal. `repeats` counts launches in a
 * graph that follow one of the same weight, `alive` descriptors, layouts and graphs that were made
 * and not destroyed.
 */
const SOURCE = `
#include <string.h>
typedef unsigned long long u64;
struct algo { int id, cost, reduction, refused; int rest[12]; };
struct result { struct algo algo; u64 workspace; int state; float waves; int reserved[4]; };
static struct result offers[64]; static u64 counts[64]; static int offered;
static u64 weight, facts[7], graphs[4096], columns[4096], recorded;
static int capturing, period, percent, replays, made;
enum { NOW, LAUNCHES, ALGORITHM, REPEATS, BETA, BIAS, ALIVE };
int stubRead(int which, u64* value) { *value = facts[which]; return 0; }
int stubReset() {
  memset(facts, 0, sizeof facts);
  offered = capturing = period = replays = 0;
  return 0;
}
int stubClear() { offered = 0; return 0; }
int stubOffer(int cost, int reduction, int state, u64 workspace, int refused,
              u64 count) {
  struct result r = { { offered + 1, cost, reduction, refused }, workspace, state };
  counts[offered] = count; offers[offered++] = r; return 0;
}
int stubDisturb(int p, int more) { period = p; percent = more; replays = 0; return 0; }
int cublasLtGetVersion() { return 130100; }
int cublasLtMatmulAlgoGetHeuristic(u64 h, u64 d, u64 a, u64 b, u64 c, u64 e, u64 p, int n,
                                   struct result* r, int* found) {
  *found = 0;
  for (int i = 0; i < offered && *found < n; i++)
    if (counts[i] == 0 || counts[i] == columns[b % 4096]) r[(*found)++] = offers[i];
  return *found ? 0 : 15;
}
int cublasLtMatmulAlgoCheck(u64 h, u64 d, u64 a, u64 b, u64 c, u64 e, struct algo* x,
                            struct result* r) {
  for (int i = 0; i < offered; i++)
    if (memcmp(&offers[i].algo, x, sizeof *x) == 0) { *r = offers[i]; return 0; }
  return 7;
}
int cublasLtMatmulAlgoConfigGetAttribute(struct algo* x, int which, int* value, u64 size,
                                         u64* written) {
  if (which != 3 || size != 4) return 7;
  *value = x->reduction; *written = 4; return 0;
}
int cublasLtMatmulDescSetAttribute(u64 d, int which, void* value, u64 size) {
  if (which == 8) facts[BIAS] = *(u64*)value;
  return 0;
}
static int make(u64* p) { *p = ++made; facts[ALIVE]++; return 0; }
static int end() { facts[ALIVE]--; return 0; }
int cublasLtMatmulDescCreate(u64* p) { return make(p); }
int cublasLtMatrixLayoutCreate(u64* p, int type, u64 rows, u64 count, u64 line) {
  make(p); columns[*p % 4096] = count; return 0;
}
int cublasLtMatmulDescDestroy(u64 p) { return end(); }
int cublasLtMatrixLayoutDestroy(u64 p) { return end(); }
int cublasLtMatmul(u64 h, u64 d, float* alpha, u64 a, u64 ad, u64 b, u64 bd, float* beta, u64 c,
                   u64 cd, u64 out, u64 outd, struct algo* x, u64 w, u64 ws, u64 stream) {
  if (c != out || cd != outd || *alpha != 1) return 7;
  if (x->refused) return 15;
  if (capturing && weight == a) facts[REPEATS]++;
  weight = a;
  facts[LAUNCHES]++; facts[ALGORITHM] = x->id; facts[BETA] = *beta;
  if (capturing) recorded += x->cost; else facts[NOW] += x->cost;
  return 0;
}
int cuStreamBeginCapture_v2() { capturing = 1; recorded = weight = 0; return 0; }
int cuStreamEndCapture(u64 s, u64* g) { capturing = 0; *g = 1; return 0; }
int cuGraphInstantiateWithFlags(u64* g) {
  make(g); graphs[*g % 4096] = recorded; return 0;
}
int cuGraphExecDestroy(u64 g) { return end(); }
int cuGraphLaunch(u64 g, u64 s) {
  u64 time = graphs[g % 4096];
  facts[NOW] += period && ++replays % period == 0 ? time + time * percent / 100 : time;
  return 0;
}
`;

/** The bytes of the algorithm that is offered as the `number`th, counted from 1. */
export function algorithmOf(number: number, { costNs, reduction = 0, isRefused }: Offer): Buffer {
  const bytes = Buffer.alloc(64);
  [number, costNs, reduction, isRefused ? 1 : 0].forEach((value, index) => {
    bytes.writeInt32LE(value, 4 * index);
  });
  return bytes;
}

/** Compiles the stub into `folder` and opens it. */
export function openMatmulStub(folder: string): MatmulStub {
  const rest = [...Object.keys(DRIVER_SIGNATURES), ...Object.keys(CUBLASLT_SIGNATURES)]
    .filter((symbol) => !SOURCE.includes(`int ${symbol}(`))
    .map((symbol) => `int ${symbol}() { return 0; }`);
  const path = compileLibrary(folder, 'matmul', [SOURCE, ...rest].join('\n'));
  const stub = openNativeLibrary(path).bind({
    stubRead: ['i32', 'pointer'],
    stubReset: [],
    stubClear: [],
    stubOffer: ['i32', 'i32', 'i32', 'u64', 'i32', 'u64'],
    stubDisturb: ['i32', 'i32'],
  });
  const driver = openDriver(path);
  const read = (fact: Fact) => {
    const cell = new OutCell();
    stub.stubRead(FACTS.indexOf(fact), cell.bytes);
    return cell.size;
  };
  const stream = 77n;
  return {
    driver,
    read,
    lt: new CublasLt(path, deviceErrorOf),
    clock: { nowNs: () => read('nowNs'), sleepUntilNs: async () => {} },
    stream,
    reset: () => void stub.stubReset(),
    offer(offers: readonly Offer[]) {
      stub.stubClear();
      for (const { costNs, count = 0, ...rest } of offers) {
        const { reduction = 0, state = 0, workspaceBytes = 0, isRefused } = rest;
        stub.stubOffer(costNs, reduction, state, workspaceBytes, isRefused ? 1 : 0, count);
      }
    },
    disturb: (period: number, percent: number) => void stub.stubDisturb(period, percent),
    capture(record: () => void) {
      driver.call('cuStreamBeginCapture_v2', stream, 1);
      const graph = new OutCell();
      try {
        record();
      } finally {
        driver.call('cuStreamEndCapture', stream, graph.bytes);
      }
      return { handle: driver.read('cuGraphInstantiateWithFlags', graph.pointer, 0).pointer };
    },
  };
}
