#pragma once
#include "common.cuh"

// Selection over one line of vocabulary-sized values by one block. Weights are integers, so that
// sums are exact and the same in every run, whatever the order of atomic additions.

#define THREADS 1024
#define BLOCK_WARPS (THREADS / WARP_LANES)
#define BINS 2048

/** Floats as integers of the same order; NaN counts as minus infinity, and -0 equals +0. */
__device__ inline u32 orderedKey(float value) {
  if (!(value == value)) value = -infinity();
  const u32 bits = __float_as_uint(value == 0.0f ? 0.0f : value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float valueOfKey(u32 key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ inline u64 blockMax(u64 value) {
  __shared__ u64 partial[BLOCK_WARPS];
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    const u64 other = __shfl_xor_sync(FULL_WARP, value, offset);
    value = other > value ? other : value;
  }
  __syncthreads();
  if (threadIdx.x % WARP_LANES == 0) partial[threadIdx.x / WARP_LANES] = value;
  __syncthreads();
  u64 best = 0;
  for (int i = 0; i < BLOCK_WARPS; i++) best = partial[i] > best ? partial[i] : best;
  return best;
}

__device__ inline u64 warpSum64(u64 value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    value += __shfl_xor_sync(FULL_WARP, value, offset);
  }
  return value;
}

__device__ inline u64 blockSum64(u64 value) {
  __shared__ u64 partial[BLOCK_WARPS];
  value = warpSum64(value);
  __syncthreads();
  if (threadIdx.x % WARP_LANES == 0) partial[threadIdx.x / WARP_LANES] = value;
  __syncthreads();
  return warpSum64(partial[threadIdx.x % WARP_LANES]);
}

/** The greatest value and, of its tokens, the lowest id. */
struct Best {
  u32 key;
  int token;
};
template <class KeyOf>
__device__ Best findBest(int vocab, KeyOf keyOf) {
  u64 best = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < vocab; i += THREADS) {
    const u64 packed = (u64)keyOf(i) << 32 | (u32)~i;
    best = packed > best ? packed : best;
  }
  best = blockMax(best);
  return {(u32)(best >> 32), (int)~(u32)best};
}

/** The block's histogram: one, whichever selection uses it. */
__device__ inline u64* histogram() {
  __shared__ u64 bins[BINS];
  return bins;
}

/** Tokens of one coarse bin, when they are few: later levels need not read the line again. */
#define MAX_MEMBERS 1024
struct Members {
  int tokens[MAX_MEMBERS];
  int count;
};
__device__ inline Members* members() {
  __shared__ Members shared;
  return &shared;
}

/**
 * The bin, from the last, in which the sum of weights reaches `need`; `need` becomes what is needed
 * within it.
 */
__device__ inline int crossingBin(const u64* bins, u64* need) {
  __shared__ int foundBin;
  __shared__ u64 foundNeed;
  constexpr int perLane = BINS / WARP_LANES;
  __syncthreads();
  if (threadIdx.x < WARP_LANES) {
    const int lane = threadIdx.x;
    const int last = BINS - 1 - lane * perLane;
    u64 mine = 0;
    for (int i = 0; i < perLane; i++) mine += bins[last - i];
    u64 before = mine;
    for (int offset = 1; offset < WARP_LANES; offset <<= 1) {
      const u64 other = __shfl_up_sync(FULL_WARP, before, offset);
      if (lane >= offset) before += other;
    }
    before -= mine;
    if (before < *need && *need <= before + mine) {
      int bin = last;
      while (before + bins[bin] < *need) before += bins[bin--];
      foundBin = bin;
      foundNeed = *need - before;
    }
  }
  __syncthreads();
  *need = foundNeed;
  return foundBin;
}

/** Lists the tokens of a bin, in no particular order; false when they are too many. */
template <class BinOf>
__device__ bool listBin(Members* listed, int vocab, int bin, BinOf binOf) {
  __syncthreads();
  if (threadIdx.x == 0) listed->count = 0;
  __syncthreads();
#pragma unroll 4
  for (int i = threadIdx.x; i < vocab; i += THREADS) {
    if (binOf(i) != bin) continue;
    const int at = atomicAdd(&listed->count, 1);
    if (at < MAX_MEMBERS) listed->tokens[at] = i;
  }
  __syncthreads();
  return listed->count <= MAX_MEMBERS;
}

/**
 * The greatest key such that the weights of all tokens with that key or a greater one sum to `need`
 * or more, for 1 <= need <= the sum of all weights. `binOf` is any monotone map of keys to BINS
 * bins: it spreads the tokens, whose keys alone would crowd a few bins, so that atomic additions
 * seldom collide.
 */
