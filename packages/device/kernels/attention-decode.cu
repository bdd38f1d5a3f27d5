#include "common.cuh"

// One token of each row against its whole context: bound by reading K and V once. A block serves
// GROUP query heads that share a KV head, over one of `splits` parts of the context. HEAD_DIM,
// GROUP and DECODE_WARPS are fixed when compiled.

/**
 * Two large blocks on a multiprocessor read faster than many small ones, where registers allow
 * them.
 */
#define MIN_BLOCKS (GROUP <= 4 ? 2 : 1)
#define BATCH 4
#define PIECES (HEAD_DIM / 8)

constexpr int lanesOfLine() {
  int lanes = 1;
  while (lanes < PIECES) lanes *= 2;
  return lanes;
}
/** Lanes that share one position, 16 bytes each, and positions that a warp reads at once. */
constexpr int LANES = lanesOfLine();
constexpr int TEAMS = WARP_LANES / LANES;

struct DecodeShape {
  KvPages pages;
  int tableRows;
  int heads;
  /** Blocks that share a KV head when its query heads are more than GROUP. */
  int chunks;
  int window;
  int splits;
  /** scale * log2(e): the softmax works in powers of two. */
  float scale;
};

/**
 * A running softmax over some positions: the greatest score, the sum of weights, the weighted sum
 * of values.
 */
struct Running {
  float best;
  float sum;
  float values[8];

  __device__ void merge(float otherBest, float otherSum, const float (&otherValues)[8]) {
    const float top = fmaxf(best, otherBest);
    const float reference = top == -infinity() ? 0.0f : top;
    const float mine = exp2f(best - reference);
    const float others = exp2f(otherBest - reference);
    best = top;
    sum = sum * mine + otherSum * others;
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] = values[i] * mine + otherValues[i] * others;
  }
};

/**
 * Folds BATCH positions, whose keys and values are loaded, into the running softmax of each head.
 */
__device__ inline void fold(Running (&running)[GROUP], const float (&query)[GROUP][8],
                            const uint4 (&keys)[BATCH], const uint4 (&values)[BATCH],
                            const bool (&valid)[BATCH]) {
  float scores[BATCH][GROUP];
#pragma unroll
  for (int b = 0; b < BATCH; b++) {
    float key[8];
    widen8(keys[b], key);
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
      float dot = 0.0f;
#pragma unroll
      for (int i = 0; i < 8; i++) dot += query[g][i] * key[i];
#pragma unroll
      for (int offset = LANES / 2; offset > 0; offset >>= 1) {
        dot += __shfl_xor_sync(FULL_WARP, dot, offset);
      }
      scores[b][g] = valid[b] ? dot : -infinity();
    }
  }
#pragma unroll
  for (int g = 0; g < GROUP; g++) {
    float top = running[g].best;
#pragma unroll
    for (int b = 0; b < BATCH; b++) top = fmaxf(top, scores[b][g]);
    const float reference = top == -infinity() ? 0.0f : top;
    const float keep = exp2f(running[g].best - reference);
    running[g].best = top;
    running[g].sum *= keep;
#pragma unroll
    for (int i = 0; i < 8; i++) running[g].values[i] *= keep;
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
      scores[b][g] = exp2f(scores[b][g] - reference);
      running[g].sum += scores[b][g];
    }
  }
#pragma unroll
  for (int b = 0; b < BATCH; b++) {
    float value[8];
    widen8(values[b], value);
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
#pragma unroll
      for (int i = 0; i < 8; i++) running[g].values[i] += scores[b][g] * value[i];
    }
  }
}

__device__ inline void loadQueries(float (&query)[GROUP][8], const bf16* line, int served,
                                   int piece, float scale) {
#pragma unroll
  for (int g = 0; g < GROUP; g++) {
    const bool used = g < served && piece < PIECES;
    uint4 packed = make_uint4(0, 0, 0, 0);
    if (used) packed = ((const uint4*)(line + g * HEAD_DIM))[piece];
    widen8(packed, query[g]);
#pragma unroll
    for (int i = 0; i < 8; i++) query[g][i] *= scale;
  }
}

/** Everything a team of lanes reads of positions [from, to). */
__device__ inline void scan(Running (&running)[GROUP], const float (&query)[GROUP][8],
                            const bf16* kv, const HeadPages& pages, int from, int to) {
  const int warp = threadIdx.x / WARP_LANES;
  const int team = threadIdx.x % WARP_LANES / LANES;
  const int piece = threadIdx.x % LANES;
  for (int base = from + warp * TEAMS * BATCH; base < to; base += DECODE_WARPS * TEAMS * BATCH) {
    uint4 keys[BATCH], values[BATCH];
    bool valid[BATCH];
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
      const int position = base + b * TEAMS + team;
      const i64 offset = position < to ? pages.offset(position) : -1;
      valid[b] = offset >= 0;
      keys[b] = values[b] = make_uint4(0, 0, 0, 0);
      if (valid[b] && piece < PIECES) {
        keys[b] = ((const uint4*)(kv + offset))[piece];
        values[b] = ((const uint4*)(kv + offset + pages.valueStride))[piece];
      }
    }
    fold(running, query, keys, values, valid);
  }
}

