#pragma once
#include "common.cuh"

// What all ways of multiplying lines with experts work on: experts.cu for few lines,
// experts-tile.cu and experts-hopper.cu for many.

struct Problem {
  const bf16* input;
  const unsigned char* weight;
  const void* scales;
  const bf16* bias;
  const float* weights;
  const int* chosen;
  const int* starts;
  const int* order;
  void* out;
  int assignments;
  int topK;
  int experts;
  int inputs;
  /** Of an expert: inner ones under a gate. */
  int outputs;
  int blockInputs;
  int blockOutputs;
  /** Inputs of the lines that are in shared memory at once: four tiles or a multiple. */
  int chunkInputs;
  int isInterleaved;
  /** Whether the kernel before is the gate of the same lines, so that their groups are there. */
  int isBehindGate;
  float limit;
  /** 0: gelu, in the form with tanh. */
  float alpha;
  float shift;
  /** Of the whole weight. */
  i64 scaleBytes;

  /** The row of gate (half 0) or up (half 1) of a unit. */
  __device__ i64 gateRow(int expert, int unit, int half) const {
    const i64 base = (i64)expert * outputs * 2;
    return base + (isInterleaved ? 2 * unit + half : unit + half * outputs);
  }

  __device__ float gated(float gate, float up) const {
    const float held = fminf(gate, limit);
    const float clamped = fmaxf(-limit, fminf(up, limit));
    if (alpha == 0.0f) return geluTanh(held) * (clamped + shift);
    return held / (1.0f + __expf(-alpha * held)) * (clamped + shift);
  }
};

/** An expert and some of its lines: `count` from `first` on in the order. */
struct ExpertTile {
  int expert;
  int first;
  int count;
};

/** Finds a tile by its number, count 0 if there are not so many. One warp. */
__device__ inline void findTile(const Problem& problem, ExpertTile& found, int number, int lines) {
  const int lane = threadIdx.x % WARP_LANES;
  int before = 0;
  for (int first = 0; first < problem.experts; first += WARP_LANES) {
    const int expert = first + lane;
    const bool isGiven = expert < problem.experts;
    const int start = isGiven ? problem.starts[expert] : 0;
    const int size = isGiven ? problem.starts[expert + 1] - start : 0;
    const int tiles = (size + lines - 1) / lines;
    int upTo = tiles;
#pragma unroll
    for (int offset = 1; offset < WARP_LANES; offset *= 2) {
      const int other = __shfl_up_sync(FULL_WARP, upTo, offset);
      if (lane >= offset) upTo += other;
    }
    const int tile = number - before - (upTo - tiles);
    const bool isHere = tile >= 0 && tile < tiles;
    if (isHere) {
      found = {expert, start + tile * lines, min(lines, size - tile * lines)};
    }
    if (__any_sync(FULL_WARP, isHere)) return;
    before += __shfl_sync(FULL_WARP, upTo, WARP_LANES - 1);
  }
  if (lane == 0) found.count = 0;
}

/**
 * Finds a block's tile, if there are so many, and lists the assignments that its lines are of: the
 * number of lines. Every thread calls it.
 */
__device__ inline int takeTile(const Problem& problem, ExpertTile& tile, int* assignments,
                               int lines) {
  if (threadIdx.x < WARP_LANES) findTile(problem, tile, blockIdx.y, lines);
  __syncthreads();
  const int count = tile.count;
  if (count == 0) return 0;
  if (threadIdx.x < lines) {
    const bool isGiven = threadIdx.x < count;
    assignments[threadIdx.x] = isGiven ? problem.order[tile.first + threadIdx.x] : 0;
  }
  __syncthreads();
  return count;
}
