#include "fp8.cuh"
#include "int4.cuh"

/** Pieces of 8 elements whose loads a thread has under way at once. */
#define PIECES 4

/**
 * out[outputs, inputs] = weight * scales in bf16; scales are [ceil(outputs / blockOutputs),
 * ceil(inputs / blockInputs)]. inputs is a multiple of 8, and so is blockInputs unless it is inputs
 * at the least. blockIdx.x is the row.
 */
extern "C" __global__ void widen_fp8(const uint2* weight, const float* scales, uint4* out,
                                     int inputs, int blockInputs, int blockOutputs) {
  letNextStart();
  awaitEarlier();
  const int pieces = inputs / 8;
  const int perRow = (inputs + blockInputs - 1) / blockInputs;
  const float* rowScales = scales + (i64)(blockIdx.x / blockOutputs) * perRow;
  const uint2* source = weight + (i64)blockIdx.x * pieces;
  uint4* target = out + (i64)blockIdx.x * pieces;
  for (int first = threadIdx.x; first < pieces; first += PIECES * blockDim.x) {
    uint2 packed[PIECES];
    float scale[PIECES];
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
      const int i = first + p * blockDim.x;
      if (i < pieces) packed[p] = source[i];
      if (i < pieces) scale[p] = rowScales[i * 8 / blockInputs];
    }
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
      const int i = first + p * blockDim.x;
      if (i >= pieces) break;
      float values[8];
      widen8(widenFp8(packed[p].x, packed[p].y), values);
#pragma unroll
      for (int j = 0; j < 8; j++) values[j] *= scale[p];
      target[i] = narrow8(values);
    }
  }
}

/**
 * out[outputs, inputs] = (codes - zero points) * scales in bf16; scales are [outputs, inputs /
 * blockInputs]. inputs and blockInputs are multiples of 8. blockIdx.x is the row.
 */
extern "C" __global__ void widen_int4(const u32* weight, const u32* scales, uint4* out, int inputs,
                                      int blockInputs) {
  letNextStart();
  awaitEarlier();
  const int pieces = inputs / 8;
  const u32* rowScales = scales + (i64)blockIdx.x * (inputs / blockInputs);
  const u32* source = weight + (i64)blockIdx.x * pieces;
  uint4* target = out + (i64)blockIdx.x * pieces;
  for (int first = threadIdx.x; first < pieces; first += PIECES * blockDim.x) {
    u32 packed[PIECES], words[PIECES];
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
      const int i = first + p * blockDim.x;
      if (i < pieces) packed[p] = source[i];
      if (i < pieces) words[p] = rowScales[i * 8 / blockInputs];
    }
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
      const int i = first + p * blockDim.x;
      if (i >= pieces) break;
      const float scale = int4Scale(words[p]);
      const int zero = (int)(words[p] & INT4_ZERO_BITS);
      float values[8];
#pragma unroll
      for (int j = 0; j < 8; j++) {
        values[j] = (float)((int)(packed[p] >> 4 * j & 15u) - zero) * scale;
      }
      target[i] = narrow8(values);
    }
  }
}
