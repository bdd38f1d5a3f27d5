#include "select.cuh"

// One block for each line of logits. Logits are only read: what biases, masks and penalties make of
// them is computed anew in every pass, so that log-probabilities see them as the model gave them.

/**
 * Weights are fixed point: exp(0) is 2^40, and a vocabulary of 2^20 tokens cannot overflow their
 * sum.
 */
#define WEIGHT_ONE 0x1p40f
#define EDIT_SLOTS 1024

/** Logit biases and masked tokens of a row: an open-addressed table in shared memory. */
struct Edits {
  int tokens[EDIT_SLOTS];
  float values[EDIT_SLOTS];
  /** Of every token that is not in the table. */
  float others;

  __device__ static u32 slotOf(int token) { return mix32((u32)token) % EDIT_SLOTS; }

  /** One thread only. Entries of the same token add up. */
  __device__ void add(int token, float value) {
    u32 slot = slotOf(token);
    while (tokens[slot] != NO_TOKEN && tokens[slot] != token) slot = (slot + 1) % EDIT_SLOTS;
    values[slot] = tokens[slot] == token ? values[slot] + value : value;
    tokens[slot] = token;
  }
  __device__ float of(int token) const {
    u32 slot = slotOf(token);
    while (tokens[slot] != NO_TOKEN) {
      if (tokens[slot] == token) return values[slot];
      slot = (slot + 1) % EDIT_SLOTS;
    }
    return others;
  }
};

/** Needs MAX_BIAS + MAX_STOP_IDS < EDIT_SLOTS, or searches would not end. */
static_assert(MAX_BIAS + MAX_STOP_IDS < EDIT_SLOTS / 2, "the table of edits is too small");

/** A line of logits as its row wants them. */
struct Line {
  const float* logits;
  /** null: no biases and no masks. */
  const Edits* edits;
  /** A bit for each token that may be sampled. null: all may. */
  const u32* mask;
  /** null: no penalties. */
  const int* counts;
  float repetition;
  float presence;
  float frequency;

  __device__ float at(int token) const {
    if (mask != nullptr && !(mask[token / 32] >> token % 32 & 1)) return -infinity();
    float logit = logits[token];
    if (edits != nullptr) logit += edits->of(token);
    if (counts != nullptr) {
      const int count = counts[token];
      if (count != 0) logit = logit > 0.0f ? logit / repetition : logit * repetition;
      const int sampled = count & (COUNT_PROMPT - 1);
      if (sampled > 0) logit -= presence + frequency * (float)sampled;
    }
    return logit;
  }
};

__device__ inline float floatOf(int word) { return __int_as_float(word); }

/** `generated`: tokens of the row before the one that is sampled. */
__device__ void loadEdits(Edits* edits, const int* state, const int* bias, int generated) {
  for (int i = threadIdx.x; i < EDIT_SLOTS; i += THREADS) edits->tokens[i] = NO_TOKEN;
  __syncthreads();
  if (threadIdx.x == 0) {
    edits->others = (state[ROW::FLAGS] & ROW_FLAG::ALLOWED) ? -infinity() : 0.0f;
    const int biases = min(max(state[ROW::BIAS_COUNT], 0), MAX_BIAS);
    for (int i = 0; i < biases; i++) edits->add(bias[2 * i], floatOf(bias[2 * i + 1]));
    const int stops = min(max(state[ROW::STOP_COUNT], 0), MAX_STOP_IDS);
    for (int i = 0; i < stops && generated < state[ROW::MIN_TOKENS]; i++) {
      edits->add(state[ROW::STOP_IDS + i], -infinity());
    }
  }
  __syncthreads();
}

/** Samples from softmax(line * sharpness) under the row's filters. */
__device__ int draw(const Line& line, const int* state, int generated, int vocab, float best,
                    float sharpness) {
  const float minP = fminf(floatOf(state[ROW::MIN_P]), 1.0f);
  const float topP = floatOf(state[ROW::TOP_P]);
  const int topK = state[ROW::TOP_K];
  const auto keyOf = [&](int i) { return orderedKey(line.at(i)); };
  const auto depthOf = [&](int i) { return (best - line.at(i)) * sharpness; };
  const auto binOf = [&](int i) {
    return BINS - 1 - (int)fminf(depthOf(i) * (BINS / 32.0f), (float)(BINS - 1));
  };
  u32 floor = 0;
  const auto weightOf = [&](int i) -> u64 {
    const float weight = expf(-depthOf(i));
    if (!(weight >= minP) || (floor != 0 && keyOf(i) < floor)) return 0;
    return __float2ull_rn(weight * WEIGHT_ONE);
  };
  if (topK > 0 && topK < vocab) {
    floor = findThreshold(vocab, topK, keyOf, binOf, [](int) { return (u64)1; });
  }
  u64 sum = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < vocab; i += THREADS) sum += weightOf(i);
  u64 total = blockSum64(sum);
  if (topP < 1.0f) {
    const u64 need = __double2ull_ru(fmax((double)topP, 0.0) * (double)total);
    const u64 enough = min(max(need, (u64)1), total);
    floor = max(floor, findThreshold(vocab, enough, keyOf, binOf, weightOf));
    sum = 0;
    for (int i = threadIdx.x; i < vocab; i += THREADS) sum += weightOf(i);
    total = blockSum64(sum);
  }
  const u64 uniform = hash32(state[ROW::SEED_LO], state[ROW::SEED_HI], generated) >> 8;
  // uniform / 2^24 of the total, rounded down.
  const u64 target = __umul64hi(uniform, total) << 40 | uniform * total >> 24;
  return findByMass(vocab, target, weightOf);
}

