#pragma once
#include "common.cuh"

// MXFP4 as a storage format: codes of one sign, two bits of exponent and one of mantissa (E2M1),
// with a power of two (E8M0) for each 32 of them.

/**
 * A block's scale as a pair of factors for widenFp4: 2^(scale - 1), which is 2^(scale - 127) times
 * the 2^126 by which codes are too small. From 129 on it is infinite, so that results are, too.
 */
__device__ inline u32 fp4Factor(u32 scale) {
  return min(scale, 129u) * 0x00800080u + 0x3f003f00u;
}

/** Bits of `first` where the mask has ones, else of `second`: one operation. */
__device__ inline u32 mixed(u32 first, u32 second, u32 mask) {
  u32 bits;
  asm("lop3.b32 %0, %1, %2, %3, 0xe2;" : "=r"(bits) : "r"(first), "r"(mask), "r"(second));
  return bits;
}

/**
 * Eight codes as bf16, 2^126 times too small: pair i holds codes i and i + 4, the earlier in its
 * low half. Where bf16 has its lowest bits of exponent and its highest of mantissa, a code's three
 * bits mean the same, subnormals included. Its sign is to be six places further off: so one copy of
 * all codes is moved against the other, and two pairs are taken out of each mixture of the two.
 */
__device__ inline void spreadFp4(u32 codes, u32 (&pairs)[4]) {
  const u32 left = codes << 6, right = codes >> 6;
  const u32 early = mixed(codes, left, 0x00ff00ffu);
  const u32 late = mixed(right, codes, 0x01ff01ffu);
  pairs[0] = (early & 0x02070207u) << 6;
  pairs[1] = (early & 0x20702070u) << 2;
  pairs[2] = (late & 0x081c081cu) << 4;
  pairs[3] = late & 0x81c081c0u;
}

/** The same times the scale, exactly. */
__device__ inline void widenFp4(u32 codes, u32 factor, u32 (&pairs)[4]) {
  spreadFp4(codes, pairs);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    // The sum with -0 changes nothing.
    asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(pairs[i]) : "r"(factor), "r"(0x80008000u));
  }
}

/** Eight bf16 in the order of widenFp4's pairs: 0 and 4, 1 and 5, 2 and 6, 3 and 7. */
__device__ inline uint4 orderedAsFp4(uint4 line) {
  return make_uint4(__byte_perm(line.x, line.z, 0x5410), __byte_perm(line.x, line.z, 0x7632),
                    __byte_perm(line.y, line.w, 0x5410), __byte_perm(line.y, line.w, 0x7632));
}
