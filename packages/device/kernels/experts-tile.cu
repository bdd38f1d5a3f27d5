#include "experts.cuh"
#include "hopper.cuh"
#if FORMAT == 1
#include "fp8.cuh"
#elif FORMAT == 2
#include "fp4.cuh"
#elif FORMAT == 3
#include "int4.cuh"
#endif

// Products of many lines with the experts that they chose, as of prompts: what counts are the
// tensor cores. A block has a tile of ROWS rows of one expert's weight by LINE_TILE of its lines,
// and takes STEP inputs at a time: lines come to shared memory in the background, and weights,
// packed as they are, through registers, where they are widened to bf16 while the products of the
// step before are under way. Which expert and which of its lines a block has it finds in the
// groups: the grid depends on how many lines there are and not on where they go.
//
// Fixed when compiled: FORMAT (0: bf16, 1: FP8 e4m3 with scales, 2: MXFP4, 3: int4), LINE_TILE (64
// or 128), WGMMA (1: warpgroups multiply, Hopper alone; 0: warps do, with mma.sync).

/** Two for each line, so that a warp has 16 of them and its sums fit its registers. */
#define THREADS (2 * LINE_TILE)
#define ROWS 128
/** One line of the swizzle: 64 inputs in bf16. */
#define STEP 64
#define LINE_STAGES 3
/** Where weights are not widened they come in the background, too. */
#define ROW_STAGES (FORMAT == 0 ? 3 : 2)
/** Inputs that a thread widens at once: a block of MXFP4, or of a group of int4. */
#define SPAN 32
#define SPANS (ROWS * STEP / SPAN / THREADS)
/** Pieces of 16 bytes that a thread copies, of lines and of bf16 weights. */
#define LINE_PIECES (LINE_TILE * 8 / THREADS)
#define ROW_PIECES (ROWS * 8 / THREADS)
#define SUMS 64

/** Its tiles come first: swizzled lines start at multiples of SWIZZLE_ATOM. */
struct Shared {
  unsigned char lines[LINE_STAGES][LINE_TILE * SWIZZLE_LINE];
  unsigned char rows[ROW_STAGES][ROWS * SWIZZLE_LINE];
  ExpertTile tile;
  int assignments[LINE_TILE];
};

/**
 * The place of a tile's columns: a lane of four has columns 8 j + 2 c and the next of each eight
 * j, and these are made to be gate and up of one unit, or outputs that lie side by side.
 */
template <bool IS_GATE> struct Columns {
  const Problem& problem;
  int expert;
  int first;

  __device__ Columns(const Problem& problem, int expert) : problem(problem), expert(expert) {
    first = blockIdx.x * (IS_GATE ? ROWS / 2 : ROWS);
  }
  /** The first of the 16 units or 32 outputs of a lane of four. */
  __device__ int firstOf(int lane) const { return first + lane * (IS_GATE ? 16 : 32); }
  /** The weight's row. Past the end the last one will do: none is written. */
  __device__ i64 weightRow(int column) const {
    const int eight = column / 8, half = column % 2;
    const int own = firstOf(column % 8 / 2);
    if (IS_GATE) return problem.gateRow(expert, min(own + eight, problem.outputs - 1), half);
    return (i64)expert * problem.outputs + min(own + 2 * eight + half, problem.outputs - 1);
  }
  __device__ float bias(int column) const {
    return problem.bias == nullptr ? 0.0f : widen(problem.bias[weightRow(column)]);
  }
};

#if FORMAT != 0
/** SPAN inputs of a row as they are stored, and what they are multiplied by. */
struct Packed {
#if FORMAT == 1
  uint4 codes[2];
  float scale;
#else
  uint4 codes;
  u32 scale;
#endif
};

