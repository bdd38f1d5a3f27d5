#include "common.cuh"

// Digests of bytes: a quick sum, and SHA-256 (FIPS 180-4) of many pieces at once.

#define SUM_THREADS 256
#define HASH_THREADS 32
#define WORD_BITS 32

/** Both sums over a block, in thread 0. All threads call it. */
__device__ inline uint2 blockSums(u32 low, u32 high) {
  __shared__ uint2 partial[SUM_THREADS / WARP_LANES];
  low = __reduce_add_sync(FULL_WARP, low);
  high = __reduce_add_sync(FULL_WARP, high);
  if (threadIdx.x % WARP_LANES == 0) partial[threadIdx.x / WARP_LANES] = make_uint2(low, high);
  __syncthreads();
  uint2 sums = partial[0];
  for (int warp = 1; warp < SUM_THREADS / WARP_LANES; warp++) {
    sums.x += partial[warp].x;
    sums.y += partial[warp].y;
  }
  return sums;
}

/** checksum.ts, for the words of a vector. */
__device__ inline void addWords(uint4 vector, u32 index, u32& low, u32& high) {
  const u32 words[4] = {vector.x, vector.y, vector.z, vector.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    low += words[i] * (2 * (index + i) + 1);
    high += mix32(words[i] ^ (index + i) * 0x9e3779b9u);
  }
}

/** The sums of each block's part. The words at the end that fill no vector are block 0's. */
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    checksum_parts(const uint4* input, u64 bytes, uint2* parts) {
  letNextStart();
  awaitEarlier();
  u32 low = 0, high = 0;
  const u64 vectors = bytes / sizeof(uint4);
  const u64 stride = (u64)gridDim.x * SUM_THREADS;
  const u64 first = (u64)blockIdx.x * SUM_THREADS + threadIdx.x;
  for (u64 i = first; i < vectors; i += stride) addWords(input[i], (u32)(4 * i), low, high);
  const u64 tail = vectors * sizeof(uint4) + 4 * first;
  if (tail < bytes) {
    u32 word = 0;
    for (u64 at = tail; at < bytes && at < tail + 4; at++) {
      word |= (u32)((const unsigned char*)input)[at] << 8 * (at - tail);
    }
    const u32 index = (u32)(tail / 4);
    low += word * (2 * index + 1);
    high += mix32(word ^ index * 0x9e3779b9u);
  }
  const uint2 sums = blockSums(low, high);
  if (threadIdx.x == 0) parts[blockIdx.x] = sums;
}

/** One block. */
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    checksum_total(const uint2* parts, int count, uint2* out) {
  letNextStart();
  awaitEarlier();
  u32 low = 0, high = 0;
  for (int i = threadIdx.x; i < count; i += SUM_THREADS) {
    low += parts[i].x;
    high += parts[i].y;
  }
  const uint2 sums = blockSums(low, high);
  if (threadIdx.x == 0) *out = sums;
}

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
__constant__ u32 ROUND_WORDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#define BLOCK_BYTES 64
#define BLOCK_WORDS 16
#define LENGTH_WORD 14

__device__ inline u32 swapBytes(u32 word) { return __byte_perm(word, 0, 0x0123); }
__device__ inline u32 rotate(u32 x, int bits) { return __funnelshift_r(x, x, bits); }

/** One round's new words of the message, in place of the oldest. */
__device__ inline void extend(u32 (&w)[BLOCK_WORDS], int i) {
  const u32 before = w[(i + 1) % BLOCK_WORDS];
  const u32 after = w[(i + 14) % BLOCK_WORDS];
  w[i] += (rotate(before, 7) ^ rotate(before, 18) ^ before >> 3) + w[(i + 9) % BLOCK_WORDS] +
          (rotate(after, 17) ^ rotate(after, 19) ^ after >> 10);
}

/** Takes a block of big-endian words into the state; leaves the words undefined. */
__device__ inline void compress(u32 (&state)[8], u32 (&w)[BLOCK_WORDS]) {
  u32 a = state[0], b = state[1], c = state[2], d = state[3];
  u32 e = state[4], f = state[5], g = state[6], h = state[7];
#pragma unroll
  for (int round = 0; round < 64; round++) {
    if (round >= BLOCK_WORDS) extend(w, round % BLOCK_WORDS);
    const u32 mixed = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) +
                      ROUND_WORDS[round] + w[round % BLOCK_WORDS];
    const u32 majority = (a & b) ^ (a & c) ^ (b & c);
    h = g, g = f, f = e, e = d + mixed, d = c, c = b, b = a;
    a = mixed + majority + (rotate(b, 2) ^ rotate(b, 13) ^ rotate(b, 22));
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
  state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

/** The words of the last blocks, from byte `from` of a piece on: its end, padding, its length. */
__device__ void padBlock(const unsigned char* piece, u64 length, u64 from, u32 (&w)[BLOCK_WORDS]) {
#pragma unroll
  for (int i = 0; i < BLOCK_WORDS; i++) {
    w[i] = 0;
    for (int j = 0; j < 4; j++) {
      const u64 at = from + 4 * i + j;
      const u32 byte = at < length ? piece[at] : at == length ? 0x80u : 0u;
      w[i] = w[i] << 8 | byte;
    }
  }
  // The length, in bits, is in the last block, which has room for it behind the padding.
  if (from + 4 * LENGTH_WORD > length) {
    w[LENGTH_WORD] = (u32)(length >> (WORD_BITS - 3));
    w[LENGTH_WORD + 1] = (u32)length << 3;
  }
}

/**
 * The SHA-256 of each piece, a thread a piece: the last may be shorter. The bytes of the next block
 * are on their way while one is hashed. `pieceBytes` is a multiple of 64.
 */
extern "C" __global__ void __launch_bounds__(HASH_THREADS)
    hash_pieces(const unsigned char* input, u64 bytes, u64 pieceBytes, u64 pieces, uint4* digests) {
  letNextStart();
  awaitEarlier();
  const u64 number = (u64)blockIdx.x * HASH_THREADS + threadIdx.x;
  if (number >= pieces) return;
  const unsigned char* piece = input + number * pieceBytes;
  const u64 rest = bytes - number * pieceBytes;
  const u64 length = rest < pieceBytes ? rest : pieceBytes;
  u32 state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const u64 whole = length / BLOCK_BYTES * BLOCK_BYTES;
  uint4 next[4] = {};
  for (int i = 0; i < 4 && whole > 0; i++) next[i] = ((const uint4*)piece)[i];
  // A block more than is whole, and another where the length finds no room in that.
  const u64 end = (length + 8) / BLOCK_BYTES * BLOCK_BYTES;
#pragma unroll 1
  for (u64 from = 0; from <= end; from += BLOCK_BYTES) {
    u32 w[BLOCK_WORDS];
    if (from < whole) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        w[4 * i] = swapBytes(next[i].x), w[4 * i + 1] = swapBytes(next[i].y);
        w[4 * i + 2] = swapBytes(next[i].z), w[4 * i + 3] = swapBytes(next[i].w);
        if (from + BLOCK_BYTES < whole) next[i] = ((const uint4*)(piece + from + BLOCK_BYTES))[i];
      }
    } else {
      padBlock(piece, length, from, w);
    }
    compress(state, w);
  }
  digests[2 * number] = make_uint4(swapBytes(state[0]), swapBytes(state[1]), swapBytes(state[2]),
                                   swapBytes(state[3]));
  digests[2 * number + 1] = make_uint4(swapBytes(state[4]), swapBytes(state[5]),
                                       swapBytes(state[6]), swapBytes(state[7]));
}
