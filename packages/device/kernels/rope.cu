#include "common.cuh"

struct RopeShape {
  KvPages pages;
  int tableRows;
  int count;
  int heads;
  int headDim;
  int maxPositions;
  float epsilon;
};

/** 1 / rms of a head, or 1 without a norm. All lanes get it. */
__device__ float headFactor(const bf16* head, const bf16* norm, int headDim, float epsilon) {
  if (norm == nullptr) return 1.0f;
  float sum = 0.0f;
  for (int i = threadIdx.x % WARP_LANES; i < headDim; i += WARP_LANES) {
    const float value = widen(head[i]);
    sum += value * value;
  }
  return rsqrtf(warpSum(sum) / (float)headDim + epsilon);
}

/** Normalises and rotates a head in place; a copy goes to `page` unless that is null. One warp. */
__device__ void rotateHead(bf16* head, const bf16* norm, const float2* angles, int headDim,
                           float epsilon, bf16* page) {
  const float factor = headFactor(head, norm, headDim, epsilon);
  const int half = headDim / 2;
  for (int i = threadIdx.x % WARP_LANES; i < half; i += WARP_LANES) {
    const float2 angle = angles[i];
    const float low = widen(head[i]) * factor * (norm ? widen(norm[i]) : 1.0f);
    const float high = widen(head[i + half]) * factor * (norm ? widen(norm[i + half]) : 1.0f);
    const bf16 first = narrow(low * angle.x - high * angle.y);
    const bf16 second = narrow(high * angle.x + low * angle.y);
    head[i] = first;
    head[i + half] = second;
    if (page != nullptr) {
      page[i] = first;
      page[i + half] = second;
    }
  }
}

/** One warp for each head of q, k and v of each token. */
extern "C" __global__ void rope_write_kv(bf16* qkv, const bf16* queryNorm, const bf16* keyNorm,
                                         const float2* rope, bf16* kv, const int* tokenRows,
                                         const int* positions, RopeShape shape) {
  const KvPages& pages = shape.pages;
  const int slots = shape.heads + 2 * pages.kvHeads;
  const i64 index = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / WARP_LANES;
  const int token = (int)(index / slots);
  const int slot = (int)(index % slots);
  if (token >= shape.count) return;
  const int row = checkedRow(tokenRows[token], shape.tableRows);
  const int position = positions[token];
  if (row < 0 || (u32)position >= (u32)min(pages.reach(), shape.maxPositions)) return;

  bf16* head = qkv + index * shape.headDim;
  const float2* angles = rope + (i64)position * (shape.headDim / 2);
  if (slot < shape.heads) {
    rotateHead(head, queryNorm, angles, shape.headDim, shape.epsilon, nullptr);
    return;
  }
  const int isValue = slot >= shape.heads + pages.kvHeads;
  const int kvHead = slot - shape.heads - isValue * pages.kvHeads;
  const HeadPages keys(pages, row, kvHead, shape.headDim);
  const i64 offset = keys.offset(position);
  bf16* page = offset < 0 ? nullptr : kv + offset + isValue * keys.valueStride;
  if (!isValue) {
    rotateHead(head, keyNorm, angles, shape.headDim, shape.epsilon, page);
  } else if (page != nullptr) {
    for (int i = threadIdx.x % WARP_LANES; i < shape.headDim; i += WARP_LANES) page[i] = head[i];
  }
}
