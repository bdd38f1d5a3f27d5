#include "grammar.cuh"

#define TARGETS TARGET::COUNTS

/** The i32 arrays that commands write, in the order of TARGET, and their lengths in words. */
struct Targets {
  int* words[TARGETS];
  int lengths[TARGETS];
};

/**
 * Clears a row's counts and counts its prompt and output. `payload` is [prompt length, prompt..,
 * output..].
 */
__device__ void restartCounts(int* counts, const int* payload, int length, int vocab) {
  for (int i = threadIdx.x; i < vocab; i += blockDim.x) counts[i] = 0;
  __syncthreads();
  const int promptLength = payload[0];
  for (int i = 1 + threadIdx.x; i < length; i += blockDim.x) {
    const int token = payload[i];
    if ((u32)token >= (u32)vocab) continue;
    if (i <= promptLength) {
      atomicOr(&counts[token], COUNT_PROMPT);
    } else {
      atomicAdd(&counts[token], 1);
    }
  }
}

/**
 * One block for each record in turn. Records that reach outside the command or their target are
 * left out.
 */
extern "C" __global__ void apply_command(Targets targets, const int* command, int* counts,
                                         int commandWords, int maxRecords, int countRows,
                                         int vocab) {
  letNextStart();
  awaitEarlier();
  const int records = min(command[COMMAND_HEADER::RECORDS], maxRecords);
  for (int index = blockIdx.x; index < records; index += gridDim.x) {
    const int* record = command + COMMAND_HEADER_WORDS + index * RECORD_WORDS;
    const int target = record[RECORD::TARGET];
    const int offset = record[RECORD::OFFSET];
    const int length = record[RECORD::LENGTH];
    const int start = record[RECORD::PAYLOAD];
    if (length <= 0 || start < 0 || (i64)start + length > commandWords || offset < 0) continue;
    const int* payload = command + start;
    if (target == TARGET::COUNTS) {
      if (offset >= countRows) continue;
      restartCounts(counts + (i64)offset * vocab, payload, length, vocab);
      __syncthreads();
    } else if ((u32)target < TARGETS) {
      if ((i64)offset + length > targets.lengths[target]) continue;
      int* out = targets.words[target] + offset;
      for (int i = threadIdx.x; i < length; i += blockDim.x) out[i] = payload[i];
    }
  }
}

extern "C" __global__ void begin_decode(const int* rows, const int* decodeRows, int* tokens,
                                        int* tokenRows, int* positions, int maxRows, int count) {
  letNextStart();
  awaitEarlier();
  const int line = blockIdx.x * blockDim.x + threadIdx.x;
  if (line >= count) return;
  const int row = checkedRow(decodeRows[line], maxRows);
  const int* state = rows + (row < 0 ? 0 : row) * ROW_WORDS;
  const bool decodes = row >= 0 && state[ROW::ACTIVE] == 1;
  tokens[line] = decodes ? state[ROW::TOKEN] : 0;
  tokenRows[line] = decodes ? row : -1;
  positions[line] = decodes ? state[ROW::POSITION] : 0;
}

__device__ bool stops(const int* state, int token) {
  const int count = min(max(state[ROW::STOP_COUNT], 0), MAX_STOP_IDS);
  for (int i = 0; i < count; i++) {
    if (state[ROW::STOP_IDS + i] == token) return true;
  }
  return false;
}

/** Moves a row's place in its grammar on, and returns whether that ends the row. */
__device__ int advanceGrammar(int* place, const GrammarTables& tables, int token, int vocab) {
  GrammarWalk walk;
  if ((u32)token >= (u32)vocab || !walk.begin(tables, place)) return FINISH::ERROR;
  const TokenText text(tables, tables.spans[token]);
  if (text.length == 0) return FINISH::ERROR;
  for (int i = 0; i < text.length; i++) {
    if (!walk.step(walk.classOf(text.words[i / 4] >> 8 * (i % 4) & 0xff))) return FINISH::ERROR;
  }
  const bool isComplete = walk.endsAll(STATE_COMPLETE);
  for (int word = 0; word < 2 * walk.owned; word++) {
    place[GRAMMAR_ROW::STACK + 2 * walk.kept + word] = (int)walk.own[word];
  }
  int depth = walk.kept + walk.owned;
  const int budget = place[GRAMMAR_ROW::BUDGET];
  if ((walk.info[walk.state] & STATE_THINKING) && budget >= 0) {
    place[GRAMMAR_ROW::BUDGET] = max(budget - 1, 0);
    const u32 forced = walk.grammar[GRAMMAR::FORCED];
    if (budget <= 1 && forced != NO_STATE) {
      walk.state = forced;
      depth = 0;
    }
  }
  place[GRAMMAR_ROW::STATE] = (int)walk.state;
  place[GRAMMAR_ROW::DEPTH] = depth;
  return isComplete ? FINISH::STOP : FINISH::NONE;
}

