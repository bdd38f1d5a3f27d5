#include "fp8.cuh"
#include "prefill-shape.cuh"
#include "warp-product.cuh"

// Runs of tokens against their contexts on the tensor cores (m16n8k16, bf16 in, f32 out), with an
// online softmax. A tile is ROWS query lines: for GQA the lines of the heads that share a KV head
// lie side by side, so that they share the K and V tiles. Tokens of several rows may share a tile:
// each row's tokens form a segment, in which the other lines are masked. HEAD_DIM, KV_FORMAT (0:
// bf16, 1: FP8 E4M3) and LINE_KV are fixed when compiled.
//
// A warp has 16 lines. Dims beyond 256 are more than its registers hold: then two warps have the
// same lines and half of the dims each. Their halves of the scores are added up by way of shared
// memory, and both weigh them.

#define LINE_WARPS 4
#define ROWS (LINE_WARPS * 16)
/** Warps that have the same lines. */
#define SPLITS (HEAD_DIM > 256 ? 2 : 1)
#define WARPS (LINE_WARPS * SPLITS)
/** Head dimension as the tensor cores need it, and what of it a warp has. */
#define DEPTH ((HEAD_DIM + 16 * SPLITS - 1) / (16 * SPLITS) * (16 * SPLITS))
#define OWN (DEPTH / SPLITS)
#define POSITIONS (DEPTH > 128 ? 32 : 64)
/** Padding keeps the rows that ldmatrix reads together in different banks. */
#define STRIDE (DEPTH + 8)

#if KV_FORMAT == 1
typedef unsigned char Stored;
#else
typedef bf16 Stored;
#endif

/** The two query lines of a tile that a thread's registers hold parts of. */
struct Lines {
  int token[2];
  int position[2];
  /** Element offset of the line's head in the output; -1 past the end. */
  i64 out[2];
};

/**
 * State of the online softmax for a thread's two lines. `sum` is over this thread's columns only.
 */
struct Softmax {
  float best[2];
  float sum[2];
  float values[OWN / 8][4];
};

__device__ inline int lineWarp() { return threadIdx.x / WARP_LANES % LINE_WARPS; }
/** The first dim that a warp has. */
__device__ inline int firstDim() { return threadIdx.x / WARP_LANES / LINE_WARPS * OWN; }

#if KV_FORMAT == 1
/** Eight elements from global to shared memory, or eight zeros. */
__device__ inline void copyPiece(bf16* target, const Stored* source, bool isZero) {
  const uint2 packed = isZero ? make_uint2(0, 0) : *(const uint2*)source;
  *(uint4*)target = widenFp8(packed.x, packed.y);
}
#else
/** Eight elements from global to shared memory in the background, or eight zeros. */
__device__ inline void copyPiece(bf16* target, const Stored* source, bool isZero) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   (u32)__cvta_generic_to_shared(target)),
               "l"(source), "r"(isZero ? 0 : 16));
}
#endif
__device__ inline void awaitPieces() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/**
 * Starts to load keys, or values `shift` elements on. Positions of [begin, to) from `from` on; the
 * rest is zero, since even a masked NaN would spoil the sums.
 */
__device__ inline void loadTile(bf16* tile, const Stored* kv, const HeadPages& pages, i64 shift,
                                int from, int begin, int to) {
  constexpr int pieces = DEPTH / 8;
#pragma unroll 4
  for (int i = threadIdx.x; i < POSITIONS * pieces; i += WARPS * WARP_LANES) {
    const int position = from + i / pieces;
    const int piece = i % pieces;
    const bool isWanted = position >= begin && position < to && piece < HEAD_DIM / 8;
    const i64 offset = isWanted ? pages.offset(position) : -1;
    const Stored* source = offset < 0 ? kv : kv + offset + shift + piece * 8;
    copyPiece(tile + i / pieces * STRIDE + piece * 8, source, offset < 0);
  }
}

/** Adds up what two warps have of the same scores. Nobody reads `halves` when it is called. */
__device__ inline void joinScores(float (&scores)[POSITIONS / 8][4], float* halves) {
  const int warp = threadIdx.x / WARP_LANES;
  const int lane = threadIdx.x % WARP_LANES;
  const auto at = [&](int of, int i) { return (of * (POSITIONS / 2) + i) * WARP_LANES + lane; };
#pragma unroll
  for (int i = 0; i < POSITIONS / 2; i++) halves[at(warp, i)] = scores[i / 4][i % 4];
  asm volatile("bar.sync %0, %1;" ::"r"(1 + lineWarp()), "n"(SPLITS* WARP_LANES) : "memory");
  const int other = (warp + LINE_WARPS) % WARPS;
#pragma unroll
  for (int i = 0; i < POSITIONS / 2; i++) scores[i / 4][i % 4] += halves[at(other, i)];
}