/** The way of packed weights through the registers of a thread. */
template <bool IS_GATE> struct RowFeed {
  const Problem& problem;
  i64 rows[SPANS];
  Packed packed[SPANS];

  __device__ RowFeed(const Columns<IS_GATE>& columns) : problem(columns.problem) {
#pragma unroll
    for (int i = 0; i < SPANS; i++) {
      rows[i] = columns.weightRow((threadIdx.x + i * THREADS) / 2);
    }
  }

  /** Asks for a step's; zeros past the end of a row. */
  __device__ void load(int step) {
    const int at = step * STEP + threadIdx.x % 2 * SPAN;
#pragma unroll
    for (int i = 0; i < SPANS; i++) {
#if FORMAT == 1
      const int perRow = (problem.inputs + problem.blockInputs - 1) / problem.blockInputs;
      const float* scales = (const float*)problem.scales;
      const bool isGiven = at < problem.inputs;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        packed[i].codes[half] = make_uint4(0, 0, 0, 0);
        if (at + half * 16 >= problem.inputs) continue;
        packed[i].codes[half] =
            *(const uint4*)(problem.weight + rows[i] * problem.inputs + at + half * 16);
      }
      const i64 block = rows[i] / problem.blockOutputs * perRow;
      packed[i].scale = isGiven ? scales[block + at / problem.blockInputs] : 0.0f;
#else
      const bool isGiven = at < problem.inputs;
      const i64 block = rows[i] * (problem.inputs / SPAN) + at / SPAN;
      packed[i].codes = make_uint4(0, 0, 0, 0);
      if (isGiven) packed[i].codes = *(const uint4*)(problem.weight + block * 16);
#if FORMAT == 2
      packed[i].scale = isGiven ? ((const unsigned char*)problem.scales)[block] : 0;
#else
      const i64 group = rows[i] * (problem.inputs / problem.blockInputs) + at / problem.blockInputs;
      // Codes of zeros less a zero point of zero.
      packed[i].scale = isGiven ? ((const u32*)problem.scales)[group] : 0;
#endif
#endif
    }
  }

  /** Writes what was asked for to swizzled lines of bf16. */
  __device__ void widenTo(unsigned char* target) const {
    const int piece = threadIdx.x % 2 * 4;
#pragma unroll
    for (int i = 0; i < SPANS; i++) {
      const int line = (threadIdx.x + i * THREADS) / 2;
#if FORMAT == 1
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const uint4 codes = packed[i].codes[half];
        const uint4 low = scaled(widenFp8(codes.x, codes.y), packed[i].scale);
        const uint4 high = scaled(widenFp8(codes.z, codes.w), packed[i].scale);
        *(uint4*)(target + swizzled(line, piece + half * 2)) = low;
        *(uint4*)(target + swizzled(line, piece + half * 2 + 1)) = high;
      }
#else
#if FORMAT == 2
      const u32 factor = fp4Factor(packed[i].scale);
#else
      const Int4Scale scale(packed[i].scale);
#endif
      const u32 codes[4] = {packed[i].codes.x, packed[i].codes.y, packed[i].codes.z,
                            packed[i].codes.w};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        u32 pairs[4];
#if FORMAT == 2
        widenFp4(codes[j], factor, pairs);
#else
        const uint4 wide = scale.widen(codes[j]);
        pairs[0] = wide.x, pairs[1] = wide.y, pairs[2] = wide.z, pairs[3] = wide.w;
#endif
        *(uint4*)(target + swizzled(line, piece + j)) =
            make_uint4(__byte_perm(pairs[0], pairs[1], 0x5410),
                       __byte_perm(pairs[2], pairs[3], 0x5410),
                       __byte_perm(pairs[0], pairs[1], 0x7632),
                       __byte_perm(pairs[2], pairs[3], 0x7632));
      }
#endif
    }
  }

#if FORMAT == 1
  __device__ static uint4 scaled(uint4 line, float scale) {
    float values[8];
    widen8(line, values);
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] *= scale;
    return narrow8(values);
  }
#endif
};
#else
/** The way of bf16 weights to shared memory, in the background. */
template <bool IS_GATE> struct RowFeed {
  const Problem& problem;
  const bf16* rows[ROW_PIECES];

  __device__ RowFeed(const Columns<IS_GATE>& columns) : problem(columns.problem) {
#pragma unroll
    for (int i = 0; i < ROW_PIECES; i++) {
      const int column = (threadIdx.x + i * THREADS) / 8;
      rows[i] = (const bf16*)problem.weight + columns.weightRow(column) * problem.inputs;
    }
  }

  __device__ void ask(Shared& shared, int step) const {
    const int piece = threadIdx.x % 8;
    const int at = step * STEP + piece * 8;
    const u32 target = sharedAddress(shared.rows[step % ROW_STAGES]);
    const bool isZero = at >= problem.inputs;
#pragma unroll
    for (int i = 0; i < ROW_PIECES; i++) {
      const int line = (threadIdx.x + i * THREADS) / 8;
      copyPiece(target + swizzled(line, piece), rows[i] + (isZero ? 0 : at), isZero);
    }
  }
};
#endif

