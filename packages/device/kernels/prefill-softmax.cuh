#pragma once
#include "prefill-plan.cuh"
#include "quad.cuh"

// The online softmax of attention-prefill-hopper.cu, in the registers of wgmma's sums: a thread
// holds parts of two lines, 8 apart, of every 8 columns two that lie side by side; the four
// threads of a quad share a line.

/** State of the online softmax for a thread's two lines; `sum` is over its own columns only. */
struct Softmax {
  float best[2];
  float sum[2];
  float values[HEAD_DIM / 2];
};

/** The two query lines of a tile that a thread's registers hold parts of. */
struct Lines {
  /** Among the tile's tokens. */
  int token[2];
  int position[2];
  /** Of HEAD_DIM elements in the output; -1 past the end. */
  i64 out[2];
};

__device__ inline Lines linesOf(const Plan& plan, const PrefillShape& shape) {
  Lines lines;
  const int start = firstToken(plan.tile, shape);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int line = threadIdx.x / WARP_LANES * 16 - WARPGROUP / 2 + laneOf() / 4 + half * 8;
    const i64 index = (i64)plan.tile * LINES + line;
    const int token = (int)(index / shape.group);
    const int head = plan.kvHead * shape.group + (int)(index % shape.group);
    lines.token[half] = token - start;
    lines.position[half] = plan.positions[token - start];
    lines.out[half] = token < shape.count ? (i64)token * shape.heads + head : -1;
  }
  return lines;
}

/** Hides the scores of positions from `from` on that a line may not see. */
__device__ inline void maskScores(float (&scores)[POSITIONS / 2], const Lines& lines,
                                  const Segment& segment, int from, int window) {
  const int column = from + threadIdx.x % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int position = lines.position[half];
    const int token = lines.token[half];
    const bool inSegment = token >= segment.first && token < segment.end;
    const int last = (inSegment ? min(position, segment.to - 1) : -1) - column;
    const int first = window > 0 ? position - window + 1 - column : 0x80000000;
#pragma unroll
    for (int n = 0; n < POSITIONS / 8; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int at = n * 8 + i;
        if (at > last || at < first) scores[n * 4 + half * 2 + i] = -infinity();
      }
    }
  }
}

/** Turns scores into weights, and says by what earlier sums and values must be multiplied. */
__device__ inline void weigh(float (&scores)[POSITIONS / 2], Softmax& state, float (&keep)[2],
                             float scale) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    // Two chains each for maxima and sums: one would wait for its own results.
    float tops[2] = {state.best[half], -infinity()};
#pragma unroll
    for (int n = 0; n < POSITIONS / 8; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) tops[i] = fmaxf(tops[i], scores[n * 4 + half * 2 + i]);
    }
    const float top = quadMax(fmaxf(tops[0], tops[1]));
    const float reference = top == -infinity() ? 0.0f : top * scale;
    keep[half] = power(state.best[half] * scale - reference);
    state.best[half] = top;
    float sums[2] = {state.sum[half] * keep[half], 0.0f};
#pragma unroll
    for (int n = 0; n < POSITIONS / 8; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        float& score = scores[n * 4 + half * 2 + i];
        score = power(score * scale - reference);
        sums[i] += score;
      }
    }
    state.sum[half] = sums[0] + sums[1];
  }
}

__device__ inline void packWeights(u32 (&weights)[POSITIONS / 4],
                                   const float (&scores)[POSITIONS / 2]) {
#pragma unroll
  for (int i = 0; i < POSITIONS / 4; i++) {
    weights[i] = narrowPair(scores[2 * i], scores[2 * i + 1]);
  }
}

__device__ inline void scaleValues(Softmax& state, const float (&keep)[2]) {
#pragma unroll
  for (int i = 0; i < HEAD_DIM / 2; i++) state.values[i] *= keep[i / 2 % 2];
}

__device__ inline void store(const Softmax& state, const Lines& lines, const bf16* sinks,
                             const PrefillShape& shape, bf16* out) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = quadSum(state.sum[half]);
    if (lines.out[half] < 0) continue;
    if (sinks != nullptr) {
      const int head = (int)(lines.out[half] % shape.heads);
      sum += power(widen(sinks[head]) * LOG2_E - state.best[half] * shape.scale);
    }
    const float factor = sum > 0.0f ? 1.0f / sum : 0.0f;
    u32* line = (u32*)(out + lines.out[half] * HEAD_DIM) + threadIdx.x % 4;
#pragma unroll
    for (int d = 0; d < HEAD_DIM / 8; d++) {
      const float* values = state.values + d * 4 + half * 2;
      line[d * 4] = narrowPair(values[0] * factor, values[1] * factor);
    }
  }
}
