#pragma once
#include "hopper.cuh"
#include "prefill-shape.cuh"

// What a block of attention-prefill-hopper.cu works on next: a tile of query lines of one KV head,
// and which positions of which rows its tokens look at.

/** Warpgroups that work out scores, 64 query lines each. */
#define CONSUMERS 2
/** Query lines of a tile. */
#define LINES (CONSUMERS * 64)
/** Positions of a tile of keys or values; each thread of the loaders looks up one. */
#define POSITIONS 128

/** Tokens of one row that lie side by side in a tile, and the positions that they look at. */
struct Segment {
  int row;
  /** Tokens [first, end) of the tile. */
  int first;
  int end;
  /** Positions [begin, to). */
  int begin;
  int to;
  /** Of these [clearBegin, clearTo) are seen by every line of the tile. */
  int clearBegin;
  int clearTo;
};

/** A tile's work. */
struct Plan {
  /** -1: there is no more. */
  int tile;
  int kvHead;
  int segments;
  int positions[LINES];
  Segment segment[LINES];
};

__device__ inline int laneOf() { return threadIdx.x % WARP_LANES; }
__device__ inline int warpOfGroup() { return threadIdx.x % WARPGROUP / WARP_LANES; }
__device__ inline bool isLeader() { return laneOf() == 0; }

/** Walks over the tiles of keys of a plan's segments; loaders and consumers walk alike. */
struct Cursor {
  const Plan& plan;
  /** Segments left, with the current one. */
  int left;
  int from;
  Segment segment;

  __device__ explicit Cursor(const Plan& plan) : plan(plan), left(plan.segments + 1) { enter(); }
  __device__ bool isDone() const { return left == 0; }
  __device__ void advance() {
    from += POSITIONS;
    if (from >= segment.to) enter();
  }
  /** Whether every line of the tile sees all positions of this tile of keys. */
  __device__ bool isClear() const {
    return from >= segment.clearBegin && from + POSITIONS <= segment.clearTo;
  }

 private:
  __device__ void enter() {
    left--;
    if (left == 0) return;
    segment = plan.segment[plan.segments - left];
    from = segment.begin;
  }
};

/** First token of a tile. */
__device__ inline int firstToken(int tile, const PrefillShape& shape) {
  return (int)((i64)tile * LINES / shape.group);
}

/** Splits a tile's tokens into segments. One warp. */
__device__ inline void planTile(Plan& plan, int tile, int kvHead, const int* tokenRows,
                                const int* positions, const PrefillShape& shape) {
  constexpr int EACH = LINES / WARP_LANES;
  const int start = firstToken(tile, shape);
  const int past = (int)(((i64)tile * LINES + LINES - 1) / shape.group) + 1;
  const int tokens = min(shape.count, past) - start;
  int rows[EACH], at[EACH];
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int token = i * WARP_LANES + laneOf();
    const bool inside = token < tokens;
    rows[i] = inside ? checkedRow(tokenRows[start + token], shape.tableRows) : -2;
    at[i] = inside ? positions[start + token] : -1;
    plan.positions[token] = at[i];
  }
  int segments = 0;
  for (int first = 0, end; first < tokens; first = end) {
    const int row = checkedRow(tokenRows[start + first], shape.tableRows);
    int lowest = 0x7fffffff, highest = -1;
    end = tokens;
#pragma unroll
    for (int i = EACH - 1; i >= 0; i--) {
      const bool differs = i * WARP_LANES + laneOf() > first && rows[i] != row;
      const u32 others = __ballot_sync(FULL_WARP, differs);
      if (others != 0) end = min(end, i * WARP_LANES + __ffs(others) - 1);
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int token = i * WARP_LANES + laneOf();
      if (token < first || token >= end) continue;
      lowest = min(lowest, at[i]);
      highest = max(highest, at[i]);
    }
    lowest = __reduce_min_sync(FULL_WARP, lowest);
    highest = __reduce_max_sync(FULL_WARP, highest);
    const int to = min(highest, shape.pages.reach() - 1) + 1;
    const int begin = shape.window > 0 ? max(0, lowest - shape.window + 1) : 0;
    if (row < 0 || begin >= to) continue;
    const bool isWhole = first == 0 && end == tokens;
    const int clearBegin = shape.window > 0 ? max(0, highest - shape.window + 1) : 0;
    const int clearTo = isWhole ? min(lowest + 1, to) : 0;
    if (isLeader()) {
      plan.segment[segments] = {row, first, end, begin, to, clearBegin, clearTo};
    }
    segments++;
  }
  if (isLeader()) plan.tile = tile, plan.kvHead = kvHead, plan.segments = segments;
}

/** Takes the next tile of the batch and plans it. The first warp of the loaders. */
__device__ inline void planNext(Plan& plan, int item, const int* tokenRows, const int* positions,
                                const PrefillShape& shape) {
  const int kvHeads = shape.pages.kvHeads;
  const int tiles = (int)(((i64)shape.count * shape.group + LINES - 1) / LINES);
  if (item >= tiles * kvHeads) {
    if (isLeader()) plan.tile = -1;
  } else {
    planTile(plan, tiles - 1 - item / kvHeads, item % kvHeads, tokenRows, positions, shape);
  }
}