/** Over the dims that the warp has. */
__device__ inline void scoreTile(float (&scores)[POSITIONS / 8][4], const u32 (&query)[OWN / 16][4],
                                 const bf16* keys) {
  const int lane = threadIdx.x % WARP_LANES;
  const int line = lane / 16 * 8 + lane % 8;
  const int half = lane / 8 % 2 * 8;
#pragma unroll
  for (int n = 0; n < POSITIONS / 16; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) scores[2 * n][i] = scores[2 * n + 1][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < OWN / 16; k++) {
      u32 matrices[4];
      loadMatrices(matrices, keys + (n * 16 + line) * STRIDE + firstDim() + k * 16 + half);
      multiply(scores[2 * n], query[k], matrices[0], matrices[1]);
      multiply(scores[2 * n + 1], query[k], matrices[2], matrices[3]);
    }
  }
}

/**
 * Scales and masks the scores of columns from `from`, folds their maxima in, and leaves weights in
 * `scores`.
 */
__device__ inline void weigh(Softmax& state, float (&scores)[POSITIONS / 8][4], const Lines& lines,
                             const bool (&inSegment)[2], int from, int to, float scale,
                             int window) {
  const int column = threadIdx.x % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int position = lines.position[half];
    const int last = inSegment[half] ? min(position, to - 1) : -1;
    const int first = window > 0 ? position - window + 1 : 0;
    float top = state.best[half];
#pragma unroll
    for (int n = 0; n < POSITIONS / 8; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int at = from + n * 8 + column + i;
        float& score = scores[n][half * 2 + i];
        score = at <= last && at >= first ? score * scale : -infinity();
        top = fmaxf(top, score);
      }
    }
    top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
    top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 2));
    const float reference = top == -infinity() ? 0.0f : top;
    const float keep = exp2f(state.best[half] - reference);
    state.best[half] = top;
    state.sum[half] *= keep;
#pragma unroll
    for (int d = 0; d < OWN / 8; d++) {
      state.values[d][half * 2] *= keep;
      state.values[d][half * 2 + 1] *= keep;
    }
#pragma unroll
    for (int n = 0; n < POSITIONS / 8; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        float& score = scores[n][half * 2 + i];
        score = exp2f(score - reference);
        state.sum[half] += score;
      }
    }
  }
}

__device__ inline void addValues(Softmax& state, const float (&weights)[POSITIONS / 8][4],
                                 const bf16* values) {
  const int lane = threadIdx.x % WARP_LANES;
  const int line = lane / 8 % 2 * 8 + lane % 8;
  const int half = lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < POSITIONS / 16; k++) {
    const float(&low)[4] = weights[2 * k];
    const float(&high)[4] = weights[2 * k + 1];
    const u32 a[4] = {narrowPair(low[0], low[1]), narrowPair(low[2], low[3]),
                      narrowPair(high[0], high[1]), narrowPair(high[2], high[3])};
#pragma unroll
    for (int d = 0; d < OWN / 16; d++) {
      u32 matrices[4];
      loadTransposed(matrices, values + (k * 16 + line) * STRIDE + firstDim() + d * 16 + half);
      multiply(state.values[2 * d], a, matrices[0], matrices[1]);
      multiply(state.values[2 * d + 1], a, matrices[2], matrices[3]);
    }
  }
}

__device__ inline void store(const Softmax& state, const Lines& lines, const bf16* sinks, int heads,
                             bf16* out) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = state.sum[half];
    sum += __shfl_xor_sync(FULL_WARP, sum, 1);
    sum += __shfl_xor_sync(FULL_WARP, sum, 2);
    if (lines.out[half] < 0) continue;
    if (sinks != nullptr) {
      const int head = (int)(lines.out[half] / HEAD_DIM % heads);
      sum += exp2f(widen(sinks[head]) * LOG2_E - state.best[half]);
    }
    const float factor = sum > 0.0f ? 1.0f / sum : 0.0f;
#pragma unroll
    for (int d = 0; d < OWN / 8; d++) {
      const int column = firstDim() + d * 8 + threadIdx.x % 4 * 2;
      if (column >= HEAD_DIM) continue;
      *(u32*)(out + lines.out[half] + column) = narrowPair(
          state.values[d][half * 2] * factor, state.values[d][half * 2 + 1] * factor);
    }
  }
}

