#pragma once
#include "common.cuh"

// Hopper's asynchronous machinery (sm_90a) as inline PTX, since no CUDA headers are at hand:
// barriers in shared memory, background copies, and products of warpgroups (wgmma).

#define WARPGROUP 128
/** Bytes of a line of the 128-byte swizzle, and of the eight lines that are swizzled together. */
#define SWIZZLE_LINE 128
#define SWIZZLE_ATOM 1024

__device__ inline u32 sharedAddress(const void* pointer) {
  return (u32)__cvta_generic_to_shared(pointer);
}

/** Where the 16-byte piece 0..7 of a line lies: the wgmma layout's swizzle of 128 bytes. */
__device__ inline u32 swizzled(int line, int piece) {
  return line * SWIZZLE_LINE + ((piece ^ (line & 7)) << 4);
}

__device__ inline void initBarrier(u64& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(&barrier)),
               "r"(arrivals)
               : "memory");
}
__device__ inline void arrive(u64& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(&barrier))
               : "memory");
}
/**
 * Arrivals of a warp. One lane arrives for all; every lane does where racecheck is to see who waits
 * for whom: it does not follow a warp's order to the lane that arrives.
 */
#ifndef EVERY_LANE_ARRIVES
#define EVERY_LANE_ARRIVES 0
#endif
#define WARP_ARRIVALS (EVERY_LANE_ARRIVES ? WARP_LANES : 1)
__device__ inline void arriveAsWarp(u64& barrier) {
  if (EVERY_LANE_ARRIVES || threadIdx.x % WARP_LANES == 0) arrive(barrier);
}
/** Arrives once all copies that this thread has started are there. */
__device__ inline void arriveWhenCopied(u64& barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(
                   sharedAddress(&barrier))
               : "memory");
}
/** Waits until the phase of this parity is over. The phase before the first counts as over. */
__device__ inline void awaitPhase(u64& barrier, int parity) {
  asm volatile(
      "{\n.reg .pred over;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
      "@!over bra again;\n}" ::"r"(sharedAddress(&barrier)),
      "r"(parity)
      : "memory");
}
/** Puts ordinary accesses to shared memory in order with those of the tensor cores. */
__device__ inline void fenceProducts() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/** 16 bytes from global to shared memory in the background, or 16 zeros. */
__device__ inline void copyPiece(u32 target, const void* source, bool isZero) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source),
               "r"(isZero ? 0 : 16)
               : "memory");
}
/** 4 bytes likewise. */
__device__ inline void copyWord(u32 target, const void* source, bool isZero) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(source),
               "r"(isZero ? 0 : 4)
               : "memory");
}
__device__ inline void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> __device__ inline void awaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

template <int REGISTERS> __device__ inline void takeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS> __device__ inline void leaveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

/** Waits at one of the block's sixteen barriers for `threads`; barrier 0 is __syncthreads. */
__device__ inline void meet(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ inline void announce(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/**
 * Describes a matrix in shared memory, 128-byte swizzled, to wgmma. For lines along the summed
 * dimension (K-major) `stride` is the bytes from eight lines to the next eight, and `leap` is not
 * used; for lines along the other dimension (MN-major) `leap` is the bytes from 64 columns to the
 * next 64, and `stride` those from eight summed lines to the next eight.
 */
__device__ inline u64 describe(u32 address, u32 leap, u32 stride) {
  return (u64)(address >> 4) | (u64)(leap >> 4) << 16 | (u64)(stride >> 4) << 32 | 1ull << 62;
}
/** The description of the same matrix `bytes` further on. */
__device__ inline u64 further(u64 description, u32 bytes) { return description + (bytes >> 4); }

/** Registers written before are seen by the products issued after. */
__device__ inline void beginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/** Waits until at most PENDING committed groups are left. */
template <int PENDING> __device__ inline void awaitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
/** Keeps the compiler from moving uses of registers that products write or read across here. */
template <int COUNT> __device__ inline void pin(float (&registers)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(registers[i])::"memory");
}
template <int COUNT> __device__ inline void pin(u32 (&registers)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+r"(registers[i])::"memory");
}

// Operand lists of the sums of wgmma: a warpgroup's 64 lines of n columns are n / 2 registers.
#define SUMS_16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define SUMS_32                                                             \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,"  \
  "%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define SUMS_40 SUMS_32 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define SUMS_48 SUMS_40 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define SUMS_64                                                              \
  SUMS_48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define OPERANDS_8(s, i)                                                        \
  "+f"(s[i]), "+f"(s[i + 1]), "+f"(s[i + 2]), "+f"(s[i + 3]), "+f"(s[i + 4]), \
      "+f"(s[i + 5]), "+f"(s[i + 6]), "+f"(s[i + 7])
#define OPERANDS_16(s) OPERANDS_8(s, 0), OPERANDS_8(s, 8)
#define OPERANDS_32(s) \
  OPERANDS_8(s, 0), OPERANDS_8(s, 8), OPERANDS_8(s, 16), OPERANDS_8(s, 24)
#define OPERANDS_40(s) OPERANDS_32(s), OPERANDS_8(s, 32)
#define OPERANDS_48(s) OPERANDS_40(s), OPERANDS_8(s, 40)
#define OPERANDS_64(s) OPERANDS_48(s), OPERANDS_8(s, 48), OPERANDS_8(s, 56)

/** sums[64, 128] (+)= a * b^T over 16 columns; both K-major in shared memory. */
__device__ inline void multiplyShared(float (&sums)[64], u64 a, u64 b, bool isAdded) {
  asm volatile(
      "{\n.reg .pred added;\nsetp.ne.b32 added, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" SUMS_64
      "}, %64, %65, added, 1, 1, 0, 0;\n}"
      : OPERANDS_64(sums)
      : "l"(a), "l"(b), "r"((int)isAdded));
}

// sums[64, n] += a * b over 16 lines of b, which is MN-major in shared memory; a is in registers.
#define MULTIPLY_REGISTERS(NAME, COLUMNS, SUMS, OPERANDS, IS_TRANSPOSED)                     \
  __device__ inline void NAME(float (&sums)[SUMS], u32 a0, u32 a1, u32 a2, u32 a3, u64 b) { \
    asm volatile("{\n.reg .pred added;\nsetp.ne.b32 added, 1, 0;\n"                         \
                 "wgmma.mma_async.sync.aligned.m64n" #COLUMNS                               \
                 "k16.f32.bf16.bf16 {" SUMS_##SUMS "}, " OPERANDS                           \
                 ", added, 1, 1, " #IS_TRANSPOSED ";\n}"                                    \
                 : OPERANDS_##SUMS(sums)                                                    \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));                             \
  }
MULTIPLY_REGISTERS(multiplyRegisters, 64, 32, "{%32,%33,%34,%35}, %36", 1)
MULTIPLY_REGISTERS(multiplyRegisters, 80, 40, "{%40,%41,%42,%43}, %44", 1)
MULTIPLY_REGISTERS(multiplyRegisters, 96, 48, "{%48,%49,%50,%51}, %52", 1)
MULTIPLY_REGISTERS(multiplyRegisters, 128, 64, "{%64,%65,%66,%67}, %68", 1)
// The same with b K-major: n lines along the summed dimension.
MULTIPLY_REGISTERS(multiplyLines, 32, 16, "{%16,%17,%18,%19}, %20", 0)
MULTIPLY_REGISTERS(multiplyLines, 64, 32, "{%32,%33,%34,%35}, %36", 0)
MULTIPLY_REGISTERS(multiplyLines, 128, 64, "{%64,%65,%66,%67}, %68", 0)
