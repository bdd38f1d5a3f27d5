#pragma once
#include "common.cuh"
#include "quad.cuh"

// What the kernels of `latent-attention` (ops.ts) agree on. Fixed when compiled: LATENT_RANK and
// LATENT_ROTARY, the parts of a token's line.

#define WIDTH (LATENT_RANK + LATENT_ROTARY)
/** Of a block: the lines of its products. */
#define HEADS 64

struct LatentShape {
  KvPages pages;
  int tableRows;
  int count;
  int heads;
  int maxPositions;
  /** Blocks that may share a context. */
  int splits;
  /** scale * log2(e): the softmax works in powers of two. */
  float scale;
};

/** The token's row, or -1 for padding and for positions that are none of ours. */
__device__ inline int rowOf(const LatentShape& shape, const int* tokenRows, int token,
                            int position) {
  const int row = checkedRow(tokenRows[token], shape.tableRows);
  const int limit = min(shape.pages.reach(), shape.maxPositions);
  return (u32)position < (u32)limit ? row : -1;
}

/** Positions of a context that each of its blocks takes: whole tiles, where several share it. */
__device__ inline int positionsOfBlock(int positions, int splits) {
  if (splits == 1) return positions;
  const int each = (positions + splits - 1) / splits;
  return max((each + 63) / 64 * 64, 128);
}

/** What a block works on: some heads of a token, and some of its context. */
struct LatentWork {
  int token;
  int row;
  int firstHead;
  int split;
  /** Positions [begin, end): none where the block has nothing to do. */
  int begin;
  int end;
  /** No other block has a part of the context. */
  bool isAlone;

  /** Grid: (groups of heads times splits, tokens). */
  __device__ LatentWork(const LatentShape& shape, const int* tokenRows, const int* positions) {
    const int groups = (shape.heads + HEADS - 1) / HEADS;
    firstHead = blockIdx.x % groups * HEADS;
    split = blockIdx.x / groups;
    token = blockIdx.y;
    const int position = positions[token];
    row = rowOf(shape, tokenRows, token, position);
    const int all = row < 0 ? 0 : position + 1;
    const int each = positionsOfBlock(all, shape.splits);
    begin = split * each;
    end = min(begin + each, all);
    isAlone = each >= all;
  }
};

/**
 * Two neighbouring values of a head, divided by their sum: the output, or a part of it where other
 * blocks have the rest.
 */
struct LatentOutput {
  bf16* out;
  /** f32 [count, heads, splits, LATENT_RANK], and of each part its largest score and sum. */
  float* partials;
  float2* sums;

  __device__ void store(const LatentWork& work, const LatentShape& shape, int head, int dim,
                        float first, float second) const {
    const i64 line = (i64)work.token * shape.heads + work.firstHead + head;
    if (work.isAlone) {
      *(u32*)(out + line * LATENT_RANK + dim) = narrowPair(first, second);
    } else {
      const i64 place = line * shape.splits + work.split;
      *(float2*)(partials + place * LATENT_RANK + dim) = make_float2(first, second);
    }
  }
  __device__ void storeSum(const LatentWork& work, const LatentShape& shape, int head, float best,
                           float sum) const {
    const i64 line = (i64)work.token * shape.heads + work.firstHead + head;
    if (!work.isAlone) sums[line * shape.splits + work.split] = make_float2(best, sum);
  }
};
