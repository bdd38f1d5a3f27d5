#include "grammar.cuh"

// One block for a piece of one line's mask: a warp tries 32 tokens at a time. Most tokens are out
// of the question by their first byte, which the block has looked up for all of them.

#define THREADS 256
#define WARPS (THREADS / WARP_LANES)

__device__ bool admits(GrammarWalk& walk, const unsigned char* classes, const u32* firstBytes,
                       const TokenText& text) {
  if (text.length == 0) return false;
  u32 bytes = text.words[0];
  if (!(firstBytes[bytes % 256 / 32] >> bytes % 32 & 1)) return false;
  walk.restart();
  for (int i = 0;;) {
    if (!walk.step(classes[bytes % 256])) return false;
    if (++i == text.length) return true;
    bytes = i % 4 == 0 ? text.words[i / 4] : bytes >> 8;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    grammar_mask(const int* rows, const int* lineRows, const int* grammarRows,
                 GrammarTables tables, u32* masks, int maxRows, int vocab) {
  letNextStart();
  awaitEarlier();
  __shared__ unsigned char classes[256];
  __shared__ u32 firstBytes[256 / 32];
  const int line = blockIdx.y;
  const int row = checkedRow(lineRows[line], maxRows);
  if (row < 0) return;
  const int* state = rows + row * ROW_WORDS;
  if (!(state[ROW::FLAGS] & ROW_FLAG::GRAMMAR)) return;

  const int words = (vocab + 31) / 32;
  const int piece = (words + gridDim.x - 1) / gridDim.x;
  const int from = min(words, (int)blockIdx.x * piece);
  const int to = min(words, from + piece);
  const int lane = threadIdx.x % WARP_LANES;
  u32* mask = masks + (i64)line * words;

  GrammarWalk walk;
  if (!walk.begin(tables, grammarRows + row * GRAMMAR_ROW_WORDS)) {
    for (int word = from + threadIdx.x; word < to; word += THREADS) mask[word] = 0;
    return;
  }
  const bool mayEnd = walk.endsAll(STATE_FINAL);
  const u32 column = walk.classOf(threadIdx.x);
  classes[threadIdx.x] = (unsigned char)column;
  const u32 begun = __ballot_sync(FULL_WARP, walk.step(column));
  if (lane == 0) firstBytes[threadIdx.x / WARP_LANES] = begun;
  __syncthreads();

  for (int word = from + threadIdx.x / WARP_LANES; word < to; word += WARPS) {
    const int token = 32 * word + lane;
    const u32 span = token < vocab ? tables.spans[token] : 0;
    const bool admitted = admits(walk, classes, firstBytes, TokenText(tables, span));
    const u32 bits = __ballot_sync(FULL_WARP, admitted);
    if (lane == 0) mask[word] = bits;
  }
  __syncthreads();
  // Stop ids are admitted where the text may end, whatever their bytes.
  const int stops = min(max(state[ROW::STOP_COUNT], 0), MAX_STOP_IDS);
  if (threadIdx.x >= stops) return;
  const int id = state[ROW::STOP_IDS + threadIdx.x];
  if (id < 32 * from || id >= min(32 * to, vocab)) return;
  const u32 bit = 1u << id % 32;
  if (mayEnd) atomicOr(&mask[id / 32], bit);
  else atomicAnd(&mask[id / 32], ~bit);
}
