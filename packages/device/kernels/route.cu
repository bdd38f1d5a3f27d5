#include "common.cuh"

// Which experts a line goes to, and the lines of each expert. See `route` in ops.ts.

#define LINES 8
/** Experts of which a lane keeps the logits. */
#define LANE_EXPERTS 32
#define GROUP_THREADS 256

/** normed = input / rms * (norm + offset) over a line, by a block. */
__device__ inline void normLine(const bf16* input, const bf16* norm, bf16* normed, int width,
                                float epsilon, float offset) {
  float sum = 0.0f;
  if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      float values[8];
      widen8(((const uint4*)input)[i], values);
      for (int j = 0; j < 8; j++) sum += values[j] * values[j];
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum += widen(input[i]) * widen(input[i]);
  }
  const float factor = rsqrtf(blockSum(sum) / (float)width + epsilon);
  if (width % 8 == 0) {
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) {
      float values[8], weights[8];
      widen8(((const uint4*)input)[i], values);
      widen8(((const uint4*)norm)[i], weights);
      for (int j = 0; j < 8; j++) values[j] *= factor * (weights[j] + offset);
      ((uint4*)normed)[i] = narrow8(values);
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
      normed[i] = narrow(widen(input[i]) * factor * (widen(norm[i]) + offset));
    }
  }
}

/** WEIGHING of experts.ts. */
enum Weighing { SOFTMAX_CHOSEN, SOFTMAX_ALL, SIGMOID, SIGMOID_NORMALISED };

__device__ inline float sigmoidExactly(float x) { return 1.0f / (1.0f + expf(-x)); }

/** A chosen expert as one of [from, to), which the device has; none where it is another's. */
__device__ inline int ownExpert(int expert, int from, int to) {
  return expert >= from && expert < to ? expert - from : -1;
}

/** A set bit for each of `own` whose group is not one of the `kept` best, by their best two. */
__device__ inline u32 outsideGroups(const float (&own)[LANE_EXPERTS], int experts, int groups,
                                    int kept) {
  const int lane = threadIdx.x % WARP_LANES;
  const int size = experts / groups;
  // A lane keeps the total of the group of its number.
  float total = -infinity();
  for (int group = 0; group < groups; group++) {
    float first = -infinity(), second = -infinity();
#pragma unroll
    for (int i = 0; i < LANE_EXPERTS; i++) {
      const int expert = i * WARP_LANES + lane;
      if (expert >= experts || expert / size != group) continue;
      second = fmaxf(second, fminf(first, own[i]));
      first = fmaxf(first, own[i]);
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) {
      const float otherFirst = __shfl_xor_sync(FULL_WARP, first, offset);
      const float otherSecond = __shfl_xor_sync(FULL_WARP, second, offset);
      second = fmaxf(fminf(first, otherFirst), fmaxf(second, otherSecond));
      first = fmaxf(first, otherFirst);
    }
    if (lane == group) total = first + second;
  }
  u32 chosen = 0;
  for (int i = 0; i < kept; i++) {
    float best = (chosen >> lane & 1) != 0 || lane >= groups ? -infinity() : total;
    int at = (chosen >> lane & 1) != 0 || lane >= groups ? WARP_LANES : lane;
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) {
      const float other = __shfl_xor_sync(FULL_WARP, best, offset);
      const int otherAt = __shfl_xor_sync(FULL_WARP, at, offset);
      const bool isFirst = other == best && otherAt < at;
      if (other > best || isFirst) best = other, at = otherAt;
    }
    chosen |= 1u << at;
  }
  u32 outside = 0;
#pragma unroll
  for (int i = 0; i < LANE_EXPERTS; i++) {
    const int expert = i * WARP_LANES + lane;
    if (expert < experts && (chosen >> expert / size & 1) == 0) outside |= 1u << i;
  }
  return outside;
}