/** The way of lines to shared memory, in the background. */
struct LineFeed {
  const Problem& problem;
  /** Null for a line past the last: zeros. */
  const bf16* sources[LINE_PIECES];

  /** `slots` assignments share a line of the input. */
  __device__ LineFeed(const Problem& problem, const Shared& shared, int slots)
      : problem(problem) {
#pragma unroll
    for (int i = 0; i < LINE_PIECES; i++) {
      const int line = (threadIdx.x + i * THREADS) / 8;
      const i64 source = shared.assignments[line] / slots;
      sources[i] = line < shared.tile.count ? problem.input + source * problem.inputs : nullptr;
    }
  }

  __device__ void ask(Shared& shared, int step) const {
    const int piece = threadIdx.x % 8;
    const int at = step * STEP + piece * 8;
    const u32 target = sharedAddress(shared.lines[step % LINE_STAGES]);
#pragma unroll
    for (int i = 0; i < LINE_PIECES; i++) {
      const int line = (threadIdx.x + i * THREADS) / 8;
      const bool isZero = at >= problem.inputs || sources[i] == nullptr;
      const bf16* source = isZero ? problem.input : sources[i] + at;
      copyPiece(target + swizzled(line, piece), source, isZero);
    }
  }
};

#if WGMMA
/** Begins the products of a step: 64 lines of a warpgroup with all rows. */
__device__ inline void beginStep(float (&sums)[SUMS], const Shared& shared, int step) {
  const u32 own = threadIdx.x / WARPGROUP * 64 * SWIZZLE_LINE;
  const u64 a = describe(sharedAddress(shared.lines[step % LINE_STAGES]) + own, 16, SWIZZLE_ATOM);
  const u64 b = describe(sharedAddress(shared.rows[step % ROW_STAGES]), 16, SWIZZLE_ATOM);
  pin(sums);
  beginProducts();
#pragma unroll
  for (int k = 0; k < STEP / 16; k++) {
    multiplyShared(sums, further(a, k * 32), further(b, k * 32), true);
  }
  commitProducts();
}
__device__ inline void endStep(float (&sums)[SUMS]) {
  awaitProducts<0>();
  pin(sums);
}
#else
__device__ inline void readMatrices(u32 (&words)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}
__device__ inline void multiply(float* sums, const u32 (&line)[4], u32 row0, u32 row1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(line[0]), "r"(line[1]), "r"(line[2]), "r"(line[3]), "r"(row0), "r"(row1));
}
/** The products of a step: 16 lines of a warp with all rows, whose sums lie as wgmma's do. */
__device__ inline void beginStep(float (&sums)[SUMS], const Shared& shared, int step) {
  const int lane = threadIdx.x % WARP_LANES;
  const int line = threadIdx.x / WARP_LANES * 16 + lane % 16;
  const int row = lane / 16 * 8 + lane % 8;
  const u32 lines = sharedAddress(shared.lines[step % LINE_STAGES]);
  const u32 rows = sharedAddress(shared.rows[step % ROW_STAGES]);
#pragma unroll
  for (int k = 0; k < STEP / 16; k++) {
    u32 a[4];
    readMatrices(a, lines + swizzled(line, k * 2 + lane / 16));
#pragma unroll
    for (int eight = 0; eight < ROWS / 8; eight += 2) {
      u32 b[4];
      readMatrices(b, rows + swizzled(eight * 8 + row, k * 2 + lane / 8 % 2));
      multiply(sums + eight * 4, a, b[0], b[1]);
      multiply(sums + eight * 4 + 4, a, b[2], b[3]);
    }
  }
}
__device__ inline void endStep(float (&)[SUMS]) {}
#endif

/** The sums of a tile over all inputs. */
template <bool IS_GATE>
__device__ inline void runSteps(float (&sums)[SUMS], Shared& shared, const LineFeed& lines,
                                RowFeed<IS_GATE>& rows) {
  const int steps = (lines.problem.inputs + STEP - 1) / STEP;
#if FORMAT != 0
  rows.load(0);
#endif
  // Two steps are on their way, each in a group of copies of its own, past the end of zeros.
#pragma unroll
  for (int step = 0; step < 2; step++) {
    lines.ask(shared, step);
#if FORMAT == 0
    rows.ask(shared, step);
#endif
    commitCopies();
  }
#if FORMAT != 0
  rows.widenTo(shared.rows[0]);
  rows.load(1);
#endif
  for (int step = 0; step < steps; step++) {
    awaitCopies<1>();
    fenceProducts();
    // What every thread brought is there, and the products of the step before are over.
    __syncthreads();
    beginStep(sums, shared, step);
    lines.ask(shared, step + 2);
#if FORMAT == 0
    rows.ask(shared, step + 2);
#else
    rows.widenTo(shared.rows[(step + 1) % ROW_STAGES]);
    rows.load(step + 2);
#endif
    commitCopies();
    endStep(sums);
  }
  awaitCopies<0>();
}

