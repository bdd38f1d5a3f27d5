#pragma once
#include "common.cuh"

// Integers of 4 bits as a storage format: eight codes to a word, the first in its lowest bits, and
// for each group of inputs a word that is its scale as f32 but for the lowest five bits, which are
// the zero point, 0 to 16. A value is (code - zero) * scale.

#define INT4_ZERO_BITS 31u

__device__ inline float int4Scale(u32 word) { return __uint_as_float(word & ~INT4_ZERO_BITS); }

/**
 * The zero point as what widenInt4 takes off: a pair of bf16 of 128 + zero. From 128 to 255 bf16
 * has steps of one, so that a code in the lowest bits of its fraction is 128 + code.
 */
__device__ inline u32 int4Zeros(u32 word) {
  return (word & INT4_ZERO_BITS) * 0x00010001u + 0x43004300u;
}

/**
 * Eight codes less the zero point as bf16, exactly: pair i holds codes i and i + 4, the earlier in
 * its low half.
 */
__device__ inline uint4 widenInt4(u32 codes, u32 zeros) {
  u32 pairs[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    pairs[i] = (codes >> 4 * i & 0x000f000fu) | 0x43004300u;
    // -1 times the zero point plus the code.
    asm("fma.rn.bf16x2 %0, %1, %2, %0;" : "+r"(pairs[i]) : "r"(zeros), "r"(0xbf80bf80u));
  }
  return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

/** A group's scale, by which codes are widened to bf16 as they would be rounded from f32. */
struct Int4Scale {
  u32 zeros;
  u32 high;
  u32 low;

  /**
   * bf16 has 8 of the 11 bits that a scale has at most. What it lacks is of 3 bits: times a code,
   * which has 5, that is exact, and the sum with the rest is rounded once.
   */
  __device__ explicit Int4Scale(u32 word) {
    const u32 scale = word & ~INT4_ZERO_BITS;
    const u32 first = scale & 0xffff0000u;
    const float rest = __uint_as_float(scale) - __uint_as_float(first);
    zeros = int4Zeros(word);
    high = __byte_perm(first, 0, 0x3232);
    low = __byte_perm(__float_as_uint(rest), 0, 0x3232);
  }
  /** Eight codes, as widenInt4 pairs them. */
  __device__ uint4 widen(u32 codes) const {
    const uint4 pairs = widenInt4(codes, zeros);
    return make_uint4(scaled(pairs.x), scaled(pairs.y), scaled(pairs.z), scaled(pairs.w));
  }

 private:
  __device__ u32 scaled(u32 pair) const {
    u32 product;
    // The sum with -0 changes nothing.
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(pair), "r"(low), "r"(0x80008000u));
    asm("fma.rn.bf16x2 %0, %1, %2, %0;" : "+r"(product) : "r"(pair), "r"(high));
    return product;
  }
};

/** The same as f16, with an instruction in four less. */
struct Int4Halves {
  u32 zeros;
  u32 sixteenths;

  /** 1024 + zero, and -(64 + zero). */
  __device__ explicit Int4Halves(u32 word) {
    zeros = (word & INT4_ZERO_BITS) * 0x00010001u + 0x64006400u;
    sixteenths = (word & INT4_ZERO_BITS) * 0x00100010u + 0xd400d400u;
  }
  /**
   * From 1024 to 2047 f16 has steps of one: codes in the lowest bits of its fraction are 1024 +
   * code, and those beside them 1024 + 16 code, a sixteenth of which is 64 + code.
   */
  __device__ uint4 widen(u32 codes) const {
    const u32 high = codes >> 8;
    const u32 first = (codes & 0x000f000fu) | 0x64006400u;
    const u32 third = (high & 0x000f000fu) | 0x64006400u;
    uint4 pairs;
    pairs.y = (codes & 0x00f000f0u) | 0x64006400u;
    pairs.w = (high & 0x00f000f0u) | 0x64006400u;
    asm("sub.f16x2 %0, %1, %2;" : "=r"(pairs.x) : "r"(first), "r"(zeros));
    asm("sub.f16x2 %0, %1, %2;" : "=r"(pairs.z) : "r"(third), "r"(zeros));
    asm("fma.rn.f16x2 %0, %0, %1, %2;" : "+r"(pairs.y) : "r"(0x2c002c00u), "r"(sixteenths));
    asm("fma.rn.f16x2 %0, %0, %1, %2;" : "+r"(pairs.w) : "r"(0x2c002c00u), "r"(sixteenths));
    return pairs;
  }
};

/** Eight bf16 or f16 in the order of those pairs: 0 and 4, 1 and 5, 2 and 6, 3 and 7. */
__device__ inline uint4 orderedAsInt4(uint4 line) {
  return make_uint4(__byte_perm(line.x, line.z, 0x5410), __byte_perm(line.x, line.z, 0x7632),
                    __byte_perm(line.y, line.w, 0x5410), __byte_perm(line.y, line.w, 0x7632));
}
