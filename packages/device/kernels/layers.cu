#include "common.cuh"
#if __CUDA_ARCH__ >= 890
#include "fp8.cuh"
#endif

extern "C" __global__ void embed(const bf16* table, const int* tokens, bf16* out, int width,
                                 int vocab, float scale) {
  letNextStart();
  awaitEarlier();
  const int token = tokens[blockIdx.x];
  const bf16* source = table + (i64)((u32)token < (u32)vocab ? token : 0) * width;
  bf16* target = out + (i64)blockIdx.x * width;
  if (scale != 1.0f) {
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
      target[i] = narrow(scale * widen(source[i]));
    }
  } else if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      ((uint4*)target)[i] = ((const uint4*)source)[i];
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) target[i] = source[i];
  }
}

/** Lines of `bytes`; an index outside [0, lines) leaves its line alone. */
extern "C" __global__ void select_lines(const bf16* input, const int* indices, bf16* out, int width,
                                        int lines) {
  letNextStart();
  awaitEarlier();
  const int index = indices[blockIdx.x];
  if ((u32)index >= (u32)lines) return;
  const bf16* source = input + (i64)index * width;
  bf16* target = out + (i64)blockIdx.x * width;
  if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      ((uint4*)target)[i] = ((const uint4*)source)[i];
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) target[i] = source[i];
  }
}

/** The sum of the squares of this thread's part of a line. */
__device__ float squares(const bf16* line, int width) {
  float sum = 0.0f;
  if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      float values[8];
      widen8(((const uint4*)line)[i], values);
      for (int j = 0; j < 8; j++) sum += values[j] * values[j];
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum += widen(line[i]) * widen(line[i]);
  }
  return sum;
}

/** A block a line. */
extern "C" __global__ void rms_norm(const bf16* input, const bf16* norm, bf16* out, int width,
                                    float epsilon, float normOffset) {
  letNextStart();
  awaitEarlier();
  const bf16* line = input + (i64)blockIdx.x * width;
  bf16* target = out + (i64)blockIdx.x * width;
  const float factor = rsqrtf(blockSum(squares(line, width)) / (float)width + epsilon);
  if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      float values[8], weights[8];
      widen8(((const uint4*)line)[i], values);
      widen8(((const uint4*)norm)[i], weights);
      for (int j = 0; j < 8; j++) values[j] *= factor * (weights[j] + normOffset);
      ((uint4*)target)[i] = narrow8(values);
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
      target[i] = narrow(widen(line[i]) * factor * (widen(norm[i]) + normOffset));
    }
  }
}

/** A block a line: out = input * norm at length 1. An index outside [0, lines) leaves its line. */
extern "C" __global__ void pool_lines(const bf16* input, const int* indices, const bf16* norm,
                                      float* out, int width, int lines, float normOffset) {
  letNextStart();
  awaitEarlier();
  const int index = indices[blockIdx.x];
  if ((u32)index >= (u32)lines) return;
  const bf16* line = input + (i64)index * width;
  float* target = out + (i64)blockIdx.x * width;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const float value = widen(line[i]) * (widen(norm[i]) + normOffset);
    sum += value * value;
  }
  const float scale = 1.0f / fmaxf(sqrtf(blockSum(sum)), 1e-12f);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    target[i] = widen(line[i]) * (widen(norm[i]) + normOffset) * scale;
  }
}

/** blockIdx.x is the line, blockIdx.y a part of it. */
extern "C" __global__ void gate_mul(const bf16* input, bf16* out, int width, int isGelu) {
  letNextStart();
  awaitEarlier();
  const bf16* gate = input + (i64)blockIdx.x * 2 * width;
  const bf16* up = gate + width;
  bf16* target = out + (i64)blockIdx.x * width;
  const int stride = blockDim.x * gridDim.y;
  const int first = blockIdx.y * blockDim.x + threadIdx.x;
  if (width % 8 == 0) {
    for (int i = first; i < width / 8; i += stride) {
      float gates[8], ups[8];
      widen8(((const uint4*)gate)[i], gates);
      widen8(((const uint4*)up)[i], ups);
      for (int j = 0; j < 8; j++) ups[j] *= isGelu ? geluTanh(gates[j]) : silu(gates[j]);
      ((uint4*)target)[i] = narrow8(ups);
    }
  } else {
    for (int i = first; i < width; i += stride) {
      const float value = widen(gate[i]);
      target[i] = narrow((isGelu ? geluTanh(value) : silu(value)) * widen(up[i]));
    }
  }
}