/** The experts of a line's largest scores and what they weigh, by one warp. */
__device__ inline void chooseForLine(const float* logits, const bf16* bias, const float* choiceBias,
                                     const float* expertScales, int* chosen, float* weights,
                                     int experts, int topK, int weighing, float weightScale,
                                     float logitScale, int from, int to, int groups, int kept) {
  const int lane = threadIdx.x % WARP_LANES;
  const bool isSigmoid = weighing == SIGMOID || weighing == SIGMOID_NORMALISED;
  float own[LANE_EXPERTS];
#pragma unroll
  for (int i = 0; i < LANE_EXPERTS; i++) {
    const int expert = i * WARP_LANES + lane;
    float logit = expert < experts ? logits[expert] : -infinity();
    if (bias != nullptr && expert < experts) logit += widen(bias[expert]);
    logit *= logitScale;
    own[i] = logit != logit ? -infinity() : logit;
    if (isSigmoid && expert < experts) {
      own[i] = sigmoidExactly(own[i]) + (choiceBias != nullptr ? choiceBias[expert] : 0.0f);
    }
  }
  u32 taken = groups > 1 ? outsideGroups(own, experts, groups, kept) : 0;
  float top = 0.0f, total = 0.0f, power = 0.0f;
  for (int slot = 0; slot < topK; slot++) {
    float best = -infinity();
    int at = 0x7fffffff;
#pragma unroll
    for (int i = 0; i < LANE_EXPERTS; i++) {
      if (i * WARP_LANES >= experts) break;
      const int expert = i * WARP_LANES + lane;
      if (expert >= experts || (taken >> i & 1) != 0) continue;
      if (at == 0x7fffffff || own[i] > best) best = own[i], at = expert;
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) {
      const float other = __shfl_xor_sync(FULL_WARP, best, offset);
      const int otherAt = __shfl_xor_sync(FULL_WARP, at, offset);
      if (other > best || (other == best && otherAt < at)) best = other, at = otherAt;
    }
    if (at % WARP_LANES == lane) taken |= 1u << at / WARP_LANES;
    if (slot == 0) top = best;
    float mine;
    if (isSigmoid) {
      // Who is chosen depends on the bias, and what it weighs does not.
      const float logit = logits[at] + (bias != nullptr ? widen(bias[at]) : 0.0f);
      mine = sigmoidExactly(logit * logitScale);
    } else {
      mine = expf(best - top);
    }
    total += mine;
    // Lanes keep what the slots of their numbers weigh: topK is at most a warp's lanes.
    if (lane == slot) power = mine * (expertScales != nullptr ? expertScales[at] : 1.0f);
    if (lane == 0) chosen[slot] = ownExpert(at, from, to);
  }
  if (weighing == SOFTMAX_ALL) {
    total = 0.0f;
#pragma unroll
    for (int i = 0; i < LANE_EXPERTS; i++) {
      if (i * WARP_LANES + lane < experts) total += expf(own[i] - top);
    }
    total = warpSum(total);
  }
  if (weighing == SIGMOID) total = 1.0f;
  if (lane < topK) weights[lane] = weightScale * power / total;
}

/** group_by_expert for at most 32 assignments, by one block that has all of them. */
__device__ inline void groupFew(const int* chosen, int* starts, int* order, int assignments,
                                int experts) {
  for (int expert = threadIdx.x; expert <= experts; expert += blockDim.x) {
    int before = 0;
    for (int i = 0; i < assignments; i++) before += (u32)chosen[i] < (u32)expert;
    starts[expert] = before;
  }
  if (threadIdx.x >= assignments) return;
  const int own = chosen[threadIdx.x];
  if ((u32)own >= (u32)experts) return;
  int at = 0;
  for (int i = 0; i < assignments; i++) {
    at += (u32)chosen[i] < (u32)own || (chosen[i] == own && i < threadIdx.x);
  }
  order[at] = threadIdx.x;
}