/** Merges the teams of each warp; afterwards every team holds the warp's result. */
__device__ inline void mergeTeams(Running (&running)[GROUP]) {
#pragma unroll
  for (int g = 0; g < GROUP; g++) {
#pragma unroll
    for (int offset = LANES; offset < WARP_LANES; offset <<= 1) {
      float values[8];
      const float best = __shfl_xor_sync(FULL_WARP, running[g].best, offset);
      const float sum = __shfl_xor_sync(FULL_WARP, running[g].sum, offset);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        values[i] = __shfl_xor_sync(FULL_WARP, running[g].values[i], offset);
      }
      running[g].merge(best, sum, values);
    }
  }
}

/** Grid: (lines, kvHeads * chunks, splits). Partials are [line][head][split][best, sum, values]. */
extern "C" __global__ void __launch_bounds__(DECODE_WARPS* WARP_LANES, MIN_BLOCKS)
    attention_decode(const bf16* qkv, const bf16* kv, const int* tokenRows, const int* positions,
                     bf16* out, float* partials, DecodeShape shape) {
  __shared__ float bests[DECODE_WARPS][GROUP], sums[DECODE_WARPS][GROUP];
  __shared__ float merged[DECODE_WARPS][GROUP][HEAD_DIM];
  const KvPages& pages = shape.pages;
  const int line = blockIdx.x;
  const int kvHead = blockIdx.y / shape.chunks;
  const int perKvHead = shape.heads / pages.kvHeads;
  const int firstOfGroup = blockIdx.y % shape.chunks * GROUP;
  const int served = min(GROUP, perKvHead - firstOfGroup);
  const int head = kvHead * perKvHead + firstOfGroup;
  const int row = checkedRow(tokenRows[line], shape.tableRows);
  if (row < 0) return;

  const int position = positions[line];
  const int end = max(0, min(position, pages.reach() - 1) + 1);
  const int begin = shape.window > 0 ? min(end, max(0, position - shape.window + 1)) : 0;
  const int part = (end - begin + shape.splits - 1) / shape.splits;
  const int from = begin + blockIdx.z * part;
  const int to = min(end, from + part);

  const int width = (shape.heads + 2 * pages.kvHeads) * HEAD_DIM;
  const int piece = threadIdx.x % LANES;
  float query[GROUP][8];
  loadQueries(query, qkv + (i64)line * width + head * HEAD_DIM, served, piece, shape.scale);
  Running running[GROUP];
#pragma unroll
  for (int g = 0; g < GROUP; g++) running[g] = {-infinity(), 0.0f, {0, 0, 0, 0, 0, 0, 0, 0}};
  scan(running, query, kv, HeadPages(pages, row, kvHead, HEAD_DIM), from, to);
  mergeTeams(running);

  const int warp = threadIdx.x / WARP_LANES;
  if (threadIdx.x % WARP_LANES < PIECES) {
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
      if (piece == 0) {
        bests[warp][g] = running[g].best;
        sums[warp][g] = running[g].sum;
      }
#pragma unroll
      for (int i = 0; i < 8; i++) merged[warp][g][piece * 8 + i] = running[g].values[i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < served * HEAD_DIM; i += DECODE_WARPS * WARP_LANES) {
    const int g = i / HEAD_DIM;
    float best = -infinity();
    for (int w = 0; w < DECODE_WARPS; w++) best = fmaxf(best, bests[w][g]);
    const float reference = best == -infinity() ? 0.0f : best;
    float sum = 0.0f, value = 0.0f;
    for (int w = 0; w < DECODE_WARPS; w++) {
      const float weight = exp2f(bests[w][g] - reference);
      sum += sums[w][g] * weight;
      value += merged[w][g][i % HEAD_DIM] * weight;
    }
    if (shape.splits == 1) {
      const float average = sum > 0.0f ? value / sum : 0.0f;
      out[((i64)line * shape.heads + head) * HEAD_DIM + i] = narrow(average);
    } else {
      const i64 slot = ((i64)line * shape.heads + head + g) * shape.splits + blockIdx.z;
      float* partial = partials + slot * (HEAD_DIM + 2);
      partial[2 + i % HEAD_DIM] = value;
      if (i % HEAD_DIM == 0) {
        partial[0] = best;
        partial[1] = sum;
      }
    }
  }
}

/** Merges the splits of each head. Grid: (lines, heads). */
extern "C" __global__ void attention_combine(const float* partials, const int* tokenRows, bf16* out,
                                             int tableRows, int heads, int splits) {
  if (checkedRow(tokenRows[blockIdx.x], tableRows) < 0) return;
  const i64 head = (i64)blockIdx.x * heads + blockIdx.y;
  const float* first = partials + head * splits * (HEAD_DIM + 2);
  float best = -infinity();
  for (int s = 0; s < splits; s++) best = fmaxf(best, first[s * (HEAD_DIM + 2)]);
  const float reference = best == -infinity() ? 0.0f : best;
  for (int i = threadIdx.x; i < HEAD_DIM; i += blockDim.x) {
    float sum = 0.0f, value = 0.0f;
    for (int s = 0; s < splits; s++) {
      const float* partial = first + s * (HEAD_DIM + 2);
      const float weight = exp2f(partial[0] - reference);
      sum += partial[1] * weight;
      value += partial[2 + i] * weight;
    }
    out[head * HEAD_DIM + i] = narrow(sum > 0.0f ? value / sum : 0.0f);
  }
}