/**
 * The sums of the experts that a line chose, in the order of its slots: out[line] is their sum, or
 * gets it added. sums are [lines * topK, width]. Grid: (lines, blocks of a line).
 */
extern "C" __global__ void add_experts(const float* sums, const int* chosen, bf16* out, int width,
                                       int topK, int experts, int adds) {
  awaitEarlier();
  letNextStart();
  const int column = blockIdx.y * blockDim.x + threadIdx.x;
  if (column >= width) return;
  const int* slots = chosen + (i64)blockIdx.x * topK;
  const float* own = sums + (i64)blockIdx.x * topK * width + column;
  bf16* target = out + (i64)blockIdx.x * width + column;
  const float before = adds != 0 ? widen(*target) : 0.0f;
  float sum = 0.0f;
#pragma unroll 8
  for (int i = 0; i < topK; i++) {
    const bool isOwn = (u32)slots[i] < (u32)experts;
    sum += isOwn ? own[(i64)i * width] : 0.0f;
  }
  *target = narrow(before + sum);
}

/** FILL_TYPE of layer-operations.ts. */
enum FillType { FILL_BF16, FILL_F32, FILL_FP8, FILL_BYTE };

extern "C" __global__ void fill_uniform(void* out, u64 elements, float mean, float spread, u32 seed,
                                        int type) {
  letNextStart();
  awaitEarlier();
  const u64 stride = (u64)gridDim.x * blockDim.x;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += stride) {
    const float uniform = (float)(hash32(seed, (u32)(i >> 32), (u32)i) >> 8) * 0x1p-24f;
    const float value = mean + spread * (2.0f * uniform - 1.0f);
    if (type == FILL_F32) {
      ((float*)out)[i] = value;
    } else if (type == FILL_BYTE) {
      ((unsigned char*)out)[i] = (unsigned char)floorf(value);
    } else if (type == FILL_FP8) {
#if __CUDA_ARCH__ >= 890
      ((unsigned char*)out)[i] = (unsigned char)narrowFp8Pair(value, 0.0f);
#endif
    } else {
      ((bf16*)out)[i] = narrow(value);
    }
  }
}

/**
 * out = input * weight^T (+ bias) (+ out) for shapes that the library has no algorithm for: odd
 * widths, mostly. One warp for each output; blockIdx.y is the line.
 */
extern "C" __global__ void matmul_any(const bf16* input, const bf16* weight, const bf16* bias,
                                      void* out, int inputs, int outputs, int isF32, int adds) {
  letNextStart();
  awaitEarlier();
  const int column = (blockIdx.x * blockDim.x + threadIdx.x) / WARP_LANES;
  if (column >= outputs) return;
  const bf16* line = input + (i64)blockIdx.y * inputs;
  const bf16* row = weight + (i64)column * inputs;
  float sum = 0.0f;
  for (int i = threadIdx.x % WARP_LANES; i < inputs; i += WARP_LANES) {
    sum += widen(line[i]) * widen(row[i]);
  }
  sum = warpSum(sum) + (bias != nullptr ? widen(bias[column]) : 0.0f);
  if (threadIdx.x % WARP_LANES != 0) return;
  const i64 at = (i64)blockIdx.y * outputs + column;
  if (isF32) {
    ((float*)out)[at] = sum;
  } else {
    bf16* target = (bf16*)out + at;
    *target = narrow(adds ? sum + widen(*target) : sum);
  }
}
