#include "hopper.cuh"
#include "latent.cuh"

// Latent attention by products of warpgroups (wgmma), for LATENT_RANK in multiples of 256 and
// LATENT_ROTARY in multiples of 64. A block has a token, 64 of its heads and a part of its context.
// A warpgroup loads tiles of positions; two others score half of a tile each, exchange weights by
// way of shared memory, and have half of the values' dims each.

/** As many as heads: both are tiles alike. */
#define POSITIONS HEADS
#define STAGES 2
#define CONSUMERS 2
#define THREADS ((CONSUMERS + 1) * WARPGROUP)
/** Columns of a line that are swizzled together, and what they take of a tile. */
#define PART 64
#define PARTS (WIDTH / PART)
#define PART_BYTES (POSITIONS * SWIZZLE_LINE)
/** Positions that a consumer scores. */
#define OWN (POSITIONS / CONSUMERS)
/** Products of 128 dims that a consumer has of the values. */
#define VALUES (LATENT_RANK / CONSUMERS / 128)
/** The registers of a thread: what three warpgroups get alike, divided by what they need. */
#define LOADER_REGISTERS 72
#define CONSUMER_REGISTERS 216
/** Among the consumers alone. */
#define SCORED 1
#define WEIGHED 2

/** Its tiles come first: swizzled lines start at multiples of SWIZZLE_ATOM. */
struct Shared {
  unsigned char query[PARTS * HEADS * SWIZZLE_LINE];
  unsigned char lines[STAGES][PARTS * PART_BYTES];
  /** A consumer's weights, as the registers of its threads have them. */
  u32 weights[CONSUMERS][OWN / 4][WARPGROUP];
  float tops[CONSUMERS][HEADS];
  u64 queryFull, full[STAGES], free[STAGES];
};

/** sums[64, 32] (+)= a * b^T over 16 columns; both K-major in shared memory. */
__device__ inline void multiplyScores(float (&sums)[16], u64 a, u64 b, bool isAdded) {
  asm volatile(
      "{\n.reg .pred added;\nsetp.ne.b32 added, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" SUMS_16
      "}, %16, %17, added, 1, 1, 0, 0;\n}"
      : OPERANDS_16(sums)
      : "l"(a), "l"(b), "r"((int)isAdded));
}

/**
 * Starts to copy 64 lines of WIDTH to swizzled lines; offsetOf says where one is, or -1. A warp has
 * sixteen, four at a time.
 */
template <typename OffsetOf>
__device__ inline void copyLines(unsigned char* target, const bf16* source,
                                 const OffsetOf& offsetOf) {
  const int lane = threadIdx.x % WARP_LANES;
  const int first = threadIdx.x % WARPGROUP / WARP_LANES * 16;
  const i64 own = offsetOf(first + lane % 16);
#pragma unroll
  for (int i = 0; i < 16; i += 4) {
    const int line = i + lane / 8;
    const i64 offset = __shfl_sync(FULL_WARP, own, line);
    const bool isZero = offset < 0;
    const bf16* from = source + (isZero ? 0 : offset) + lane % 8 * 8;
    const u32 to = sharedAddress(target) + swizzled(first + line, lane % 8);
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      copyPiece(to + part * PART_BYTES, from + part * PART, isZero);
    }
  }
}

__device__ inline void runLoader(Shared& shared, const bf16* queries, const bf16* kv,
                                 const LatentWork& work, const LatentShape& shape) {
  const i64 firstLine = (i64)work.token * shape.heads + work.firstHead;
  copyLines(shared.query, queries, [&](int head) {
    return work.firstHead + head < shape.heads ? (firstLine + head) * WIDTH : (i64)-1;
  });
  arriveWhenCopied(shared.queryFull);
  const HeadPages pages(shape.pages, work.row, 0, WIDTH);
  int tile = 0;
  for (int from = work.begin; from < work.end; from += POSITIONS, tile++) {
    const int stage = tile % STAGES;
    awaitPhase(shared.free[stage], tile / STAGES % 2 ^ 1);
    copyLines(shared.lines[stage], kv, [&](int line) {
      return from + line < work.end ? pages.offset(from + line) : (i64)-1;
    });
    arriveWhenCopied(shared.full[stage]);
  }
}

