#include "common.cuh"

// The gated delta net: `causal-conv`, `delta-rule` and `gated-norm` of ops.ts. A batch's tokens
// come in runs of one row; the block of a run's first token goes through the run, token by token,
// and the others have nothing to do. So grids depend on how many tokens there are and not on whose,
// and decode steps and prompts are one kernel.

/** Inputs that a step of the convolution sees. */
#define TAPS 4
#define KEPT (TAPS - 1)

/** What rows keep, and where a batch's tokens are: RowStates of ops.ts. */
struct Rows {
  char* states;
  i64 rowBytes;
  i64 layerBytes;
  const int* tokenRows;
  const int* positions;
  int count;
  /** Rows that states are there for. */
  int rows;
  /** Whether states stay as they were. */
  int isTrial;
  /** What follows among a kernel's parameters is where the compiler has it. */
  int unused;
};

/** Tokens [first, end) of a row; first is end where there is nothing to do. */
struct Run {
  int first;
  int end;
  char* state;
  /** It begins at position 0: what the state holds is another sequence's. */
  bool isFresh;

  __device__ Run(const Rows& all, int token) : first(token), end(token) {
    const int row = checkedRow(all.tokenRows[token], all.rows);
    if (row < 0 || (token > 0 && all.tokenRows[token - 1] == row)) return;
    for (end = token + 1; end < all.count && all.tokenRows[end] == row;) end++;
    state = all.states + row * all.rowBytes + all.layerBytes;
    isFresh = all.positions[token] == 0;
  }
};

/** Grid: (blocks over channels, tokens). A thread has a channel. */
extern "C" __global__ void causal_conv(const bf16* lines, const bf16* weight, bf16* out, Rows rows,
                                       int stride, int channels) {
  letNextStart();
  awaitEarlier();
  const Run run(rows, blockIdx.y);
  const int channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (run.first == run.end || channel >= channels) return;
  bf16* state = (bf16*)run.state + channel;
  float seen[KEPT], taps[TAPS];
#pragma unroll
  for (int i = 0; i < KEPT; i++) seen[i] = run.isFresh ? 0.0f : widen(state[i * channels]);
#pragma unroll
  for (int i = 0; i < TAPS; i++) taps[i] = widen(weight[channel * TAPS + i]);
#pragma unroll 4
  for (int token = run.first; token < run.end; token++) {
    const float input = widen(lines[(i64)token * stride + channel]);
    const float sum = taps[0] * seen[0] + taps[1] * seen[1] + taps[2] * seen[2] + taps[3] * input;
    out[(i64)token * channels + channel] = narrow(silu(sum));
    seen[0] = seen[1], seen[1] = seen[2], seen[2] = input;
  }
  if (rows.isTrial) return;
#pragma unroll
  for (int i = 0; i < KEPT; i++) state[i * channels] = narrow(seen[i]);
}

// Fixed when compiled: KEY_DIM, a multiple of 32 up to 256, of delta_rule.
#ifndef KEY_DIM
#define KEY_DIM 128
#endif
/** Columns of the state that a block has, which know nothing of each other. */
#define COLUMNS 32
/** Lanes that share a column, each with a part of its rows: those 8 lanes apart. */
#define PARTS 4
#define RULE_THREADS (COLUMNS * PARTS)
#define PART_ROWS (KEY_DIM / PARTS)

struct RuleShape {
  int keyHeads;
  int valueHeads;
  int valueDim;
};

/** The sum over the lanes that share a column. */
__device__ inline float columnSum(float value) {
  value += __shfl_xor_sync(FULL_WARP, value, 8);
  return value + __shfl_xor_sync(FULL_WARP, value, 16);
}

/** A head's q and k in shared memory, at length 1, and for a token's beta and decay. */
struct Step {
  float query[KEY_DIM];
  float key[KEY_DIM];
};

/** Row i of part p of a column is p + PARTS * i: lanes of all parts then read neighbours. */
__device__ inline int rowOf(int part, int i) { return part + PARTS * i; }

/**
 * Grid: (blocks over a value head's columns, value heads, tokens). mixed is [count, 2 keyHeads
 * KEY_DIM + valueHeads valueDim], gates [count, 2 valueHeads], out [count, valueHeads valueDim].
 */
