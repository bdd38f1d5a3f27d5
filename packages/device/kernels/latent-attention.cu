#include "latent.cuh"
#include "warp-product.cuh"

// `latent-attention` of ops.ts on the tensor cores, with an online softmax: a block has one token,
// up to 64 of its heads and a part of its context, whose lines are keys and values at once. Heads
// are the lines of the products, so that prompts are computed as decode steps are. Fixed when
// compiled: LATENT_RANK and LATENT_ROTARY, multiples of 16.
//
// A tile of positions is scored by warps that have 16 heads and 16 positions each; weights go by
// way of shared memory to warps that have all heads and a part of the dims each.

#define WARPS 8
#define THREADS (WARPS * WARP_LANES)
#define POSITIONS 32
#define STAGES 3
/** An odd number of 16 bytes. */
#define STRIDE (WIDTH + 8)
#define WEIGHT_STRIDE (POSITIONS + 8)
/** Pairs of eight dims that a warp has of the values. */
#define PAIRS ((LATENT_RANK / 16 + WARPS - 1) / WARPS)

#define HEADS_OF_BLOCK 16

/**
 * Blocks of a token: the first writes its line, the others turn the queries of HEADS_OF_BLOCK heads
 * each.
 */
extern "C" __global__ void write_latents(const bf16* projected, bf16* queries, const bf16* latents,
                                         const bf16* norm, const float2* rope, bf16* kv,
                                         const int* tokenRows, const int* positions,
                                         LatentShape shape, int projectedStride, int turnedFrom,
                                         float epsilon) {
  awaitEarlier();
  letNextStart();
  const int token = blockIdx.y;
  const int position = positions[token];
  const int row = rowOf(shape, tokenRows, token, position);
  if (row < 0) return;
  const float2* angles = rope + (i64)position * (LATENT_ROTARY / 2);
  const auto turn = [&](const bf16* from, bf16* to, int pair) {
    const u32 both = ((const u32*)from)[pair];
    const float2 angle = angles[pair];
    const float first = widenLow(both), second = widenHigh(both);
    ((u32*)to)[pair] = narrowPair(first * angle.x - second * angle.y,
                                  second * angle.x + first * angle.y);
  };
  if (blockIdx.x == 0) {
    const HeadPages pages(shape.pages, row, 0, WIDTH);
    const i64 offset = pages.offset(position);
    const bf16* line = latents + (i64)token * WIDTH;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < LATENT_RANK; i += blockDim.x) {
      sum += widen(line[i]) * widen(line[i]);
    }
    const float factor = rsqrtf(blockSum(sum) / (float)LATENT_RANK + epsilon);
    if (offset < 0) return;
    for (int i = threadIdx.x; i < LATENT_RANK; i += blockDim.x) {
      kv[offset + i] = narrow(widen(line[i]) * factor * widen(norm[i]));
    }
    for (int pair = threadIdx.x; pair < LATENT_ROTARY / 2; pair += blockDim.x) {
      turn(line + LATENT_RANK, kv + offset + LATENT_RANK, pair);
    }
    return;
  }
  const int first = (blockIdx.x - 1) * HEADS_OF_BLOCK;
  const int heads = min(HEADS_OF_BLOCK, shape.heads - first);
  for (int i = threadIdx.x; i < heads * (LATENT_ROTARY / 2); i += blockDim.x) {
    const i64 head = (i64)token * shape.heads + first + i / (LATENT_ROTARY / 2);
    const bf16* from = projected + head * projectedStride + turnedFrom;
    turn(from, queries + head * WIDTH + LATENT_RANK, i % (LATENT_ROTARY / 2));
  }
}

/** 16 bytes from global to shared memory in the background, or 16 zeros. */
__device__ inline void copyPiece(bf16* target, const bf16* source, bool isZero) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   (u32)__cvta_generic_to_shared(target)),
               "l"(source), "r"(isZero ? 0 : 16)
               : "memory");
}
__device__ inline void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> __device__ inline void awaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/** Starts to load the lines of positions [from, to); what is behind is zeros. A warp has a line. */
__device__ inline void loadTile(bf16* tile, const bf16* kv, const HeadPages& pages, int from,
                                int to) {
  const int lane = threadIdx.x % WARP_LANES;
#pragma unroll
  for (int i = threadIdx.x / WARP_LANES; i < POSITIONS; i += WARPS) {
    const i64 offset = from + i < to ? pages.offset(from + i) : -1;
    const bf16* source = offset < 0 ? kv : kv + offset;
#pragma unroll
    for (int piece = lane; piece < WIDTH / 8; piece += WARP_LANES) {
      copyPiece(tile + i * STRIDE + piece * 8, source + piece * 8, offset < 0);
    }
  }
}