/** Writes one line of log-probabilities of the logits as they are. Equal logits rank by id. */
__device__ void writeLogprobs(const float* logits, int vocab, int token, int alternatives,
                              int* out) {
  const auto keyOf = [&](int i) { return orderedKey(logits[i]); };
  const float best = valueOfKey(findBest(vocab, keyOf).key);
  const auto binOf = [&](int i) {
    return BINS - 1 - (int)fminf((best - logits[i]) * (BINS / 32.0f), (float)(BINS - 1));
  };
  const u32 chosen = keyOf(token);
  float sum = 0.0f;
  u64 above = 0;
  for (int i = threadIdx.x; i < vocab; i += THREADS) {
    sum += expf(logits[i] - best);
    const u32 key = keyOf(i);
    above += key > chosen || (key == chosen && i < token);
  }
  const float logSum = best + logf(blockSum(sum));
  const u64 rank = blockSum64(above) + 1;
  if (threadIdx.x == 0) {
    out[LOGPROB::LOGPROB] = __float_as_int(logits[token] - logSum);
    out[LOGPROB::RANK] = (int)rank;
  }
  const int wanted = min(min(max(alternatives, 0), MAX_TOP_LOGPROBS), vocab);
  float* values = (float*)out + LOGPROB::LOGPROBS;
  writeBest(vocab, wanted, keyOf, binOf, logSum, out + LOGPROB::IDS, values);
}

struct SampleShape {
  int maxRows;
  int countRows;
  int vocab;
  int ringSlots;
  int ringLines;
  int linesPerRow;
};

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    sample(const int* rows, const int* control, const int* lineRows, const float* logits,
           const int* counts, const int* bias, const u32* masks, int* sampled, int* logprobs,
           SampleShape shape) {
  letNextStart();
  awaitEarlier();
  __shared__ Edits edits;
  const int index = blockIdx.x;
  const int row = checkedRow(lineRows[index], shape.maxRows);
  if (row < 0) return;
  const int vocab = shape.vocab;
  const int* state = rows + row * ROW_WORDS;
  const int flags = state[ROW::FLAGS];
  const int generated = state[ROW::GENERATED] + index % shape.linesPerRow;

  Line line = {logits + (i64)index * vocab, nullptr, nullptr, nullptr, 1.0f, 0.0f, 0.0f};
  if (flags & ROW_FLAG::GRAMMAR) line.mask = masks + (i64)index * ((vocab + 31) / 32);
  if (state[ROW::BIAS_COUNT] > 0 ||
      (state[ROW::STOP_COUNT] > 0 && generated < state[ROW::MIN_TOKENS])) {
    loadEdits(&edits, state, bias + (i64)row * MAX_BIAS * 2, generated);
    line.edits = &edits;
  }
  if ((flags & ROW_FLAG::PENALTIES) && row < shape.countRows) {
    line.counts = counts + (i64)row * vocab;
    line.repetition = floatOf(state[ROW::REPETITION]);
    line.presence = floatOf(state[ROW::PRESENCE]);
    line.frequency = floatOf(state[ROW::FREQUENCY]);
  }
  const Best best = findBest(vocab, [&](int i) { return orderedKey(line.at(i)); });
  const float top = valueOfKey(best.key);
  // The reciprocal is infinite without a temperature, and with one too small to tell from none.
  const float sharpness = 1.0f / fmaxf(floatOf(state[ROW::TEMPERATURE]), 0.0f);
  const bool draws = sharpness < infinity() && fabsf(top) < infinity();
  const int wanted = draws ? draw(line, state, generated, vocab, top, sharpness) : best.token;
  const int token = top == -infinity() ? NO_TOKEN : wanted;
  if (threadIdx.x == 0) sampled[index] = token;

  if ((flags & ROW_FLAG::LOGPROBS) && token != NO_TOKEN && index < shape.ringLines) {
    const u32 slot = (u32)control[CONTROL::STEP] % (u32)shape.ringSlots;
    int* out = logprobs + ((i64)slot * shape.ringLines + index) * LOGPROB_WORDS;
    writeLogprobs(line.logits, vocab, token, state[ROW::TOP_LOGPROBS], out);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    prompt_logprobs(const float* logits, const int* targets, int* out, int vocab) {
  letNextStart();
  awaitEarlier();
  const int index = blockIdx.x;
  const int target = targets[index];
  if ((u32)target >= (u32)vocab) return;
  writeLogprobs(logits + (i64)index * vocab, vocab, target, MAX_TOP_LOGPROBS,
                out + (i64)index * LOGPROB_WORDS);
}
