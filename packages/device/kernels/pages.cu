#include "common.cuh"

// Pages that move together cross together: what lies apart in KV is put side by side in staging,
// and back. Sizes are in vectors of 16 bytes. blockIdx.y is the page, blockIdx.x a share of it.

/** PAGES_PER_LAUNCH of operations/pages.ts. */
constexpr int PAGES_PER_LAUNCH = 64;

struct PageList {
  int pages[PAGES_PER_LAUNCH];
};

extern "C" __global__ void gather_pages(const uint4* kv, uint4* out, i64 pageVectors,
                                        i64 fromVector, i64 partVectors, PageList list) {
  letNextStart();
  awaitEarlier();
  const uint4* source = kv + list.pages[blockIdx.y] * pageVectors + fromVector;
  uint4* target = out + blockIdx.y * partVectors;
  const i64 stride = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < partVectors; i += stride) {
    target[i] = source[i];
  }
}

extern "C" __global__ void scatter_pages(const uint4* input, uint4* kv, i64 pageVectors,
                                         i64 fromVector, i64 partVectors, PageList list) {
  letNextStart();
  awaitEarlier();
  const uint4* source = input + blockIdx.y * partVectors;
  uint4* target = kv + list.pages[blockIdx.y] * pageVectors + fromVector;
  const i64 stride = (i64)gridDim.x * blockDim.x;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < partVectors; i += stride) {
    target[i] = source[i];
  }
}