/** Grid: (groups of heads times splits, tokens). */
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    latent_attention(const bf16* queries, const bf16* kv, const int* tokenRows,
                     const int* positions, LatentOutput output, LatentShape shape) {
  extern __shared__ __align__(16) bf16 shared[];
  __shared__ __align__(16) bf16 weights[HEADS * WEIGHT_STRIDE];
  __shared__ float tops[2][HEADS];
  __shared__ float keeps[HEADS];
  bf16* query = shared;
  bf16* ring = shared + HEADS * STRIDE;
  const int lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
  awaitEarlier();
  letNextStart();
  const LatentWork work(shape, tokenRows, positions);
  if (work.begin >= work.end) return;
  const HeadPages pages(shape.pages, work.row, 0, WIDTH);
  for (int i = threadIdx.x; i < HEADS * (WIDTH / 8); i += THREADS) {
    const int head = i / (WIDTH / 8), piece = i % (WIDTH / 8);
    const bool isThere = work.firstHead + head < shape.heads;
    const i64 line = (i64)work.token * shape.heads + (isThere ? work.firstHead + head : 0);
    copyPiece(query + head * STRIDE + piece * 8, queries + line * WIDTH + piece * 8, !isThere);
  }
  const int tiles = (work.end - work.begin + POSITIONS - 1) / POSITIONS;
  const auto load = [&](int tile) {
    bf16* stage = ring + tile % STAGES * POSITIONS * STRIDE;
    if (tile < tiles) loadTile(stage, kv, pages, work.begin + tile * POSITIONS, work.end);
    commitCopies();
  };
#pragma unroll
  for (int i = 0; i < STAGES - 1; i++) load(i);

  // Scores: 16 heads and 16 positions of a warp.
  const int headAt = warp % 4 * 16, half = warp / 4, positionAt = half * 16;
  float best[2] = {-infinity(), -infinity()}, sum[2] = {0.0f, 0.0f};
  float values[4][2 * PAIRS][4] = {};
  for (int tile = 0; tile < tiles; tile++) {
    awaitCopies<STAGES - 2>();
    __syncthreads();
    load(tile + STAGES - 1);
    const bf16* lines = ring + tile % STAGES * POSITIONS * STRIDE;
    float scores[2][4] = {};
#pragma unroll 4
    for (int k = 0; k < WIDTH; k += 16) {
      u32 left[4], right[4];
      loadMatrices(left, query + headAt * STRIDE + k + leftAt(STRIDE));
      loadMatrices(right, lines + positionAt * STRIDE + k + rightAt(STRIDE));
      multiply(scores[0], left, right[0], right[1]);
      multiply(scores[1], left, right[2], right[3]);
    }
    // Of a thread's scores those of positions from `last` on are not seen.
    const int first = work.begin + tile * POSITIONS + positionAt + lane % 4 * 2;
    const int last = work.end - first;
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (n * 8 + i % 2 >= last) scores[n][i] = -infinity();
      }
    }
#pragma unroll
    for (int line = 0; line < 2; line++) {
      const float top = fmaxf(fmaxf(scores[0][line * 2], scores[0][line * 2 + 1]),
                              fmaxf(scores[1][line * 2], scores[1][line * 2 + 1]));
      const float ofLine = quadMax(top);
      if (lane % 4 == 0) tops[half][headAt + line * 8 + lane / 4] = ofLine;
    }
    __syncthreads();
#pragma unroll
    for (int line = 0; line < 2; line++) {
      const int head = headAt + line * 8 + lane / 4;
      // The first position of a tile is always seen.
      const float top = fmaxf(best[line], fmaxf(tops[0][head], tops[1][head]));
      const float reference = top * shape.scale;
      const float keep = power(best[line] * shape.scale - reference);
      best[line] = top;
      float own = 0.0f;
#pragma unroll
      for (int n = 0; n < 2; n++) {
        const float first = power(scores[n][line * 2] * shape.scale - reference);
        const float second = power(scores[n][line * 2 + 1] * shape.scale - reference);
        own += first + second;
        const int at = head * WEIGHT_STRIDE + positionAt + n * 8 + lane % 4 * 2;
        *(u32*)(weights + at) = narrowPair(first, second);
      }
      sum[line] = sum[line] * keep + own;
      if (half == 0 && lane % 4 == 0) keeps[head] = keep;
    }
    __syncthreads();
    // Values: all heads, and some dims of a warp.
