#include "experts.cuh"
#include "fp4.cuh"
#include "hopper.cuh"

// Products of many lines with experts in MXFP4, as of prompts, on Hopper's tensor cores. A block
// has ROWS rows of one expert's weight and LINE_TILE of its lines. Codes go from memory to
// registers, are widened there and multiplied from there (wgmma takes one operand from registers),
// so that shared memory, whose rate would be the limit, has the lines alone.
//
// In a product of 16 inputs a lane of four has four of each row. It reads 16 or 32 codes of a row
// that lie side by side, and these are four of each of the four or eight products of a step. For
// that lines have their inputs in the same order, which a kernel of its own puts them in before
// (order_inputs).
//
// What products read from registers has to be computed into them. A form of this for bf16, which
// is only moved there, gave wrong sums where FP8 and MXFP4 were right: it seems that moves were
// left out, so that the next load wrote to registers that products still read. See
// experts-tile.cu.
//
// Fixed when compiled: LINE_TILE (32, 64 or 128).

#define WARPGROUPS 2
#define THREADS (WARPGROUPS * WARPGROUP)
#define ROWS (WARPGROUPS * 64)
/** Inputs at a time, and lines of the swizzle that they are in bf16: fewer where lines are many. */
#define STEP (LINE_TILE == 128 ? 64 : 128)
#define STEP_LINES (STEP / 64)
#define LINES_BYTES (LINE_TILE * SWIZZLE_LINE)
/** Codes that a lane reads of a row for a step, eight in a word. */
#define SPAN (STEP / 4)
#define WORDS (SPAN / 8)
/** One that is read, one that the products before may still read, and others on their way. */
#define STAGES (LINE_TILE == 128 ? 4 : 3)
#define STEPS_AHEAD (STAGES - 2)
#define STEP_PIECES (STEP / 8)
#define THREAD_PIECES (LINE_TILE * STEP_PIECES / THREADS)
#define SUMS (LINE_TILE / 2)
/** Steps after which weights are in the cache for all multiprocessors. */
#define PREFETCH_STEPS (384 / STEP)

/** Its tiles come first: swizzled lines start at multiples of SWIZZLE_ATOM. */
struct Shared {
  unsigned char lines[STAGES][STEP_LINES][LINES_BYTES];
  ExpertTile tile;
  int assignments[LINE_TILE];
};

/** Inputs of a line in the order of the products: whole steps. */
__device__ inline int orderedPitch(int inputs) { return (inputs + STEP - 1) / STEP * STEP; }

/** A warp's rows: 16 weight rows, of gate and up of 8 units under a gate. */
template <bool IS_GATE> struct WarpRows {
  const Problem& problem;
  int expert;
  int first;

  __device__ WarpRows(const Problem& problem, int expert) : problem(problem), expert(expert) {
    const int own = threadIdx.x / WARP_LANES * 16;
    first = (blockIdx.x * ROWS + own) / (IS_GATE ? 2 : 1);
  }
  /** The output that row 0 to 15 is of: rows g and g + 8 are a lane's, and one gate's. */
  __device__ int output(int row) const { return first + (IS_GATE ? row % 8 : row); }
  /** The weight's row. Past the end the last one will do: none is written. */
  __device__ i64 weightRow(int row) const {
    const int unit = min(output(row), problem.outputs - 1);
    if (IS_GATE) return problem.gateRow(expert, unit, row / 8);
    return (i64)expert * problem.outputs + unit;
  }
};

/** Codes of a row and their scale. */
struct Packed {
  u32 words[WORDS];
  u32 scale;
};

/** The way of a lane's two rows through its registers. */
struct RowFeed {
  const unsigned char* codes[2];
  const unsigned char* scales[2];
  /** Of a row from the lane's first on. */
  int inputsLeft;