template <class KeyOf, class BinOf, class WeightOf>
__device__ u32 findThreshold(int vocab, u64 need, KeyOf keyOf, BinOf binOf, WeightOf weightOf) {
  u64* bins = histogram();
  Members* listed = members();
  int coarse = -1;
  bool isListed = false;
  u32 prefix = 0;
  // The bits of the key that are still open, from the top: after the coarse bins, 11, 11 and 10 of
  // them.
  int open = 32;
  for (int level = 0; level < 4; level++) {
    const int digits = level == 0 ? 0 : level == 3 ? 10 : 11;
    const int rest = open - digits;
    __syncthreads();
    for (int i = threadIdx.x; i < BINS; i += THREADS) bins[i] = 0;
    __syncthreads();
    const int count = isListed ? listed->count : vocab;
    for (int i = threadIdx.x; i < count; i += THREADS) {
      const int token = isListed ? listed->tokens[i] : i;
      const int bin = binOf(token);
      if (level == 0) {
        const u64 weight = weightOf(token);
        if (weight != 0) atomicAdd(&bins[bin], weight);
      } else if (bin == coarse) {
        const u32 key = keyOf(token);
        if (level > 1 && key >> open != prefix) continue;
        const u64 weight = weightOf(token);
        if (weight != 0) atomicAdd(&bins[key >> rest & ((1u << digits) - 1)], weight);
      }
    }
    const int found = crossingBin(bins, &need);
    if (level == 0) {
      coarse = found;
      isListed = listBin(listed, vocab, coarse, binOf);
    } else {
      prefix = prefix << digits | (u32)found;
      open = rest;
    }
  }
  return prefix;
}

/**
 * The first token at which the running sum of weights, in order of id, exceeds `target` < the sum
 * of all weights.
 */
template <class WeightOf>
__device__ int findByMass(int vocab, u64 target, WeightOf weightOf) {
  __shared__ u64 sums[BLOCK_WARPS];
  const int warp = threadIdx.x / WARP_LANES;
  const int lane = threadIdx.x % WARP_LANES;
  int from = 0, to = vocab;
  while (to - from > 1) {
    const int part = (to - from + BLOCK_WARPS - 1) / BLOCK_WARPS;
    const int start = min(to, from + warp * part);
    const int end = min(to, start + part);
    u64 sum = 0;
#pragma unroll 4
    for (int i = start + lane; i < end; i += WARP_LANES) sum += weightOf(i);
    sum = warpSum64(sum);
    __syncthreads();
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    int w = 0;
    while (w < BLOCK_WARPS - 1 && sums[w] <= target) target -= sums[w++];
    from = min(to - 1, from + w * part);
    to = min(to, from + part);
  }
  return from;
}

/**
 * Writes the `wanted` <= MAX_TOP_LOGPROBS best tokens, best first, ties by lower id, as ids and
 * values - `shift`.
 */
template <class KeyOf, class BinOf>
__device__ void writeBest(int vocab, int wanted, KeyOf keyOf, BinOf binOf, float shift, int* ids,
                          float* values) {
  __shared__ u64 found[MAX_TOP_LOGPROBS];
  __shared__ int count;
  if (wanted <= 0) return;
  const u32 threshold = findThreshold(vocab, wanted, keyOf, binOf, [](int) { return (u64)1; });
  __syncthreads();
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < vocab; i += THREADS) {
    const u32 key = keyOf(i);
    if (key > threshold) found[atomicAdd(&count, 1)] = (u64)key << 32 | (u32)~i;
  }
  __syncthreads();
  int above = count;
  // The rest are tokens tied at the threshold, by rising id.
  for (int after = -1; above < wanted; above++) {
    u64 next = 0;
    for (int i = threadIdx.x; i < vocab; i += THREADS) {
      if (i > after && keyOf(i) == threshold) next = max(next, (u64)(u32)~i);
    }
    after = (int)~(u32)blockMax(next);
    if (threadIdx.x == 0) found[above] = (u64)threshold << 32 | (u32)~after;
  }
  __syncthreads();
  if (threadIdx.x < wanted) {
    const u64 mine = found[threadIdx.x];
    int rank = 0;
    for (int i = 0; i < wanted; i++) rank += found[i] > mine;
    ids[rank] = (int)~(u32)mine;
    values[rank] = valueOfKey((u32)(mine >> 32)) - shift;
  }
  __syncthreads();
}