/** Loads a thread's parts of its warp's query lines, and says which tokens they belong to. */
__device__ inline Lines loadQueries(u32 (&query)[OWN / 16][4], const bf16* qkv,
                                    const int* positions, const PrefillShape& shape) {
  const KvPages& pages = shape.pages;
  const int group = shape.group;
  const int width = (shape.heads + LINE_KV * pages.kvHeads) * HEAD_DIM;
  Lines lines;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = lineWarp() * 16 + threadIdx.x % WARP_LANES / 4 + half * 8;
    const i64 index = (i64)blockIdx.x * ROWS + row;
    const int token = (int)(index / group);
    const bool inside = token < shape.count;
    const int head = blockIdx.y * group + (int)(index % group);
    lines.token[half] = inside ? token : -1;
    lines.position[half] = inside ? positions[token] : -1;
    lines.out[half] = inside ? ((i64)token * shape.heads + head) * HEAD_DIM : -1;
    const bf16* line = qkv + (i64)token * width + head * HEAD_DIM;
#pragma unroll
    for (int k = 0; k < OWN / 16; k++) {
#pragma unroll
      for (int part = 0; part < 2; part++) {
        const int column = firstDim() + k * 16 + part * 8 + threadIdx.x % 4 * 2;
        query[k][part * 2 + half] = inside && column < HEAD_DIM ? *(const u32*)(line + column) : 0;
      }
    }
  }
  return lines;
}

/** Grid: (tiles of ROWS lines, kvHeads). Shared memory: two tiles, and with SPLITS the scores. */
extern "C" __global__ void __launch_bounds__(WARPS* WARP_LANES)
    attention_prefill(const bf16* qkv, const Stored* kv, const int* tokenRows, const int* positions,
                      const bf16* sinks, bf16* out, PrefillShape shape) {
  extern __shared__ __align__(16) bf16 keys[];
  bf16* values = keys + POSITIONS * STRIDE;
  float* halves = (float*)(values + POSITIONS * STRIDE);
  letNextStart();
  awaitEarlier();
  const int group = shape.group;
  const int firstToken = (int)((i64)blockIdx.x * ROWS / group);
  const int endToken = min(shape.count, (int)(((i64)blockIdx.x * ROWS + ROWS - 1) / group) + 1);

  u32 query[OWN / 16][4];
  const Lines lines = loadQueries(query, qkv, positions, shape);
  Softmax state;
#pragma unroll
  for (int half = 0; half < 2; half++) state.best[half] = -infinity(), state.sum[half] = 0.0f;
#pragma unroll
  for (int d = 0; d < OWN / 8; d++) {
#pragma unroll
    for (int i = 0; i < 4; i++) state.values[d][i] = 0.0f;
  }

  for (int token = firstToken; token < endToken;) {
    const int segment = token;
    const int row = tokenRows[segment];
    int last = -1, first = 0x7fffffff;
    for (; token < endToken && tokenRows[token] == row; token++) {
      last = max(last, positions[token]);
      first = min(first, positions[token]);
    }
    if (checkedRow(row, shape.tableRows) < 0) continue;
    const int to = min(last, shape.pages.reach() - 1) + 1;
    const int begin = shape.window > 0 ? max(0, first - shape.window + 1) : 0;
    const HeadPages pages(shape.pages, row, blockIdx.y, HEAD_DIM);
    const bool inSegment[2] = {lines.token[0] >= segment && lines.token[0] < token,
                               lines.token[1] >= segment && lines.token[1] < token};
    // While scores are worked out the values arrive, and while values are added up the next keys
    // do.
    const int start = begin / POSITIONS * POSITIONS;
    if (start < to) loadTile(keys, kv, pages, 0, start, begin, to);
    for (int from = start; from < to; from += POSITIONS) {
      awaitPieces();
      __syncthreads();
      loadTile(values, kv, pages, pages.valueStride, from, begin, to);
      float scores[POSITIONS / 8][4];
      scoreTile(scores, query, keys);
      if (SPLITS > 1) joinScores(scores, halves);
      weigh(state, scores, lines, inSegment, from, to, shape.scale, shape.window);
      awaitPieces();
      __syncthreads();
      const int next = from + POSITIONS;
      if (next < to) loadTile(keys, kv, pages, 0, next, begin, to);
      addValues(state, scores, values);
    }
  }
  store(state, lines, sinks, shape.heads, out);
}
