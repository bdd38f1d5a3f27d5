#pragma once
#include "common.cuh"

// What decode attention (attention-decode.cu) has to do, and how the blocks share it. A context is
// cut into tiles of TILE positions. All tiles of the batch, ordered by line, KV head and position,
// are dealt out in equal runs, one for each block, whatever the lengths of the contexts.

/**
 * 1: queries are rotated, and keys and values of all lines are in their pages, before the kernel
 * starts; then several lines may be of one row.
 */
#ifndef IS_STORED
#define IS_STORED 0
#endif

#define THREADS (DECODE_WARPS * WARP_LANES)
/** Positions that a warp works on at once: the rows of a tensor core product. */
#define TILE 16
/** A block takes no fewer tiles than this, which are one for each warp of a block of eight. */
#define LEAST_TILES 8

#if KV_FORMAT == 1
typedef unsigned char KvElement;
#else
typedef bf16 KvElement;
#endif

struct DecodeShape {
  KvPages pages;
  int tableRows;
  int count;
  int heads;
  /** Groups of query heads that share a KV head. */
  int chunks;
  int window;
  int maxPositions;
  float epsilon;
  /** scale * log2(e): the softmax works in powers of two. */
  float scale;
  float normOffset;
};

/** The parameter of the kernel. Norms are null where there are none. */
struct DecodeArgs {
  /** [count, (heads + LINE_KV * kvHeads) * HEAD_DIM], as projected. */
  const bf16* qkv;
  const bf16* queryNorm;
  const bf16* keyNorm;
  /** [maxPositions, HEAD_DIM / 2] of (cos, sin). */
  const float2* rope;
  KvElement* kv;
  const int* tokenRows;
  const int* positions;
  /** [heads], or null. */
  const bf16* sinks;
  bf16* out;
  /** Two partial results for each block; see attention-decode.cu. */
  float* partials;
  /** A counter for each block, zero before the launch and after it. */
  int* arrivals;
  DecodeShape shape;
};

/** What a line attends to: no tiles where it is padding or its position is none of ours. */
struct Span {
  int row;
  int begin;
  /** The token's own position, the last. */
  int position;
  int tiles;

  __device__ int start(int tile) const { return (begin / TILE + tile) * TILE; }
};

__device__ inline Span spanOf(const DecodeArgs& args, int line) {
  const DecodeShape& shape = args.shape;
  Span span = {-1, 0, 0, 0};
  if (line >= shape.count) return span;
  span.row = checkedRow(args.tokenRows[line], shape.tableRows);
  span.position = args.positions[line];
  const int limit = min(shape.pages.reach(), shape.maxPositions);
  if (span.row < 0 || (u32)span.position >= (u32)limit) return span;
  if (shape.window > 0) span.begin = max(0, span.position - shape.window + 1);
  span.tiles = span.position / TILE - span.begin / TILE + 1;
  return span;
}

/** An item: one line and one group of the query heads of a KV head. */
struct Item {
  Span span;
  int line;
  int kvHead;
  int chunk;

  /** There must be a next one. */
  __device__ void next(const DecodeArgs& args) {
    if (++chunk < args.shape.chunks) return;
    chunk = 0;
    if (++kvHead < args.shape.pages.kvHeads) return;
    kvHead = 0;
    do {
      line++;
      span = spanOf(args, line);
    } while (span.tiles == 0 && line < args.shape.count);
  }
};

/** The run of tiles that a block has to do. */
struct Share {
  Item item;
  /** The first tile, counted within the item. */
  int tile;
  /** The first tile, counted over the whole batch. */
  int start;
  int tiles;
  /** Tiles of every block but the last. */
  int each;
};

/** The first lane whose sum with all lanes before it exceeds `bound`; what comes before it. */
__device__ inline int laneBeyond(int value, int bound, int& before) {
  const int lane = threadIdx.x % WARP_LANES;
  int sum = value;
#pragma unroll
  for (int offset = 1; offset < WARP_LANES; offset <<= 1) {
    const int lower = __shfl_up_sync(FULL_WARP, sum, offset);
    if (lane >= offset) sum += lower;
  }
  const u32 beyond = __ballot_sync(FULL_WARP, sum > bound);
  const int first = beyond == 0 ? WARP_LANES - 1 : __ffs(beyond) - 1;
  before = __shfl_sync(FULL_WARP, sum - value, first);
  return first;
}

/**
 * Every warp works it out for itself: positions are known on the device only. Each lane counts the
 * tiles of a run of lines; then the lines of the run that is met are looked at.
 */
__device__ inline Share findShare(const DecodeArgs& args) {
  const int lane = threadIdx.x % WARP_LANES;
  const int slots = args.shape.pages.kvHeads * args.shape.chunks;
  const int run = (args.shape.count + WARP_LANES - 1) / WARP_LANES;
  int tiles = 0;
#pragma unroll 4
  for (int i = 0; i < run; i++) tiles += spanOf(args, lane * run + i).tiles;
  const int total = __reduce_add_sync(FULL_WARP, tiles) * slots;
  Share share;
  share.each = max((total + (int)gridDim.x - 1) / (int)gridDim.x, LEAST_TILES);
  share.start = min((int)blockIdx.x * share.each, total);
  share.tiles = min(share.each, total - share.start);
  if (share.tiles == 0) return share;

  const int bound = share.start / slots;
  int before;
  int line = laneBeyond(tiles, bound, before) * run;
  // Runs of more than a warp's lines need several looks.
  for (const int end = line + run;; line += WARP_LANES) {
    const int at = line + lane;
    const Span span = spanOf(args, at < end ? at : args.shape.count);
    int within;
    const int first = laneBeyond(span.tiles, bound - before, within);
    before += within;
    const Span& found = share.item.span;
    share.item.span = {__shfl_sync(FULL_WARP, span.row, first),
                       __shfl_sync(FULL_WARP, span.begin, first),
                       __shfl_sync(FULL_WARP, span.position, first),
                       __shfl_sync(FULL_WARP, span.tiles, first)};
    if (before + found.tiles > bound) {
      share.item.line = line + first;
      break;
    }
    before += found.tiles;
  }
  const int rest = share.start - before * slots;
  const int slot = rest / share.item.span.tiles;
  share.tile = rest % share.item.span.tiles;
  share.item.kvHead = slot / args.shape.chunks;
  share.item.chunk = slot % args.shape.chunks;
  return share;
}