/**
 * Blocks of a warp for each line, then one for each line that is to be normalised: none, where
 * `normed` is there already. logits are [lines, allExperts], bias [allExperts] or null; allExperts
 * at most 1024, topK at most 32. What is chosen is written as one of [from, to), no more than
 * `experts`. With `isFew` there is one block of the first kind, which also does what
 * group_by_expert does.
 */
extern "C" __global__ void choose_experts(const bf16* input, const bf16* norm, bf16* normed,
                                          const float* logits, const bf16* bias,
                                          const float* choiceBias, const float* expertScales,
                                          const int* tokenRows, int* chosen, float* weights,
                                          int* starts, int* order, int count, int width,
                                          int allExperts, int from, int to, int experts, int topK,
                                          int weighing, float weightScale, float logitScale,
                                          float epsilon, float normOffset, int isFew, int groups,
                                          int kept) {
  __shared__ int few[WARP_LANES];
  awaitEarlier();
  letNextStart();
  const int lane = threadIdx.x % WARP_LANES;
  const int choosing = (count + LINES - 1) / LINES;
  if (blockIdx.x >= choosing) {
    const i64 at = (i64)(blockIdx.x - choosing) * width;
    normLine(input + at, norm, normed + at, width, epsilon, normOffset);
    return;
  }
  const int line = blockIdx.x * LINES + threadIdx.x / WARP_LANES;
  if (line < count) {
    int* own = isFew ? few + line * topK : chosen + (i64)line * topK;
    if (tokenRows[line] < 0) {
      if (lane < topK) own[lane] = -1, weights[line * topK + lane] = 0.0f;
    } else {
      chooseForLine(logits + (i64)line * allExperts, bias, choiceBias, expertScales, own,
                    weights + (i64)line * topK, allExperts, topK, weighing, weightScale, logitScale,
                    from, to, groups, kept);
    }
  }
  if (!isFew) return;
  __syncthreads();
  const int assignments = count * topK;
  if (threadIdx.x < assignments) chosen[threadIdx.x] = few[threadIdx.x];
  groupFew(few, starts, order, assignments, experts);
}

/**
 * A block for each expert: how many assignments go to experts before it, and which are its own, in
 * order. The last expert's block ends the list of starts.
 */
extern "C" __global__ void group_by_expert(const int* chosen, int* starts, int* order,
                                           int assignments, int experts) {
  __shared__ int sums[2][GROUP_THREADS / WARP_LANES];
  awaitEarlier();
  letNextStart();
  const int expert = blockIdx.x;
  const int lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
  int before = 0, own = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < assignments; i += GROUP_THREADS) {
    const int other = chosen[i];
    before += (u32)other < (u32)expert;
    own += other == expert;
  }
  before = __reduce_add_sync(FULL_WARP, before);
  own = __reduce_add_sync(FULL_WARP, own);
  if (lane == 0) sums[0][warp] = before, sums[1][warp] = own;
  __syncthreads();
  int start = 0, total = 0;
  for (int i = 0; i < GROUP_THREADS / WARP_LANES; i++) start += sums[0][i], total += sums[1][i];
  if (threadIdx.x == 0) {
    starts[expert] = start;
    if (expert == experts - 1) starts[experts] = start + total;
  }
  if (total == 0) return;
  for (int from = 0; from < assignments; from += GROUP_THREADS) {
    const int i = from + threadIdx.x;
    const bool isOwn = i < assignments && chosen[i] == expert;
    const u32 mask = __ballot_sync(FULL_WARP, isOwn);
    __syncthreads();
    if (lane == 0) sums[0][warp] = __popc(mask);
    __syncthreads();
    int at = start + __popc(mask & ((1u << lane) - 1));
    for (int w = 0; w < GROUP_THREADS / WARP_LANES; w++) {
      if (w < warp) at += sums[0][w];
      start += sums[0][w];
    }
    if (isOwn) order[at] = i;
  }
}
