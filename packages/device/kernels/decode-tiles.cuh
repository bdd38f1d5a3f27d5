#pragma once
#include "decode-work.cuh"
#include "fp8.cuh"

// Tiles of keys and values: from their pages to shared memory in the background, and through the
// tensor cores (m16n8k16). The products are transposed: positions (then dims) are their rows and
// query heads their columns, so that a group of heads fills eight columns instead of half of
// sixteen rows. FP8 is widened to f16, which holds every e4m3 exactly.

/** Query heads that a tensor core product has columns for. */
#define COLUMNS 8
/** Head dimension as the tensor cores need it. */
#if KV_FORMAT == 1
#define DEPTH ((HEAD_DIM + 31) / 32 * 32)
#else
#define DEPTH ((HEAD_DIM + 15) / 16 * 16)
#endif
#define STEPS (DEPTH / 16)

#define ROW_BYTES (HEAD_DIM * (int)sizeof(KvElement))
/** What one copy moves. */
#define PIECE_BYTES (ROW_BYTES % 16 == 0 ? 16 : 8)
#define PIECES (ROW_BYTES / PIECE_BYTES)
/** An odd number of 16 bytes: the rows that ldmatrix reads together lie in different banks. */
#define STRIDE ((DEPTH * (int)sizeof(KvElement) / 16 | 1) * 16)
#define TILE_BYTES (TILE * STRIDE)

__device__ inline u32 sharedAddress(const void* address) {
  return (u32)__cvta_generic_to_shared(address);
}

/** A piece from global to shared memory in the background, or zeros. */
__device__ inline void copyPiece(char* target, const KvElement* source, bool isZero) {
  const u32 to = sharedAddress(target);
  if (PIECE_BYTES == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(source),
                 "r"(isZero ? 0 : 16));
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(source),
                 "r"(isZero ? 0 : 8));
  }
}

/** Waits for keys whose values may still be on their way, or for values, when keys may. */
__device__ inline void awaitOlderCopy() {
  asm volatile("cp.async.wait_group 1;" ::: "memory");
  __syncwarp();
}

/** Where the pages of a layer hold the keys and values of a KV head: PAGE_TOKENS are known here. */
struct HeadKv {
  const int* table;
  i64 base;

  __device__ HeadKv(const KvPages& pages, int row, int kvHead)
      : table(pages.table + (i64)row * pages.pagesPerRow),
        base(pages.layerElement + (i64)kvHead * (PAGE_TOKENS * HEAD_DIM)) {}

  /** Elements from a key to its value. */
  __device__ static i64 valueStride(const KvPages& pages) {
    return (i64)pages.kvHeads * (PAGE_TOKENS * HEAD_DIM);
  }

  __device__ int page(int position) const { return table[position / PAGE_TOKENS]; }

  /** Element offset of a position's key; -1 where its page is none of ours. */
  __device__ i64 offset(const KvPages& pages, int page, int position) const {
    if ((u32)page >= (u32)pages.pages) return -1;
    return page * (i64)pages.pageElements + base + position % PAGE_TOKENS * HEAD_DIM;
  }
};

/**
 * What a warp has on its way: of its tiles of the block's share, the next one's keys and values,
 * across the borders of items. More than that would only lengthen the queue to memory.
 */
struct Feed {
  const DecodeArgs& args;
  Item item;
  HeadKv kv;
  /** The next tile to load, within the item. */
  int tile;
  /** Tiles from it to the end of the share. */
  int left;
  /** Of the line of the tile that this lane looks after. */
  int page;
  i64 offset;
  /** Where they go to, in shared memory. */
  char* keys;
  char* values;

  __device__ Feed(const DecodeArgs& args, const Share& share, char* memory)
      : args(args),
        item(share.item),
        kv(args.shape.pages, share.item.span.row, share.item.kvHead),
        keys(memory),
        values(memory + TILE_BYTES) {
    const int warp = threadIdx.x / WARP_LANES;
    tile = share.tile + warp;
    left = share.tiles - warp;
    locate();
  }

  __device__ int position() const { return item.span.start(tile) + threadIdx.x % TILE; }

