#include "common.cuh"

// Drafts by n-gram: where the last tokens of a row occurred before, what followed then is what may
// follow now. One block for each row, which reads the row's history once.

#define THREADS 1024
/** Positions that a thread looks at together, so that their reads are on their way at once. */
#define UNROLL 4

struct DraftShape {
  int maxRows;
  int historyRows;
  int historyTokens;
  int linesPerRow;
  int lookupMin;
  int lookupMax;
};

/** How many tokens up to `end` are the last ones of the row, at most `most`. */
__device__ inline int matchLength(const int* history, const int* last, int end, int most) {
  int length = 0;
  while (length < most && length <= end && history[end - length] == last[length]) length++;
  return length;
}

/** The greatest value of a block, in its first thread. */
__device__ inline u64 blockMax(u64 value) {
  __shared__ u64 partial[WARP_LANES];
  const int lane = threadIdx.x % WARP_LANES;
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    const u64 other = __shfl_xor_sync(FULL_WARP, value, offset);
    value = other > value ? other : value;
  }
  if (lane == 0) partial[threadIdx.x / WARP_LANES] = value;
  __syncthreads();
  value = lane < THREADS / WARP_LANES ? partial[lane] : 0;
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    const u64 other = __shfl_xor_sync(FULL_WARP, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    draft(const int* rows, const int* decodeRows, const int* history, int* tokens, int* tokenRows,
          int* positions, DraftShape shape) {
  letNextStart();
  awaitEarlier();
  __shared__ int last[MAX_LOOKUP];
  const int row = checkedRow(decodeRows[blockIdx.x], shape.maxRows);
  const int* state = rows + (row < 0 ? 0 : row) * ROW_WORDS;
  const bool decodes = row >= 0 && state[ROW::ACTIVE] == 1;
  const int position = decodes ? state[ROW::POSITION] : 0;
  const bool looks = decodes && (state[ROW::FLAGS] & NO_DRAFTS) == 0 && row < shape.historyRows &&
                     (u32)position < (u32)shape.historyTokens;
  const int* own = history + (looks ? (i64)row * shape.historyTokens : 0);
  const int most = min(min(shape.lookupMax, MAX_LOOKUP), position + 1);
  u64 best = 0;
  if (looks) {
    if ((int)threadIdx.x < most) last[threadIdx.x] = own[position - threadIdx.x];
    __syncthreads();
    const int newest = last[0];
    for (int from = threadIdx.x; from < position; from += UNROLL * THREADS) {
      int words[UNROLL];
#pragma unroll
      for (int i = 0; i < UNROLL; i++) {
        const int end = from + i * THREADS;
        words[i] = end < position ? own[end] : ~newest;
      }
#pragma unroll
      for (int i = 0; i < UNROLL; i++) {
        if (words[i] != newest) continue;
        const int end = from + i * THREADS;
        // The longest counts, and of equal ones the latest.
        const u64 found = (u64)matchLength(own, last, end, most) << 32 | (u32)end;
        best = found > best ? found : best;
      }
    }
  }
  best = blockMax(best);
  const int length = (int)(best >> 32);
  const int end = (int)(u32)best;
  const int room = min(state[ROW::REMAINING] - 1, shape.historyTokens - 1 - position);
  const bool hasDrafts = looks && length >= max(shape.lookupMin, 1);
  const int drafts = hasDrafts ? max(min(shape.linesPerRow - 1, room), 0) : 0;
  if ((int)threadIdx.x >= shape.linesPerRow) return;
  const int line = blockIdx.x * shape.linesPerRow + threadIdx.x;
  const int n = threadIdx.x;
  const bool isUsed = decodes && n <= drafts;
  int token = 0;
  if (isUsed) token = n == 0 ? state[ROW::TOKEN] : own[end + 1 + (n - 1) % (position - end)];
  tokens[line] = token;
  tokenRows[line] = isUsed ? row : -1;
  positions[line] = isUsed ? position + n : 0;
}
