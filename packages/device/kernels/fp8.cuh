#pragma once
#include "common.cuh"

// FP8 (E4M3) as a storage format: one sign, four bits of exponent, three of mantissa.

__device__ inline u32 prmt(u32 bytes, u32 selector) {
  u32 chosen;
  asm("prmt.b32 %0, %1, 0, %2;" : "=r"(chosen) : "r"(bytes), "r"(selector));
  return chosen;
}

/**
 * Two FP8 values, each widened to 16 bits with its sign, as bf16, 2^120 times too small: the bits
 * keep their order.
 */
__device__ inline u32 spreadFp8Pair(u32 signedPair) { return signedPair << 4 & 0x87f087f0u; }

/** The product moves the exponent from one bias to the other. Exact for every finite value. */
__device__ inline u32 widenFp8Pair(u32 signedPair) {
  u32 pair;
  // Times 2^120; the sum with -0 changes nothing.
  asm("fma.rn.bf16x2 %0, %1, %2, %3;"
      : "=r"(pair)
      : "r"(spreadFp8Pair(signedPair)), "r"(0x7b807b80u), "r"(0x80008000u));
  return pair;
}

/** Eight FP8 values as bf16, in order. */
__device__ inline uint4 widenFp8(u32 low, u32 high) {
  // prmt's selectors from 8 on repeat a byte's sign.
  return make_uint4(widenFp8Pair(prmt(low, 0x9180)), widenFp8Pair(prmt(low, 0xb3a2)),
                    widenFp8Pair(prmt(high, 0x9180)), widenFp8Pair(prmt(high, 0xb3a2)));
}

/** Two floats as FP8, `low` in the low byte; what is too large becomes the largest value. */
__device__ inline u32 narrowFp8Pair(float low, float high) {
  unsigned short pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
}