  template <bool IS_GATE> __device__ RowFeed(const Problem& problem, const WarpRows<IS_GATE>& all) {
    const int first = threadIdx.x % 4 * SPAN;
    inputsLeft = problem.inputs - first;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const i64 at = all.weightRow(threadIdx.x % WARP_LANES / 4 + i * 8) * problem.inputs + first;
      codes[i] = problem.weight + at / 2;
      scales[i] = (const unsigned char*)problem.scales + at / 32;
    }
  }

  /** Asks for a step's; zeros past the end of a row. */
  __device__ void load(Packed (&packed)[2], int step) const {
    const int at = step * STEP;
    const int later = at + PREFETCH_STEPS * STEP;
    const bool isGiven = at < inputsLeft;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const unsigned char* source = codes[i] + at / 2;
#if LINE_TILE == 128
      const uint2 read = isGiven ? *(const uint2*)source : make_uint2(0, 0);
      const u32 words[] = {read.x, read.y};
#else
      const uint4 read = isGiven ? *(const uint4*)source : make_uint4(0, 0, 0, 0);
      const u32 words[] = {read.x, read.y, read.z, read.w};
#endif
#pragma unroll
      for (int word = 0; word < WORDS; word++) packed[i].words[word] = words[word];
      packed[i].scale = isGiven ? scales[i][at / 32] : 0;
      // As many of the four lanes as there are sectors of 32 bytes ask for what all will read.
      if (threadIdx.x % (4 / STEP_LINES) == 0 && later < inputsLeft) {
        asm volatile("prefetch.global.L2 [%0];" ::"l"(codes[i] + later / 2));
      }
    }
  }
};

/** The way of lines to shared memory, in the background. */
struct LineFeed {
  const Problem& problem;
  int pitch;
  /** Of the thread's pieces, in the first step; null for a line past the last: zeros. */
  const bf16* sources[THREAD_PIECES];

  /** `slots` assignments share a line of the input. */
  __device__ LineFeed(const Problem& problem, const Shared& shared, int slots) : problem(problem) {
    pitch = orderedPitch(problem.inputs);
#pragma unroll
    for (int i = 0; i < THREAD_PIECES; i++) {
      const i64 source = shared.assignments[lineOf(i)] / slots * (i64)pitch;
      const bool isGiven = lineOf(i) < shared.tile.count;
      sources[i] = isGiven ? problem.input + source + threadIdx.x % STEP_PIECES * 8 : nullptr;
    }
  }
  __device__ static int lineOf(int i) {
    return threadIdx.x / STEP_PIECES + i * (THREADS / STEP_PIECES);
  }

  /** In a group of copies of its own; past the last step it is empty. */
  __device__ void ask(Shared& shared, int step) const {
    const int piece = threadIdx.x % STEP_PIECES;
    const u32 target = sharedAddress(shared.lines[step % STAGES][piece / 8]);
    if (step * STEP < pitch) {
#pragma unroll
      for (int i = 0; i < THREAD_PIECES; i++) {
        const bool isZero = sources[i] == nullptr;
        const bf16* from = isZero ? problem.input : sources[i] + step * STEP;
        copyPiece(target + swizzled(lineOf(i), piece % 8), from, isZero);
      }
    }
    commitCopies();
  }
};

/**
 * sums[64 rows of a warpgroup, lines] over all inputs. While two products are under way the
 * operands of the next two are widened.
 */
__device__ inline void runSteps(float (&sums)[SUMS], Shared& shared, const LineFeed& lines,
                                const RowFeed& rows) {
  const int steps = lines.pitch / STEP;
#pragma unroll
  for (int step = 0; step < STEPS_AHEAD; step++) lines.ask(shared, step);
  Packed packed[2], next[2];
  u32 operands[2][8] = {};
  rows.load(packed, 0);
  for (int step = 0; step < steps; step++) {
    rows.load(next, step + 1);
    awaitCopies<STEPS_AHEAD - 1>();
    fenceProducts();
    // What every thread brought is there, and the products of two steps before are over.
    __syncthreads();
    lines.ask(shared, step + STEPS_AHEAD);
    const u64 b = describe(sharedAddress(shared.lines[step % STAGES]), 16, SWIZZLE_ATOM);
    const u32 factors[2] = {fp4Factor(packed[0].scale), fp4Factor(packed[1].scale)};
#pragma unroll
    for (int word = 0; word < WORDS; word++) {
      u32(&own)[8] = operands[word % 2];
      awaitProducts<1>();
      pin(own);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        u32 pairs[4];
        widenFp4(packed[i].words[word], factors[i], pairs);
#pragma unroll
        for (int pair = 0; pair < 4; pair++) own[pair * 2 + i] = pairs[pair];
      }
      pin(own);
      beginProducts();
#pragma unroll
      for (int k = 0; k < 2; k++) {
        const u32 place = word / 2 * LINES_BYTES + (word % 2 * 2 + k) * 32;
        multiplyLines(sums, own[k * 4], own[k * 4 + 1], own[k * 4 + 2], own[k * 4 + 3],
                      further(b, place));
      }
      commitProducts();
    }
#pragma unroll
    for (int i = 0; i < 2; i++) packed[i] = next[i];
  }
  awaitCopies<0>();
  awaitProducts<0>();
  pin(operands[0]);
  pin(operands[1]);
  pin(sums);
}

