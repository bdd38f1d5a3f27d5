#include "int4.cuh"

// Weights in 4 bits as checkpoints pack them (Int4Order in ops.ts) become those that products take:
// codes [outputs, inputs / 8], scales with their zero points [outputs, groups]. Lanes write words
// side by side; what they read far apart, the block's other warps read beside it.

enum Order { INT4_ROWS, INT4_GPTQ, INT4_AWQ };

/** Where AWQ has output 0 to 7 of a word, in bits. */
__device__ inline int awqShift(int output) { return (output % 2 * 4 + output / 2) * 4; }

/** out[outputs, words] of input[words, outputs]; a block has 32 words of 8 outputs. */
extern "C" __global__ void order_int4_gptq(const u32* input, u32* out, int words, int outputs) {
  letNextStart();
  awaitEarlier();
  const int word = blockIdx.y * WARP_LANES + threadIdx.x % WARP_LANES;
  const int output = blockIdx.x * (blockDim.x / WARP_LANES) + threadIdx.x / WARP_LANES;
  if (word >= words || output >= outputs) return;
  out[(i64)output * words + word] = input[(i64)word * outputs + output];
}

/** out[outputs, words] of input[8 words, outputs / 8]; a block has 32 words of 64 outputs. */
extern "C" __global__ void order_int4_awq(const u32* input, u32* out, int words, int outputs) {
  letNextStart();
  awaitEarlier();
  const int word = blockIdx.y * WARP_LANES + threadIdx.x % WARP_LANES;
  const int column = blockIdx.x * (blockDim.x / WARP_LANES) + threadIdx.x / WARP_LANES;
  const int columns = outputs / 8;
  if (word >= words || column >= columns) return;
  u32 stored[8];
#pragma unroll
  for (int k = 0; k < 8; k++) stored[k] = input[((i64)word * 8 + k) * columns + column];
#pragma unroll
  for (int output = 0; output < 8; output++) {
    u32 codes = 0;
#pragma unroll
    for (int k = 0; k < 8; k++) codes |= (stored[k] >> awqShift(output) & 15u) << 4 * k;
    out[((i64)column * 8 + output) * words + word] = codes;
  }
}

/** A float16, exactly; NaN and infinities keep what they are. */
__device__ inline float widenHalf(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

/** out[outputs, groups]; a block has 32 groups of 8 outputs. zeros may be null. */
extern "C" __global__ void join_int4_scales(const unsigned short* scales, const u32* zeros,
                                            u32* out, int outputs, int groups, int order,
                                            int isHalf, int zeroOffset) {
  letNextStart();
  awaitEarlier();
  const int group = blockIdx.x * WARP_LANES + threadIdx.x % WARP_LANES;
  const int output = blockIdx.y * (blockDim.x / WARP_LANES) + threadIdx.x / WARP_LANES;
  if (group >= groups || output >= outputs) return;
  const bool isByRow = order == INT4_ROWS;
  const unsigned short bits =
      scales[isByRow ? (i64)output * groups + group : (i64)group * outputs + output];
  u32 zero = 8;
  if (zeros != nullptr) {
    const int column = output / 8;
    const u32 packed =
        zeros[isByRow ? (i64)column * groups + group : (i64)group * (outputs / 8) + column];
    const int shift = order == INT4_AWQ ? awqShift(output % 8) : output % 8 * 4;
    zero = (packed >> shift & 15u) + zeroOffset;
  }
  const float scale = isHalf ? widenHalf(bits) : widen(bits);
  out[(i64)output * groups + group] = (__float_as_uint(scale) & ~INT4_ZERO_BITS) | zero;
}
