#pragma once
#include "common.cuh"

// What both ways of multiplying lines with experts work on: experts.cu and experts-tile.cu.

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
  float alpha;
  float shift;

  /** The row of gate (half 0) or up (half 1) of a unit. */
  __device__ i64 gateRow(int expert, int unit, int half) const {
    const i64 base = (i64)expert * outputs * 2;
    return base + (isInterleaved ? 2 * unit + half : unit + half * outputs);
  }

  __device__ float gated(float gate, float up) const {
    const float held = fminf(gate, limit);
    const float clamped = fmaxf(-limit, fminf(up, limit));
    return held / (1.0f + __expf(-alpha * held)) * (clamped + shift);
  }
};