template <bool IS_GATE> __device__ void multiplyTile(const Problem& problem) {
  extern __shared__ __align__(SWIZZLE_ATOM) unsigned char memory[];
  Shared& shared = *(Shared*)memory;
  awaitEarlier();
  letNextStart();
  const int count = takeTile(problem, shared.tile, shared.assignments, LINE_TILE);
  if (count == 0) return;
  const WarpRows<IS_GATE> all(problem, shared.tile.expert);
  const RowFeed rows(problem, all);
  float sums[SUMS] = {};
  runSteps(sums, shared, LineFeed(problem, shared, IS_GATE ? problem.topK : 1), rows);
  const int own = threadIdx.x % WARP_LANES / 4;
  float bias[2] = {};
  if (problem.bias != nullptr) {
    bias[0] = widen(problem.bias[all.weightRow(own)]);
    bias[1] = widen(problem.bias[all.weightRow(own + 8)]);
  }
  const int output = all.output(own);
#pragma unroll
  for (int eight = 0; eight < LINE_TILE / 8; eight++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int line = eight * 8 + threadIdx.x % 4 * 2 + i;
      if (line >= count) continue;
      const int assignment = shared.assignments[line];
      const float upper = sums[eight * 4 + i] + bias[0];
      const float lower = sums[eight * 4 + 2 + i] + bias[1];
      const i64 at = (i64)assignment * problem.outputs + output;
      if (IS_GATE) {
        const bool isGiven = output < problem.outputs;
        if (isGiven) ((bf16*)problem.out)[at] = narrow(problem.gated(upper, lower));
      } else {
        const float weight = problem.weights[assignment];
        if (output < problem.outputs) ((float*)problem.out)[at] = weight * upper;
        if (output + 8 < problem.outputs) ((float*)problem.out)[at + 8] = weight * lower;
      }
    }
  }
}

/*
 * Grid: (tiles of ROWS rows; tiles of lines, as many as any routing fills). Threads: THREADS.
 * Dynamic shared memory: sizeof(Shared). Lines are as order_inputs wrote them. Inputs are a
 * multiple of 32. What the parameters are see experts.cu's kernels.
 */

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    expert_gate_hopper(const __grid_constant__ Problem problem) {
  multiplyTile<true>(problem);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    expert_down_hopper(const __grid_constant__ Problem problem) {
  multiplyTile<false>(problem);
}

/**
 * out[lines, orderedPitch(inputs)] = input[lines, inputs] with the inputs of each step in the order
 * in which the products take them, zeros behind the last: of product s = o / 8, and there of the
 * lane c = o % 4 its pair h = o / 4 % 2, for word o of a step. A pair is one of widenFp4: codes i
 * and i + 4 of eight. Grid: (lines); inputs are a multiple of 32.
 */
extern "C" __global__ void order_inputs(const bf16* input, bf16* out, int inputs) {
  awaitEarlier();
  letNextStart();
  const int pitch = orderedPitch(inputs);
  const bf16* source = input + (i64)blockIdx.x * inputs;
  u32* target = (u32*)(out + (i64)blockIdx.x * pitch);
  for (int word = threadIdx.x; word < pitch / 2; word += blockDim.x) {
    const int product = word % (STEP / 2) / 8, pair = word / 4 % 2, lane = word % 4;
    const int code = product / 2 * 8 + product % 2 * 2 + pair;
    const int at = word / (STEP / 2) * STEP + lane * SPAN + code;
    target[word] = at < inputs ? source[at] | (u32)source[at + 4] << 16 : 0;
  }
}
