#pragma once
#include "common.cuh"

// Compiled grammars are stepped here as grammar-step.ts does it, token for token. Entries of a
// grammar are not checked: the engine admits none that lead out of it.

/** What rows' grammars and tokens are in memory. See GrammarTables in ops.ts. */
struct GrammarTables {
  const u32* pool;
  const u32* spans;
  const u32* heads;
  const u32* bytes;
  int poolWords;
  int byteWords;
};

/** Tries tokens from a row's place, whose stack it leaves alone: frames that a token touches are
    its own. */
struct GrammarWalk {
  const u32* grammar;
  const u32* table;
  const u32* info;
  const u32* moves;
  u32 states;
  u32 classes;
  const int* place;
  u32 state;
  int kept;
  int owned;
  u32 own[2 * MAX_TOKEN_FRAMES];

  /** False: the row's place is in no grammar of the pool. */
  __device__ bool begin(const GrammarTables& tables, const int* row) {
    const int offset = row[GRAMMAR_ROW::GRAMMAR];
    if (offset < 0 || (i64)offset + GRAMMAR_HEADER_WORDS > tables.poolWords) return false;
    grammar = tables.pool + offset;
    if ((i64)offset + grammar[GRAMMAR::WORDS] > tables.poolWords) return false;
    states = grammar[GRAMMAR::STATES];
    classes = grammar[GRAMMAR::CLASSES];
    table = grammar + grammar[GRAMMAR::TABLE];
    info = grammar + grammar[GRAMMAR::INFO];
    moves = grammar + grammar[GRAMMAR::MOVES];
    place = row;
    restart();
    return (u32)kept <= MAX_GRAMMAR_DEPTH && state < states;
  }

  __device__ void restart() {
    state = (u32)place[GRAMMAR_ROW::STATE];
    kept = place[GRAMMAR_ROW::DEPTH];
    owned = 0;
  }

  __device__ u32 classOf(u32 byte) const {
    return grammar[GRAMMAR::CLASS_OF_BYTE + byte / 4] >> 8 * (byte % 4) & 0xff;
  }

  __device__ u32 entryOf(u32 from, u32 byte) const { return table[from * classes + classOf(byte)]; }

  __device__ bool step(u32 column) {
    for (;;) {
      const u32 entry = table[state * classes + column];
      if (entry & MOVE_ENTRY) return move(moves + (entry & ENTRY_VALUE));
      if (entry & GOTO_ENTRY) {
        state = entry & ENTRY_VALUE;
        return true;
      }
      if (!pop()) return false;
    }
  }

  /** Leaves the top frame for its return state, if the text may go on there. */
  __device__ bool pop() {
    const int depth = kept + owned;
    if (depth == 0 || !mayLeave(state, depth, STATE_FINAL)) return false;
    state = wordOf(depth - 1, 0);
    if (owned > 0) owned--;
    else kept--;
    return state < states;
  }

  __device__ bool move(const u32* record) {
    const u32 maximum = record[MOVE::MAXIMUM];
    if (maximum != 0 && !count(maximum)) return false;
    const int frames = (int)record[MOVE::FRAMES];
    if (owned + frames > MAX_TOKEN_FRAMES) return false;
    if (kept + owned + frames > MAX_GRAMMAR_DEPTH) return false;
    for (int word = 0; word < 2 * frames; word++) {
      own[2 * owned + word] = record[MOVE::FRAME + word];
    }
    owned += frames;
    state = record[MOVE::TARGET];
    return true;
  }

  /** Raises the top frame's count, which must be below `maximum`. */
  __device__ bool count(u32 maximum) {
    if (owned == 0) {
      if (kept == 0) return false;
      kept--;
      own[0] = (u32)place[GRAMMAR_ROW::STACK + 2 * kept];
      own[1] = (u32)place[GRAMMAR_ROW::STACK + 2 * kept + 1];
      owned = 1;
    }
    if (own[2 * owned - 1] >= maximum) return false;
    own[2 * owned - 1]++;
    return true;
  }

  /** Whether the state and all that the stack returns to have `flag`, with counts high enough. */
  __device__ bool endsAll(u32 flag) const {
    u32 at = state;
    for (int depth = kept + owned; depth > 0; depth--) {
      if (!mayLeave(at, depth, flag)) return false;
      at = wordOf(depth - 1, 0);
      if (at >= states) return false;
    }
    return (info[at] & flag) != 0;
  }

  __device__ bool mayLeave(u32 at, int depth, u32 flag) const {
    return (info[at] & flag) != 0 && wordOf(depth - 1, 1) >= (info[at] & STATE_MINIMUM);
  }

  /** Return state (0) or count (1) of a frame of the stack. */
  __device__ u32 wordOf(int frame, int word) const {
    return frame < kept ? (u32)place[GRAMMAR_ROW::STACK + 2 * frame + word]
                        : own[2 * (frame - kept) + word];
  }
};

/** A token's bytes: `length` of them from `words` on, four a word. */
struct TokenText {
  const u32* words;
  int length;

  __device__ TokenText(const GrammarTables& tables, u32 span) {
    const i64 from = span >> TOKEN_SPAN_SHIFT;
    length = (int)(span & MAX_TOKEN_BYTES);
    words = tables.bytes + from;
    if (from + (length + 3) / 4 > tables.byteWords) length = 0;
  }
};
