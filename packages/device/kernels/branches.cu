#include "common.cuh"

// What some families put between products: see the operations of these names in ops.ts. All are
// bound by memory, and a block has a line or a part of one.

/** The sum of the squares of a line, the same in every thread. All threads of a block call it. */
__device__ inline float squaresOf(const bf16* line, int width) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) sum += widen(line[i]) * widen(line[i]);
  return blockSum(sum);
}

/** norm and outScale may be null. */
extern "C" __global__ void add_branch(const bf16* input, const bf16* norm, const bf16* outScale,
                                      bf16* out, int width, float epsilon, float normOffset,
                                      float scale, int adds) {
  letNextStart();
  awaitEarlier();
  const bf16* line = input + (i64)blockIdx.x * width;
  bf16* target = out + (i64)blockIdx.x * width;
  float factor = scale;
  const float ofSum = outScale != nullptr ? widen(*outScale) : 1.0f;
  if (norm != nullptr) factor *= rsqrtf(squaresOf(line, width) / (float)width + epsilon);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const float weight = norm != nullptr ? widen(norm[i]) + normOffset : 1.0f;
    const float own = widen(line[i]) * factor * weight;
    target[i] = narrow((adds ? widen(target[i]) + own : own) * ofSum);
  }
}

extern "C" __global__ void norm_span(bf16* lines, const bf16* norm, int stride, int first,
                                     int width, float epsilon) {
  letNextStart();
  awaitEarlier();
  bf16* line = lines + (i64)blockIdx.x * stride + first;
  const float factor = rsqrtf(squaresOf(line, width) / (float)width + epsilon);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    line[i] = narrow(widen(line[i]) * factor * widen(norm[i]));
  }
}

extern "C" __global__ void scale_by_position(bf16* lines, const int* positions, int stride,
                                             int width, int period, float beta) {
  letNextStart();
  awaitEarlier();
  const int periods = max(positions[blockIdx.x], 0) / period;
  if (periods == 0) return;
  const float factor = 1.0f + beta * logf(1.0f + (float)periods);
  bf16* line = lines + (i64)blockIdx.x * stride;
  for (int i = threadIdx.x; i < width; i += blockDim.x) line[i] = narrow(widen(line[i]) * factor);
}

extern "C" __global__ void sigmoid_gate(const bf16* input, bf16* out, u32 elements) {
  letNextStart();
  awaitEarlier();
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < elements) out[i] = narrow(widen(out[i]) * sigmoid(widen(input[i])));
}

extern "C" __global__ void gate_lines(const bf16* input, const bf16* weight, bf16* out, int inputs,
                                      int width) {
  letNextStart();
  awaitEarlier();
  const bf16* line = input + (i64)blockIdx.x * inputs;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < inputs; i += blockDim.x) sum += widen(line[i]) * widen(weight[i]);
  const float factor = sigmoid(blockSum(sum));
  bf16* target = out + (i64)blockIdx.x * width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    target[i] = narrow(widen(target[i]) * factor);
  }
}

extern "C" __global__ void gate_span(bf16* out, const bf16* lines, int width, int stride, int first,
                                     int isGelu) {
  letNextStart();
  awaitEarlier();
  bf16* target = out + (i64)blockIdx.x * width;
  const bf16* line = lines + (i64)blockIdx.x * stride + first;
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const float value = widen(target[i]);
    target[i] = narrow((isGelu ? geluTanh(value) : silu(value)) * widen(line[i]));
  }
}

/** cap 0 is none. */
extern "C" __global__ void finish_logits(float* logits, u64 elements, float scale, float cap) {
  letNextStart();
  awaitEarlier();
  const u64 stride = (u64)gridDim.x * blockDim.x;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += stride) {
    const float value = logits[i] * scale;
    logits[i] = cap > 0.0f ? cap * tanhf(value / cap) : value;
  }
}