  /**
   * Looks up the page of this lane's line of the tile, which is not waited for. Positions outside
   * the span have none, nor has the token's own where it is not yet written.
   */
  __device__ void locate() {
    if (left <= 0) return;
    if (tile >= item.span.tiles) {
      do {
        tile -= item.span.tiles;
        item.next(args);
      } while (tile >= item.span.tiles);
      kv = HeadKv(args.shape.pages, item.span.row, item.kvHead);
    }
    const int last = item.span.position - (IS_STORED ? 0 : 1);
    const bool isStored = position() >= item.span.begin && position() <= last;
    page = isStored ? kv.page(position()) : -1;
  }

  /** Starts to load the tile's keys, if there is a tile, as a group of its own. */
  __device__ void loadKeys() {
    if (left > 0) {
      offset = kv.offset(args.shape.pages, page, position());
      loadTile(keys, 0);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  /** The same for the values of the tile whose keys were loaded last; goes on to the next. */
  __device__ void loadValues() {
    if (left > 0) {
      loadTile(values, HeadKv::valueStride(args.shape.pages));
      left -= DECODE_WARPS;
      tile += DECODE_WARPS;
      locate();
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  __device__ void loadTile(char* target, i64 shift) {
#pragma unroll
    for (int i = 0; i < (TILE * PIECES + WARP_LANES - 1) / WARP_LANES; i++) {
      const int index = i * WARP_LANES + threadIdx.x % WARP_LANES;
      const int from = index / PIECES;
      const int byte = index % PIECES * PIECE_BYTES;
      const i64 start = __shfl_sync(FULL_WARP, offset, from % TILE);
      const i64 source = start < 0 ? 0 : start + shift + byte / (int)sizeof(KvElement);
      if (from < TILE) copyPiece(target + from * STRIDE + byte, args.kv + source, start < 0);
    }
  }
};

__device__ inline void multiply(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if KV_FORMAT == 1
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
#endif
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/** Two floats as the tensor cores take them here: f16 holds every e4m3 exactly. */
__device__ inline u32 operandPair(float low, float high) {
#if KV_FORMAT == 1
  u32 pair;
  const float most = 65504.0f;
  low = fminf(fmaxf(low, -most), most);
  high = fminf(fmaxf(high, -most), most);
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return narrowPair(low, high);
#endif
}

__device__ inline u32 transposed(u32 matrix) {
  u32 result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(matrix));
  return result;
}

__device__ inline void loadMatrices(u32 (&matrices)[4], const char* address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(sharedAddress(address)));
}
__device__ inline void loadTransposed(u32 (&matrices)[4], const char* address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(sharedAddress(address)));
}

#if KV_FORMAT == 1
/** Two e4m3 as f16. */
__device__ inline u32 widenPair(u32 pair) {
  u32 result;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(result) : "h"((unsigned short)pair));
  return result;
}
#endif

/** Scores of a tile: [position g or g + 8][head 2c or 2c + 1], for lane 4g + c. */
__device__ inline void scoreTile(float (&scores)[4], const u32 (&query)[STEPS][2],
                                 const char* keys) {
  const int lane = threadIdx.x % WARP_LANES;
  const char* own = keys + lane % 16 * STRIDE + lane / 16 * 16;
  // Two sums, since each product waits for the one before it.
  float odd[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int i = 0; i < 4; i++) scores[i] = 0.0f;
#if KV_FORMAT == 1
#pragma unroll
  for (int k = 0; k < STEPS; k += 2) {
    u32 bytes[4];
    loadMatrices(bytes, own + k * 16);
    const u32 even[4] = {widenPair(bytes[0]), widenPair(bytes[1]), widenPair(bytes[0] >> 16),
                         widenPair(bytes[1] >> 16)};
    const u32 next[4] = {widenPair(bytes[2]), widenPair(bytes[3]), widenPair(bytes[2] >> 16),
                         widenPair(bytes[3] >> 16)};
    multiply(scores, even, query[k]);
    multiply(odd, next, query[k + 1]);
  }
#else
#pragma unroll
  for (int k = 0; k < STEPS; k++) {
    u32 matrices[4];
    loadMatrices(matrices, own + k * 32);
    multiply(k % 2 == 0 ? scores : odd, matrices, query[k]);
  }
#endif
#pragma unroll
  for (int i = 0; i < 4; i++) scores[i] += odd[i];
}

/** Adds the values of a tile, weighted: values[d] is [dim][head] as dimOf says. */
__device__ inline void addValues(float (&sums)[STEPS][4], const u32 (&weights)[2],
                                 const char* values) {
  const int lane = threadIdx.x % WARP_LANES;
  const char* own = values + lane % 16 * STRIDE + lane / 16 * 16;
#if KV_FORMAT == 1
#pragma unroll
  for (int d = 0; d < STEPS; d += 2) {
    u32 bytes[4];
    loadTransposed(bytes, own + d * 16);
    // A pair of bytes holds two dims of a position; the tensor cores want two positions of a dim.
#pragma unroll
    for (int i = 0; i < 4; i++) bytes[i] = __byte_perm(bytes[i], 0, 0x3120);
    const u32 first[4] = {widenPair(bytes[0]), widenPair(bytes[0] >> 16), widenPair(bytes[1]),
                          widenPair(bytes[1] >> 16)};
    const u32 second[4] = {widenPair(bytes[2]), widenPair(bytes[2] >> 16), widenPair(bytes[3]),
                           widenPair(bytes[3] >> 16)};
    multiply(sums[d], first, weights);
    multiply(sums[d + 1], second, weights);
  }
#else
#pragma unroll
  for (int d = 0; d < STEPS; d++) {
    u32 matrices[4];
    loadTransposed(matrices, own + d * 32);
    const u32 ordered[4] = {matrices[0], matrices[2], matrices[1], matrices[3]};
    multiply(sums[d], ordered, weights);
  }
#endif
}

/** The dim of element i (0 or 1: 8 or one further) of a lane's sums of step d. */
__device__ inline int dimOf(int d, int half) {
  const int g = threadIdx.x % WARP_LANES / 4;
  return KV_FORMAT == 1 ? d * 16 + 2 * g + half : d * 16 + g + 8 * half;
}

/** Running softmax of a warp: a lane has heads 2c and 2c + 1, its own part of `sums`. */
struct Running {
  float bests[2];
  float sums[2];
  float values[STEPS][4];