#pragma unroll
    for (int part = 0; part < 4; part++) {
      const float first = keeps[part * 16 + lane / 4], second = keeps[part * 16 + 8 + lane / 4];
#pragma unroll
      for (int n = 0; n < 2 * PAIRS; n++) {
        values[part][n][0] *= first, values[part][n][1] *= first;
        values[part][n][2] *= second, values[part][n][3] *= second;
      }
    }
#pragma unroll
    for (int k = 0; k < POSITIONS; k += 16) {
      u32 left[4][4];
#pragma unroll
      for (int part = 0; part < 4; part++) {
        loadMatrices(left[part], weights + part * 16 * WEIGHT_STRIDE + k + leftAt(WEIGHT_STRIDE));
      }
#pragma unroll
      for (int pair = 0; pair < PAIRS; pair++) {
        const int dim = (warp * PAIRS + pair) * 16;
        if (dim >= LATENT_RANK) break;
        u32 right[4];
        loadTransposed(right, lines + k * STRIDE + dim + rightTransposedAt(STRIDE));
#pragma unroll
        for (int part = 0; part < 4; part++) {
          multiply(values[part][2 * pair], left[part], right[0], right[1]);
          multiply(values[part][2 * pair + 1], left[part], right[2], right[3]);
        }
      }
    }
  }
  awaitCopies<0>();
  __syncthreads();
#pragma unroll
  for (int line = 0; line < 2; line++) {
    const float ofLine = quadSum(sum[line]);
    const int head = headAt + line * 8 + lane / 4;
    if (lane % 4 == 0) tops[half][head] = ofLine;
    if (half == 0 && lane % 4 == 0) keeps[head] = best[line];
  }
  __syncthreads();
#pragma unroll
  for (int part = 0; part < 4; part++) {
#pragma unroll
    for (int line = 0; line < 2; line++) {
      const int head = part * 16 + line * 8 + lane / 4;
      if (work.firstHead + head >= shape.heads) continue;
      const float total = tops[0][head] + tops[1][head];
      const float factor = 1.0f / total;
      if (warp == 0 && lane % 4 == 0) output.storeSum(work, shape, head, keeps[head], total);
#pragma unroll
      for (int n = 0; n < 2 * PAIRS; n++) {
        const int dim = warp * PAIRS * 16 + n * 8 + lane % 4 * 2;
        if (dim >= LATENT_RANK) break;
        const float* both = values[part][n] + line * 2;
        output.store(work, shape, head, dim, both[0] * factor, both[1] * factor);
      }
    }
  }
}

/** Puts the parts of a context together, where there are several. Grid: (heads, tokens). */
extern "C" __global__ void join_latents(LatentOutput output, const int* tokenRows,
                                        const int* positions, LatentShape shape) {
  awaitEarlier();
  letNextStart();
  const int token = blockIdx.y;
  const int position = positions[token];
  if (rowOf(shape, tokenRows, token, position) < 0) return;
  const int each = positionsOfBlock(position + 1, shape.splits);
  const int parts = (position + each) / each;
  if (parts == 1) return;
  const i64 head = (i64)token * shape.heads + blockIdx.x;
  const float2* own = output.sums + head * shape.splits;
  float best = -infinity();
  for (int i = 0; i < parts; i++) best = fmaxf(best, own[i].x);
  for (int dim = threadIdx.x * 2; dim < LATENT_RANK; dim += blockDim.x * 2) {
    float total = 0.0f;
    float2 value = make_float2(0.0f, 0.0f);
    for (int i = 0; i < parts; i++) {
      const float weight = power((own[i].x - best) * shape.scale) * own[i].y;
      const i64 place = head * shape.splits + i;
      const float2 part = *(const float2*)(output.partials + place * LATENT_RANK + dim);
      total += weight;
      value.x += weight * part.x, value.y += weight * part.y;
    }
    *(u32*)(output.out + head * LATENT_RANK + dim) =
        narrowPair(value.x / total, value.y / total);
  }
}
