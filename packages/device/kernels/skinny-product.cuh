#pragma once
#include "hopper.cuh"

// The product of linear-skinny.cu: 64 rows from registers, LINE_TILE lines from shared memory.

/** Floats of a product in a thread. */
#define SUMS (LINE_TILE / 2)

#define SUMS_4 "%0,%1,%2,%3"
#define SUMS_8 SUMS_4 ",%4,%5,%6,%7"
#define OPERANDS_4(s) "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
#define OPERANDS_16(s) OPERANDS_8(s, 0), OPERANDS_8(s, 8)
#if LINE_TILE == 8
#define MULTIPLY "m64n8k16.f32.bf16.bf16 {" SUMS_4 "}, {%4,%5,%6,%7}, %8"
#define ADDED "%9"
#define OPERANDS OPERANDS_4(sums)
#elif LINE_TILE == 16
#define MULTIPLY "m64n16k16.f32.bf16.bf16 {" SUMS_8 "}, {%8,%9,%10,%11}, %12"
#define ADDED "%13"
#define OPERANDS OPERANDS_8(sums, 0)
#elif LINE_TILE == 32
#define MULTIPLY "m64n32k16.f32.bf16.bf16 {" SUMS_16 "}, {%16,%17,%18,%19}, %20"
#define ADDED "%21"
#define OPERANDS OPERANDS_16(sums)
#else
#define MULTIPLY "m64n64k16.f32.bf16.bf16 {" SUMS_32 "}, {%32,%33,%34,%35}, %36"
#define ADDED "%37"
#define OPERANDS OPERANDS_32(sums)
#endif

/** sums[64, LINE_TILE] (+)= a * b^T over 16 inputs; b is K-major in shared memory. */
__device__ inline void multiply(float (&sums)[SUMS], const u32 (&a)[4], u64 b, bool isAdded) {
  asm volatile("{\n.reg .pred added;\nsetp.ne.b32 added, " ADDED
               ", 0;\nwgmma.mma_async.sync.aligned." MULTIPLY ", added, 1, 1, 0;\n}"
               : OPERANDS
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)isAdded));
}