/** A lane's 16 units of one line under the gate. */
__device__ inline void writeGate(const Columns<true>& columns, const float (&sums)[SUMS], int half,
                                 int assignment) {
  const Problem& problem = columns.problem;
  const int lane = threadIdx.x % 4;
  const int first = columns.firstOf(lane);
  bf16* out = (bf16*)problem.out + (i64)assignment * problem.outputs + first;
#pragma unroll
  for (int from = 0; from < 16; from += 8) {
    float values[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const int at = (from + i) * 4 + half * 2, column = (from + i) * 8 + lane * 2;
      values[i] = problem.gated(sums[at] + columns.bias(column),
                                sums[at + 1] + columns.bias(column + 1));
    }
    if (problem.outputs % 8 == 0) {
      if (first + from < problem.outputs) *(uint4*)(out + from) = narrow8(values);
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        if (first + from + i < problem.outputs) out[from + i] = narrow(values[i]);
      }
    }
  }
}

/** A lane's 32 outputs of one line, times what the assignment weighs. */
__device__ inline void writeDown(const Columns<false>& columns, const float (&sums)[SUMS],
                                 int half, int assignment) {
  const Problem& problem = columns.problem;
  const int lane = threadIdx.x % 4;
  const int first = columns.firstOf(lane);
  const float weight = problem.weights[assignment];
  float* out = (float*)problem.out + (i64)assignment * problem.outputs + first;
#pragma unroll
  for (int from = 0; from < 32; from += 4) {
    float values[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int eight = (from + i) / 2, column = eight * 8 + lane * 2 + i % 2;
      values[i] = weight * (sums[eight * 4 + half * 2 + i % 2] + columns.bias(column));
    }
    if (problem.outputs % 4 == 0) {
      if (first + from >= problem.outputs) continue;
      *(float4*)(out + from) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (first + from + i < problem.outputs) out[from + i] = values[i];
      }
    }
  }
}

template <bool IS_GATE> __device__ void multiplyTile(const Problem& problem) {
  extern __shared__ __align__(SWIZZLE_ATOM) unsigned char memory[];
  Shared& shared = *(Shared*)memory;
  awaitEarlier();
  letNextStart();
  const int count = takeTile(problem, shared.tile, shared.assignments, LINE_TILE);
  if (count == 0) return;
  const Columns<IS_GATE> columns(problem, shared.tile.expert);
  const LineFeed lines(problem, shared, IS_GATE ? problem.topK : 1);
  RowFeed<IS_GATE> rows(columns);
  float sums[SUMS] = {};
  runSteps(sums, shared, lines, rows);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int line = threadIdx.x / WARP_LANES * 16 + threadIdx.x % WARP_LANES / 4 + half * 8;
    if (line >= count) continue;
    if constexpr (IS_GATE) writeGate(columns, sums, half, shared.assignments[line]);
    else writeDown(columns, sums, half, shared.assignments[line]);
  }
}

/*
 * Grid: (tiles of rows: 64 units under a gate, 128 outputs otherwise; tiles of lines, as many as
 * any routing fills). Threads: THREADS. Dynamic shared memory: sizeof(Shared). Inputs are a
 * multiple of 8 in bf16, 16 in FP8 and 32 in MXFP4 and int4; blockInputs a multiple of STEP or not
 * below inputs, and of int4 a multiple of SPAN that divides them. What the parameters are see
 * experts.cu's kernels.
 */

extern "C" __global__ void __launch_bounds__(THREADS, 256 / LINE_TILE)
    expert_gate_tile(const __grid_constant__ Problem problem) {
  multiplyTile<true>(problem);
}

extern "C" __global__ void __launch_bounds__(THREADS, 256 / LINE_TILE)
    expert_down_tile(const __grid_constant__ Problem problem) {
  multiplyTile<false>(problem);
}