extern "C" __global__ void __launch_bounds__(RULE_THREADS)
    delta_rule(const bf16* mixed, const bf16* gates, const float* decayLog, const float* stepBias,
               bf16* out, Rows rows, RuleShape shape) {
  __shared__ Step step;
  letNextStart();
  awaitEarlier();
  const Run run(rows, blockIdx.z);
  if (run.first == run.end) return;
  const int lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
  const int part = lane / 8;
  const int column = blockIdx.x * COLUMNS + warp * 8 + lane % 8;
  const bool isInside = column < shape.valueDim;
  const int head = blockIdx.y;
  const int keyHead = head / (shape.valueHeads / shape.keyHeads);
  const int keys = shape.keyHeads * KEY_DIM;
  const int width = 2 * keys + shape.valueHeads * shape.valueDim;
  float* state = (float*)run.state + (i64)head * KEY_DIM * shape.valueDim + column;
  float own[PART_ROWS];
#pragma unroll
  for (int i = 0; i < PART_ROWS; i++) {
    const bool isKept = isInside && !run.isFresh;
    own[i] = isKept ? state[(i64)rowOf(part, i) * shape.valueDim] : 0.0f;
  }
  const float rate = -expf(decayLog[head]), bias = stepBias[head];
  for (int token = run.first; token < run.end; token++) {
    const bf16* line = mixed + (i64)token * width;
    const bf16* gate = gates + (i64)token * 2 * shape.valueHeads + head;
    const float beta = sigmoid(widen(gate[0]));
    const float x = widen(gate[shape.valueHeads]) + bias;
    const float decay = expf(rate * (x > 20.0f ? x : log1pf(expf(x))));
    const float value = isInside ? widen(line[2 * keys + head * shape.valueDim + column]) : 0.0f;
    __syncthreads();
    // One warp brings q to length 1, another k.
    if (warp < 2) {
      const bf16* source = line + warp * keys + keyHead * KEY_DIM;
      float parts[KEY_DIM / WARP_LANES], squares = 0.0f;
#pragma unroll
      for (int i = 0; i < KEY_DIM / WARP_LANES; i++) {
        parts[i] = widen(source[i * WARP_LANES + lane]);
        squares += parts[i] * parts[i];
      }
      float factor = rsqrtf(warpSum(squares) + 1e-6f);
      if (warp == 0) factor *= rsqrtf((float)KEY_DIM);
      float* target = warp == 0 ? step.query : step.key;
#pragma unroll
      for (int i = 0; i < KEY_DIM / WARP_LANES; i++) {
        target[i * WARP_LANES + lane] = parts[i] * factor;
      }
    }
    __syncthreads();
    float seen = 0.0f;
#pragma unroll
    for (int i = 0; i < PART_ROWS; i++) {
      own[i] *= decay;
      seen += own[i] * step.key[rowOf(part, i)];
    }
    const float change = beta * (value - columnSum(seen));
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < PART_ROWS; i++) {
      own[i] += step.key[rowOf(part, i)] * change;
      sum += own[i] * step.query[rowOf(part, i)];
    }
    sum = columnSum(sum);
    if (part == 0 && isInside) {
      out[((i64)token * shape.valueHeads + head) * shape.valueDim + column] = narrow(sum);
    }
  }
  if (!isInside || rows.isTrial) return;
#pragma unroll
  for (int i = 0; i < PART_ROWS; i++) {
    state[(i64)rowOf(part, i) * shape.valueDim] = own[i];
  }
}

/** Grid: (heads, lines). */
extern "C" __global__ void gated_norm(const bf16* lines, const bf16* norm, bf16* out, int stride,
                                      int first, int heads, int width, float epsilon) {
  letNextStart();
  awaitEarlier();
  bf16* target = out + ((i64)blockIdx.y * heads + blockIdx.x) * width;
  const bf16* gates = lines + (i64)blockIdx.y * stride + first + blockIdx.x * width;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) sum += widen(target[i]) * widen(target[i]);
  const float factor = rsqrtf(blockSum(sum) / (float)width + epsilon);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    target[i] = narrow(widen(target[i]) * factor * widen(norm[i]) * silu(widen(gates[i])));
  }
}
