#pragma once
#include "common.cuh"

// Products of a warp (mma.sync m16n8k16, bf16 in, f32 out), and how operands come from shared
// memory: rows that are read together should lie an odd number of 16 bytes apart.

/** Four matrices of 8 x 8; each lane gives the address of a row. */
__device__ inline void loadMatrices(u32 (&matrices)[4], const bf16* address) {
  const u32 shared = (u32)__cvta_generic_to_shared(address);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared));
}
__device__ inline void loadTransposed(u32 (&matrices)[4], const bf16* address) {
  const u32 shared = (u32)__cvta_generic_to_shared(address);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared));
}
/** sum[16, 8] += a[16, 16] * b[16, 8] */
__device__ inline void multiply(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Where in a tile of shared memory a lane's row begins.

/** Of a[16, 16], lines of `stride` elements. */
__device__ inline int leftAt(int stride) {
  const int lane = threadIdx.x % WARP_LANES;
  return lane % 16 * stride + lane / 16 * 8;
}
/**
 * Of b for 16 columns, which lie along lines' own summed dimension: b0 and b1 of the first eight
 * are matrices 0 and 1, of the others 2 and 3.
 */
__device__ inline int rightAt(int stride) {
  const int lane = threadIdx.x % WARP_LANES;
  return (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8;
}
/** The same of b whose lines are along the columns, to be read transposed. */
__device__ inline int rightTransposedAt(int stride) { return leftAt(stride); }