__device__ inline void runConsumer(Shared& shared, const LatentOutput& output,
                                   const LatentWork& work, const LatentShape& shape) {
  const int lane = threadIdx.x % WARP_LANES;
  const int group = threadIdx.x / WARPGROUP - 1, within = threadIdx.x % WARPGROUP;
  // A thread has parts of two heads, eight apart, and of every eight columns two neighbours.
  const int headAt = within / WARP_LANES * 16 + lane / 4;
  float best[2] = {-infinity(), -infinity()}, sum[2] = {0.0f, 0.0f};
  float values[VALUES][64];
#pragma unroll
  for (int v = 0; v < VALUES; v++) {
#pragma unroll
    for (int i = 0; i < 64; i++) values[v][i] = 0.0f;
  }
  const u64 query = describe(sharedAddress(shared.query), 16, SWIZZLE_ATOM);
  awaitPhase(shared.queryFull, 0);
  int tile = 0;
  for (int from = work.begin; from < work.end; from += POSITIONS, tile++) {
    const int stage = tile % STAGES;
    // What copies of this kind have written is for the tensor cores to read after a fence.
    awaitPhase(shared.full[stage], tile / STAGES % 2);
    fenceProducts();
    const u32 lines = sharedAddress(shared.lines[stage]);
    const u64 keys = describe(lines + group * OWN * SWIZZLE_LINE, 16, SWIZZLE_ATOM);
    float scores[OWN / 2];
    beginProducts();
#pragma unroll
    for (int k = 0; k < WIDTH / 16; k++) {
      const u32 column = k % 4 * 32;
      multiplyScores(scores, further(query, k / 4 * (HEADS * SWIZZLE_LINE) + column),
                     further(keys, k / 4 * PART_BYTES + column), k > 0);
    }
    commitProducts();
    awaitProducts<0>();
    pin(scores);

    const int last = work.end - (from + group * OWN + lane % 4 * 2);
    if (from + POSITIONS > work.end) {
#pragma unroll
      for (int i = 0; i < OWN / 2; i++) {
        if (i / 4 * 8 + i % 2 >= last) scores[i] = -infinity();
      }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float top = -infinity();
#pragma unroll
      for (int n = 0; n < OWN / 8; n++) {
        top = fmaxf(top, fmaxf(scores[n * 4 + half * 2], scores[n * 4 + half * 2 + 1]));
      }
      top = quadMax(top);
      if (lane % 4 == 0) shared.tops[group][headAt + half * 8] = top;
    }
    meet(SCORED, CONSUMERS * WARPGROUP);
    u32 own[OWN / 4];
    float keep[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int head = headAt + half * 8;
      // The first position of a tile is always seen.
      const float top = fmaxf(best[half], fmaxf(shared.tops[0][head], shared.tops[1][head]));
      const float reference = top * shape.scale;
      keep[half] = power(best[half] * shape.scale - reference);
      best[half] = top;
      float added = 0.0f;
#pragma unroll
      for (int n = 0; n < OWN / 8; n++) {
        const float first = power(scores[n * 4 + half * 2] * shape.scale - reference);
        const float second = power(scores[n * 4 + half * 2 + 1] * shape.scale - reference);
        added += first + second;
        own[n * 2 + half] = narrowPair(first, second);
      }
      sum[half] = sum[half] * keep[half] + added;
    }
#pragma unroll
    for (int i = 0; i < OWN / 4; i++) shared.weights[group][i][within] = own[i];
    meet(WEIGHED, CONSUMERS * WARPGROUP);
    u32 weights[POSITIONS / 4];
#pragma unroll
    for (int i = 0; i < POSITIONS / 4; i++) {
      const int of = i / (OWN / 4), at = i % (OWN / 4);
      weights[i] = of == group ? own[at] : shared.weights[of][at][within];
    }
#pragma unroll
    for (int v = 0; v < VALUES; v++) {
#pragma unroll
      for (int i = 0; i < 64; i++) values[v][i] *= keep[i / 2 % 2];
      pin(values[v]);
    }
    pin(weights);
    beginProducts();
#pragma unroll
    for (int v = 0; v < VALUES; v++) {
      const u32 part = (group * VALUES + v) * (128 / PART);
      const u64 right = describe(lines + part * PART_BYTES, PART_BYTES, SWIZZLE_ATOM);
#pragma unroll
      for (int k = 0; k < POSITIONS / 16; k++) {
        multiplyRegisters(values[v], weights[4 * k], weights[4 * k + 1], weights[4 * k + 2],
                          weights[4 * k + 3], further(right, k * 2 * SWIZZLE_ATOM));
      }
    }
    commitProducts();
    awaitProducts<0>();
#pragma unroll
    for (int v = 0; v < VALUES; v++) pin(values[v]);
    pin(weights);
    arriveAsWarp(shared.free[stage]);
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float total = quadSum(sum[half]);
    if (lane % 4 == 0) shared.tops[group][headAt + half * 8] = total;
  }
  meet(SCORED, CONSUMERS * WARPGROUP);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int head = headAt + half * 8;
    if (work.firstHead + head >= shape.heads) continue;
    const float total = shared.tops[0][head] + shared.tops[1][head];
    const float factor = 1.0f / total;
    if (group == 0 && lane % 4 == 0) output.storeSum(work, shape, head, best[half], total);
#pragma unroll
    for (int v = 0; v < VALUES; v++) {
#pragma unroll
      for (int n = 0; n < 16; n++) {
        const int dim = (group * VALUES + v) * 128 + n * 8 + lane % 4 * 2;
        const float* both = values[v] + n * 4 + half * 2;
        output.store(work, shape, head, dim, both[0] * factor, both[1] * factor);
      }
    }
  }
}

/**
 * Grid: (groups of heads times splits, tokens). Threads: THREADS, no other number. Dynamic shared
 * memory: sizeof(Shared).
 */
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    latent_attention_hopper(const bf16* queries, const bf16* kv, const int* tokenRows,
                            const int* positions, LatentOutput output, LatentShape shape) {
  extern __shared__ __align__(SWIZZLE_ATOM) unsigned char memory[];
  Shared& shared = *(Shared*)memory;
  letNextStart();
  if (threadIdx.x == 0) {
    initBarrier(shared.queryFull, WARPGROUP);
    for (int i = 0; i < STAGES; i++) {
      initBarrier(shared.full[i], WARPGROUP);
      initBarrier(shared.free[i], CONSUMERS * WARPGROUP / WARP_LANES * WARP_ARRIVALS);
    }
    fenceProducts();
  }
  __syncthreads();
  awaitEarlier();
  const LatentWork work(shape, tokenRows, positions);
  if (work.begin >= work.end) return;
  if (threadIdx.x < WARPGROUP) {
    leaveRegisters<LOADER_REGISTERS>();
    runLoader(shared, queries, kv, work, shape);
  } else {
    takeRegisters<CONSUMER_REGISTERS>();
    runConsumer(shared, output, work, shape);
  }
}
