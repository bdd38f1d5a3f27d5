#include "grammar.cuh"

// One block for a piece of one line's mask. What most tokens are made of says already that they are
// in or out: the block looks that up for every group of characters and every first byte, and then
// steps through the few tokens that are left, with all its threads.

#define THREADS 256
#define WARPS (THREADS / WARP_LANES)
/** Words of a piece at most. */
#define PIECE_WORDS 256

struct Piece {
  unsigned char classes[256];
  /** A bit for each byte that a token may begin with. */
  u32 firstBytes[256 / 32];
  /** A bit for each group of characters that may leave the row's place. */
  u32 leaving;
  u32 mask[PIECE_WORDS];
  /** Tokens of the piece that must be stepped through. */
  int open;
  unsigned short tokens[PIECE_WORDS * 32];
};

/** Where a warp finds that all of these bytes go from a state; NO_STATE: to no one place. */
__device__ u32 allTo(const GrammarWalk& walk, u32 from, u32 first, u32 last) {
  if (from == NO_STATE) return NO_STATE;
  const u32 target = walk.entryOf(from, first);
  bool same = true;
  for (u32 byte = first + threadIdx.x % WARP_LANES; byte <= last; byte += WARP_LANES) {
    same &= walk.entryOf(from, byte) == target;
  }
  const bool goes = (target & (GOTO_ENTRY | MOVE_ENTRY)) == GOTO_ENTRY;
  const bool plain = __all_sync(FULL_WARP, same) && goes;
  return plain ? target & ENTRY_VALUE : NO_STATE;
}

/** Looks up what a token may begin with, and which characters leave the row where it is. */
__device__ void lookUp(Piece& piece, GrammarWalk& walk) {
  const int byte = threadIdx.x;
  const int warp = threadIdx.x / WARP_LANES;
  const u32 here = walk.state;
  if (threadIdx.x == 0) {
    piece.leaving = 1u << NO_GROUP;
    piece.open = 0;
  }
  __syncthreads();
  const u32 column = walk.classOf(byte);
  piece.classes[byte] = (unsigned char)column;
  if (byte < 128 && walk.table[here * walk.classes + column] != (GOTO_ENTRY | here)) {
    atomicOr(&piece.leaving, 1u << GROUP_OF_BYTE[byte]);
  }
  static_assert(sizeof(WIDE_CHARACTERS) == WARPS * WIDE_CHARACTER_FIELDS, "a warp for each line");
  const unsigned char* line = WIDE_CHARACTERS + warp * WIDE_CHARACTER_FIELDS;
  u32 at = allTo(walk, here, line[0], line[1]);
  at = allTo(walk, at, line[2], line[3]);
  for (int more = line[4]; more > 0; more--) at = allTo(walk, at, 0x80, 0xbf);
  if (at != here && threadIdx.x % WARP_LANES == 0) atomicOr(&piece.leaving, 1u << WIDE_GROUP);
  const u32 begun = __ballot_sync(FULL_WARP, walk.step(column));
  if (threadIdx.x % WARP_LANES == 0) piece.firstBytes[warp] = begun;
  __syncthreads();
}

/** Decides by their heads on the tokens from `first` on, and lists those that stay open. */
__device__ void decideByHeads(Piece& piece, const u32* heads, int first, int words, int vocab) {
  const int lane = threadIdx.x % WARP_LANES;
  const u32 leaving = piece.leaving;
#pragma unroll 4
  for (int word = threadIdx.x / WARP_LANES; word < words; word += WARPS) {
    const int token = first + 32 * word + lane;
    const bool exists = token < vocab;
    const u32 head = exists ? heads[token] : 0;
    const bool stays = exists && !(head >> TOKEN_GROUPS_SHIFT & leaving);
    const bool begins = exists && piece.firstBytes[head % 256 / 32] >> head % 32 & 1;
    const u32 admitted = __ballot_sync(FULL_WARP, stays);
    const u32 open = __ballot_sync(FULL_WARP, begins && !stays);
    int at = 0;
    if (lane == 0) {
      piece.mask[word] = admitted;
      if (open != 0) at = atomicAdd(&piece.open, __popc(open));
    }
    if (open == 0) continue;
    at = __shfl_sync(FULL_WARP, at, 0) + __popc(open & ((1u << lane) - 1));
    if (open >> lane & 1) piece.tokens[at] = (unsigned short)(32 * word + lane);
  }
}

__device__ bool admits(GrammarWalk& walk, const unsigned char* classes, const TokenText& text) {
  if (text.length == 0) return false;
  u32 bytes = text.words[0];
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
  __shared__ Piece piece;
  const int line = blockIdx.y;
  const int row = checkedRow(lineRows[line], maxRows);
  if (row < 0) return;
  const int* state = rows + row * ROW_WORDS;
  if (!(state[ROW::FLAGS] & ROW_FLAG::GRAMMAR)) return;

  const int allWords = (vocab + 31) / 32;
  const int share = (allWords + gridDim.x - 1) / gridDim.x;
  const int from = min(allWords, (int)blockIdx.x * share);
  const int words = min(allWords, from + share) - from;
  const int first = 32 * from;
  u32* mask = masks + (i64)line * allWords + from;

  GrammarWalk walk;
  if (!walk.begin(tables, grammarRows + row * GRAMMAR_ROW_WORDS)) {
    for (int word = threadIdx.x; word < words; word += THREADS) mask[word] = 0;
    return;
  }
  const bool mayEnd = walk.endsAll(STATE_FINAL);
  lookUp(piece, walk);
  decideByHeads(piece, tables.heads, first, words, vocab);
  __syncthreads();
  for (int i = threadIdx.x; i < piece.open; i += THREADS) {
    const int token = piece.tokens[i];
    walk.restart();
    const TokenText text(tables, tables.spans[first + token]);
    if (admits(walk, piece.classes, text)) atomicOr(&piece.mask[token / 32], 1u << token % 32);
  }
  __syncthreads();
  // Stop ids are admitted where the text may end, whatever their bytes.
  const int stops = min(max(state[ROW::STOP_COUNT], 0), MAX_STOP_IDS);
  if (threadIdx.x < stops) {
    const int id = state[ROW::STOP_IDS + threadIdx.x] - first;
    if (id >= 0 && id < 32 * words && first + id < vocab) {
      const u32 bit = 1u << id % 32;
      if (mayEnd) atomicOr(&piece.mask[id / 32], bit);
      else atomicAnd(&piece.mask[id / 32], ~bit);
    }
  }
  __syncthreads();
  for (int word = threadIdx.x; word < words; word += THREADS) mask[word] = piece.mask[word];
}
