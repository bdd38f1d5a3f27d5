#pragma once
#include "row-layout.h"

// bf16 in memory, f32 in registers. No CUDA headers are needed: NVRTC alone compiles these sources.

typedef unsigned short bf16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define WARP_LANES 32
#define FULL_WARP 0xffffffffu
/** Softmaxes work in powers of two. */
#define LOG2_E 1.4426950408889634f

// Programmatic dependent launch: a kernel may start while the one before it on the stream still
// runs. Every kernel of ours therefore calls awaitEarlier in every thread, before it touches
// anything that an earlier kernel writes or reads and before any return; only what never changes
// while steps run (weights) may be read before. Work that is queued behind it may start as soon as
// every block has called letNextStart or has ended.
__device__ inline void awaitEarlier() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ inline void letNextStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

__device__ inline float widen(bf16 value) { return __uint_as_float((u32)value << 16); }
__device__ inline float widenLow(u32 pair) { return __uint_as_float(pair << 16); }
__device__ inline float widenHigh(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

/** Two floats as a pair of bf16, rounded to nearest even; `low` comes first in memory. */
__device__ inline u32 narrowPair(float low, float high) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ inline bf16 narrow(float value) { return (bf16)(narrowPair(value, 0.0f) & 0xffffu); }

/** The floats of 16 bytes of bf16. */
__device__ inline void widen8(uint4 packed, float (&values)[8]) {
  const u32 words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    values[2 * i] = widenLow(words[i]);
    values[2 * i + 1] = widenHigh(words[i]);
  }
}
__device__ inline uint4 narrow8(const float (&values)[8]) {
  return make_uint4(narrowPair(values[0], values[1]), narrowPair(values[2], values[3]),
                    narrowPair(values[4], values[5]), narrowPair(values[6], values[7]));
}

/** A row's index, or -1 for padding and for anything outside the batch. */
__device__ inline int checkedRow(int row, int maxRows) {
  return (u32)row < (u32)maxRows ? row : -1;
}

__device__ inline float warpSum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    value += __shfl_xor_sync(FULL_WARP, value, offset);
  }
  return value;
}

/** The sum over a block, the same in every thread and in every run. All threads call it. */
__device__ inline float blockSum(float value) {
  __shared__ float partial[WARP_LANES];
  const int lane = threadIdx.x % WARP_LANES;
  const int warps = (blockDim.x + WARP_LANES - 1) / WARP_LANES;
  value = warpSum(value);
  __syncthreads();
  if (lane == 0) partial[threadIdx.x / WARP_LANES] = value;
  __syncthreads();
  return warpSum(lane < warps ? partial[lane] : 0.0f);
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }
__device__ inline float silu(float x) { return x / (1.0f + __expf(-x)); }
/** Gaussian error linear units in the form with tanh, which is 2 sigmoid(2 x) - 1. */
__device__ inline float geluTanh(float x) {
  return x * sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
}

// random.ts, bit for bit.

__device__ inline u32 mix32(u32 x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}
__device__ inline u32 hash32(u32 seedLo, u32 seedHi, u32 counter) {
  const u32 low = mix32(seedLo ^ mix32(seedHi + 0x9e3779b9u));
  return mix32(counter * 0x9e3779b9u + low);
}

/** Vectors of a line of qkv for each KV head: LineKv of ops.ts. */
#ifndef LINE_KV
#define LINE_KV 2
#endif

/** Where the pages of a layer hold a position. See KvGeometry in ops.ts. */
struct KvPages {
  const int* table;
  /** Where in a page the layer's keys begin, and how much a page is, in elements. */
  int layerElement;
  int pageElements;
  int kvHeads;
  int pageTokens;
  int pagesPerRow;
  int pages;

  /** Positions that a row's page table reaches. */
  __device__ int reach() const { return pagesPerRow * pageTokens; }

};

/**
 * The keys of one KV head of one row: what does not change from position to position, worked out
 * once.
 */
struct HeadPages {
  const int* table;
  int pages;
  int pageTokens;
  /** log2 of pageTokens where it has one, else -1. */
  int shift;
  int width;
  i64 pageStride;
  i64 base;
  /** From a key to its value. */
  i64 valueStride;

  /** `unit` elements are counted as one. */
  __device__ HeadPages(const KvPages& all, int row, int head, int headDim, int unit = 1) {
    table = all.table + (i64)row * all.pagesPerRow;
    pages = all.pages;
    pageTokens = all.pageTokens;
    shift = (pageTokens & (pageTokens - 1)) == 0 ? 31 - __clz(pageTokens) : -1;
    width = headDim / unit;
    valueStride = (i64)all.kvHeads * pageTokens * width;
    pageStride = all.pageElements / unit;
    base = all.layerElement / unit + (i64)head * pageTokens * width;
  }

  /** Element offset of a position's key; -1 when the table names no page of ours. */
  __device__ i64 offset(int position) const {
    const int index = shift >= 0 ? position >> shift : position / pageTokens;
    const int page = table[index];
    if ((u32)page >= (u32)pages) return -1;
    return page * pageStride + base + (position - index * pageTokens) * width;
  }
};
