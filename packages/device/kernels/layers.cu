#include "common.cuh"

extern "C" __global__ void embed(const bf16* table, const int* tokens, bf16* out, int width,
                                 int vocab) {
  const int token = tokens[blockIdx.x];
  const bf16* source = table + (i64)((u32)token < (u32)vocab ? token : 0) * width;
  bf16* target = out + (i64)blockIdx.x * width;
  if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      ((uint4*)target)[i] = ((const uint4*)source)[i];
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) target[i] = source[i];
  }
}

/** Lines of `bytes`; an index outside [0, lines) leaves its line alone. */
extern "C" __global__ void select_lines(const bf16* input, const int* indices, bf16* out, int width,
                                        int lines) {
  const int index = indices[blockIdx.x];
  if ((u32)index >= (u32)lines) return;
  const bf16* source = input + (i64)index * width;
  bf16* target = out + (i64)blockIdx.x * width;
  if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      ((uint4*)target)[i] = ((const uint4*)source)[i];
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) target[i] = source[i];
  }
}

/**
 * residual += input, stored in bf16; the norm sees what was stored. Without residual, `line` is the
 * input itself.
 */
template <bool adds>
__device__ float squares(bf16* line, const bf16* input, int width) {
  float sum = 0.0f;
  if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      float values[8];
      uint4 packed = ((const uint4*)line)[i];
      widen8(packed, values);
      if (adds) {
        float more[8];
        widen8(((const uint4*)input)[i], more);
        for (int j = 0; j < 8; j++) values[j] += more[j];
        packed = narrow8(values);
        ((uint4*)line)[i] = packed;
        widen8(packed, values);
      }
      for (int j = 0; j < 8; j++) sum += values[j] * values[j];
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
      if (adds) line[i] = narrow(widen(line[i]) + widen(input[i]));
      const float value = widen(line[i]);
      sum += value * value;
    }
  }
  return sum;
}

template <bool adds>
__device__ void normalise(bf16* line, const bf16* input, const bf16* weight, bf16* out, int width,
                          float epsilon) {
  const float total = blockSum(squares<adds>(line, input, width));
  const float factor = rsqrtf(total / (float)width + epsilon);
  if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      float values[8], weights[8];
      widen8(((const uint4*)line)[i], values);
      widen8(((const uint4*)weight)[i], weights);
      for (int j = 0; j < 8; j++) values[j] *= factor * weights[j];
      ((uint4*)out)[i] = narrow8(values);
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
      out[i] = narrow(widen(line[i]) * factor * widen(weight[i]));
    }
  }
}

extern "C" __global__ void rms_norm(const bf16* input, const bf16* weight, bf16* out, int width,
                                    float epsilon) {
  const i64 start = (i64)blockIdx.x * width;
  normalise<false>((bf16*)input + start, nullptr, weight, out + start, width, epsilon);
}

extern "C" __global__ void add_rms_norm(bf16* residual, const bf16* input, const bf16* weight,
                                        bf16* out, int width, float epsilon) {
  const i64 start = (i64)blockIdx.x * width;
  normalise<true>(residual + start, input + start, weight, out + start, width, epsilon);
}

__device__ inline float silu(float x) { return x / (1.0f + __expf(-x)); }

/** blockIdx.x is the line, blockIdx.y a part of it. */
extern "C" __global__ void silu_mul(const bf16* input, bf16* out, int width) {
  const bf16* gate = input + (i64)blockIdx.x * 2 * width;
  const bf16* up = gate + width;
  bf16* target = out + (i64)blockIdx.x * width;
  const int stride = blockDim.x * gridDim.y;
  const int first = blockIdx.y * blockDim.x + threadIdx.x;
  if (width % 8 == 0) {
    for (int i = first; i < width / 8; i += stride) {
      float gates[8], ups[8];
      widen8(((const uint4*)gate)[i], gates);
      widen8(((const uint4*)up)[i], ups);
      for (int j = 0; j < 8; j++) ups[j] *= silu(gates[j]);
      ((uint4*)target)[i] = narrow8(ups);
    }
  } else {
    for (int i = first; i < width; i += stride) {
      target[i] = narrow(silu(widen(gate[i])) * widen(up[i]));
    }
  }
}

extern "C" __global__ void fill_uniform(void* out, u64 elements, float mean, float spread, u32 seed,
                                        int isF32) {
  const u64 stride = (u64)gridDim.x * blockDim.x;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += stride) {
    const float uniform = (float)(hash32(seed, (u32)(i >> 32), (u32)i) >> 8) * 0x1p-24f;
    const float value = mean + spread * (2.0f * uniform - 1.0f);
    if (isF32) {
      ((float*)out)[i] = value;
    } else {
      ((bf16*)out)[i] = narrow(value);
    }
  }
}

/**
 * out = input * weight^T (+ bias) for shapes that the library has no algorithm for: odd widths,
 * mostly. One warp for each output; blockIdx.y is the line.
 */
extern "C" __global__ void matmul_any(const bf16* input, const bf16* weight, const bf16* bias,
                                      void* out, int inputs, int outputs, int isF32) {
  const int column = (blockIdx.x * blockDim.x + threadIdx.x) / WARP_LANES;
  if (column >= outputs) return;
  const bf16* line = input + (i64)blockIdx.y * inputs;
  const bf16* row = weight + (i64)column * inputs;
  float sum = 0.0f;
  for (int i = threadIdx.x % WARP_LANES; i < inputs; i += WARP_LANES) {
    sum += widen(line[i]) * widen(row[i]);
  }
  sum = warpSum(sum) + (bias != nullptr ? widen(bias[column]) : 0.0f);
  if (threadIdx.x % WARP_LANES != 0) return;
  const i64 at = (i64)blockIdx.y * outputs + column;
  if (isF32) {
    ((float*)out)[at] = sum;
  } else {
    ((bf16*)out)[at] = narrow(sum);
  }
}