/** Moves a row on by the token just sampled and returns how it ended. */
__device__ int advanceRow(int* state, int token, int* counts, int* place,
                          const GrammarTables& tables, int vocab) {
  const int remaining = state[ROW::REMAINING] - 1;
  int finish = FINISH::NONE;
  if (token == NO_TOKEN) {
    finish = FINISH::ERROR;
  } else if (stops(state, token)) {
    finish = FINISH::STOP;
  } else if (state[ROW::FLAGS] & ROW_FLAG::GRAMMAR) {
    finish = advanceGrammar(place, tables, token, vocab);
  }
  if (finish == FINISH::NONE && remaining <= 0) finish = FINISH::LENGTH;
  state[ROW::TOKEN] = token;
  state[ROW::POSITION] += 1;
  state[ROW::GENERATED] += 1;
  state[ROW::REMAINING] = remaining;
  state[ROW::ACTIVE] = finish == FINISH::NONE ? 1 : 0;
  const bool counted = counts != nullptr && (state[ROW::FLAGS] & ROW_FLAG::PENALTIES) != 0;
  if (counted && (u32)token < (u32)vocab) counts[token] += 1;
  return finish;
}

/** One block: the step counter moves on after every line has read it. */
extern "C" __global__ void advance(int* rows, int* control, const int* lineRows, const int* sampled,
                                   int* counts, int* results, int* grammarRows,
                                   GrammarTables tables, int maxRows, int countRows, int count,
                                   int vocab, int ringSlots, int ringLines) {
  letNextStart();
  awaitEarlier();
  const int lines = min(count, ringLines);
  const u32 step = (u32)control[CONTROL::STEP];
  int* slot = results + (i64)(step % (u32)ringSlots) *
                            (RESULT_HEADER_WORDS + ringLines * RESULT_WORDS);
  __syncthreads();
  for (int line = threadIdx.x; line < lines; line += blockDim.x) {
    const int row = checkedRow(lineRows[line], maxRows);
    int* result = slot + RESULT_HEADER_WORDS + line * RESULT_WORDS;
    result[RESULT::ROW] = row;
    if (row < 0) continue;
    int* state = rows + row * ROW_WORDS;
    const int token = sampled[line];
    result[RESULT::EPOCH] = state[ROW::EPOCH];
    result[RESULT::TOKEN] = token;
    int* rowCounts = row < countRows ? counts + (i64)row * vocab : nullptr;
    int* place = grammarRows + row * GRAMMAR_ROW_WORDS;
    result[RESULT::FINISH] = advanceRow(state, token, rowCounts, place, tables, vocab);
  }
  if (threadIdx.x == 0) {
    slot[RESULT_HEADER::STEP] = (int)step;
    slot[RESULT_HEADER::LINES] = lines;
    control[CONTROL::STEP] = (int)(step + 1);
  }
}

/**
 * As `advance`, with `linesPerRow` lines for each row, which one thread goes through: those behind
 * the first count as long as they are of the token that was sampled before.
 */
extern "C" __global__ void accept(int* rows, int* control, int* lineRows, const int* sampled,
                                  int* counts, int* results, const int* tokens, int* history,
                                  int* grammarRows, GrammarTables tables, int maxRows,
                                  int countRows, int count, int vocab, int ringSlots, int ringLines,
                                  int linesPerRow, int historyTokens, int historyRows) {
  letNextStart();
  awaitEarlier();
  const int lines = min(count, ringLines);
  const u32 step = (u32)control[CONTROL::STEP];
  int* slot = results + (i64)(step % (u32)ringSlots) *
                            (RESULT_HEADER_WORDS + ringLines * RESULT_WORDS);
  __syncthreads();
  for (int first = threadIdx.x * linesPerRow; first < lines; first += blockDim.x * linesPerRow) {
    const int row = checkedRow(lineRows[first], maxRows);
    bool isOpen = row >= 0;
    for (int i = first; i < min(first + linesPerRow, lines); i++) {
      int* result = slot + RESULT_HEADER_WORDS + i * RESULT_WORDS;
      const bool isOwn = row >= 0 && lineRows[i] == row;
      result[RESULT::ROW] = isOwn ? row : -1;
      if (!isOwn) {
        isOpen = false;
        continue;
      }
      int* state = rows + row * ROW_WORDS;
      result[RESULT::EPOCH] = state[ROW::EPOCH];
      isOpen = isOpen && (i == first || tokens[i] == sampled[i - 1]);
      if (!isOpen) {
        lineRows[i] = -1;
        result[RESULT::TOKEN] = NO_TOKEN;
        result[RESULT::FINISH] = FINISH::REJECTED;
        continue;
      }
      const int token = sampled[i];
      int* rowCounts = row < countRows ? counts + (i64)row * vocab : nullptr;
      int* place = grammarRows + row * GRAMMAR_ROW_WORDS;
      const int finish = advanceRow(state, token, rowCounts, place, tables, vocab);
      result[RESULT::TOKEN] = token;
      result[RESULT::FINISH] = finish;
      isOpen = finish == FINISH::NONE;
      const int position = state[ROW::POSITION];
      if (row < historyRows && (u32)position < (u32)historyTokens) {
        history[(i64)row * historyTokens + position] = token;
      }
    }
  }
  if (threadIdx.x == 0) {
    slot[RESULT_HEADER::STEP] = (int)step;
    slot[RESULT_HEADER::LINES] = lines;
    control[CONTROL::STEP] = (int)(step + 1);
  }
}