  __device__ Running() {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      bests[i] = -infinity();
      sums[i] = 0.0f;
    }
#pragma unroll
    for (int d = 0; d < STEPS; d++) {
#pragma unroll
      for (int i = 0; i < 4; i++) values[d][i] = 0.0f;
    }
  }

  /** Turns the scores of a tile into weights, and folds their maximum and sum in. */
  __device__ void weigh(u32 (&weights)[2], float (&scores)[4], int from, const Span& span,
                        float scale) {
    const int first = from + threadIdx.x % WARP_LANES / 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int position = first + i / 2 * 8;
      const bool isSeen = position >= span.begin && position <= span.position;
      scores[i] = isSeen ? scores[i] * scale : -infinity();
    }
    float keep[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      // Every tile has a position that is seen: the greatest score is finite from the first on.
      float top = fmaxf(scores[i], scores[i + 2]);
#pragma unroll
      for (int offset = 4; offset < WARP_LANES; offset <<= 1) {
        top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, offset));
      }
      top = fmaxf(top, bests[i]);
      keep[i] = exp2f(bests[i] - top);
      bests[i] = top;
      scores[i] = exp2f(scores[i] - top);
      scores[i + 2] = exp2f(scores[i + 2] - top);
      sums[i] = sums[i] * keep[i] + scores[i] + scores[i + 2];
    }
#pragma unroll
    for (int d = 0; d < STEPS; d++) {
#pragma unroll
      for (int i = 0; i < 4; i++) values[d][i] *= keep[i % 2];
    }
    weights[0] = transposed(operandPair(scores[0], scores[1]));
    weights[1] = transposed(operandPair(scores[2], scores[3]));
  }
};

