#include "common.cuh"
#if FORMAT == 1
#include "fp8.cuh"
#elif FORMAT == 2
#include "fp4.cuh"
#endif

// Products of lines with the experts that they chose. A block has ROWS rows of one expert's weight
// and goes through the lines of that expert, LINE_TILE at a time; what counts for few lines is that
// the weights of the experts that were hit, and of no others, come from memory without a pause. So
// many blocks share a multiprocessor, and each warp has some tiles of its 16 rows on their way.
//
// A weight row is a row of A of mma.m16n8k16, a line a column of B. The order of inputs within a
// product is free as long as both operands agree: each lane reads 16 bytes of its row at once, and
// the same inputs of its line from shared memory.
//
// Fixed when compiled: FORMAT (0: bf16, 1: FP8 e4m3 with scales, 2: MXFP4), LINE_TILE (8, 16 or
// 32), WARPS of a block, TILES_AHEAD (tiles on their way), IS_FEW (1: at most 32 assignments, whose
// groups every warp works out for itself).

#define THREADS (WARPS * WARP_LANES)
#define ROWS (WARPS * 16)
#define COLUMN_TILES (LINE_TILE / 8)
/** Inputs of which a lane reads 16 bytes; four lanes share a row. */
#define LANE_INPUTS (FORMAT == 0 ? 8 : FORMAT == 1 ? 16 : 32)
#define TILE_INPUTS (4 * LANE_INPUTS)
/** Pieces of 8 inputs of a line that belong to a lane's 16 bytes. */
#define LANE_PIECES (LANE_INPUTS / 8)
/** Bytes between lines in shared memory, beyond a multiple of 128: lanes then meet in no bank. */
#define LINE_SKEW (FORMAT == 0 ? 64 : FORMAT == 1 ? 16 : 32)

/** What a launch works on: see the kernels at the end. */
struct Problem {
  const bf16* input;
  const unsigned char* weight;
  const void* scales;
  const bf16* bias;
  const float* weights;
  const int* chosen;
  const int* starts;
  const int* order;
  void* out;
  int assignments;
  int topK;
  int experts;
  int inputs;
  /** Of an expert: inner ones under a gate. */
  int outputs;
  int blockInputs;
  int blockOutputs;
  /** Inputs of the lines in shared memory at once: whole tiles, TILES_AHEAD or a multiple. */
  int chunkInputs;
  int isInterleaved;
  /** Whether the kernel before is the gate of the same lines, so that their groups are there. */
  int isBehindGate;
  float limit;
  float alpha;
  float shift;
};

/** An expert and its assignments. */
struct Group {
  int expert;
  int size;
#if IS_FEW
  u32 members;
#else
  const int* order;
#endif

  /** Size 0: there is nothing to do. */
  __device__ explicit Group(const Problem& problem) {
#if IS_FEW
    const int lane = threadIdx.x % WARP_LANES;
    const int own = lane < problem.assignments ? problem.chosen[lane] : -1;
    expert = __shfl_sync(FULL_WARP, own, blockIdx.y);
    members = __ballot_sync(FULL_WARP, own == expert);
    // The first of its members has the group.
    const bool isFirst = __ffs(members) - 1 == blockIdx.y;
    size = (u32)expert < (u32)problem.experts && isFirst ? __popc(members) : 0;
#else
    expert = blockIdx.y;
    const int first = problem.starts[expert];
    size = problem.starts[expert + 1] - first;
    order = problem.order + first;
#endif
  }

  __device__ int member(int index) const {
#if IS_FEW
    return __fns(members, 0, index + 1);
#else
    return order[index];
#endif
  }
};

/** Where lines are in shared memory. */
struct Lines {
  unsigned char* start;
  int pitch;

  __device__ Lines(unsigned char* start, int chunkInputs) : start(start) {
    pitch = chunkInputs * 2 + LINE_SKEW;
  }
  __device__ unsigned char* piece(int line, int piece) const {
    // Lanes of MXFP4 are four pieces apart: every other pair of lanes is moved by one.
    const int place = FORMAT == 2 ? piece ^ (piece >> 3 & 1) : piece;
    return start + line * pitch + place * 16;
  }
};

/** A lane's bytes of its two rows in a tile; zeros past the end of a row. */
struct Fragment {
  uint4 upper;
  uint4 lower;
};

__device__ inline uint4 loadOnce(const unsigned char* source) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(source));
  return value;
}

/** The rows of a lane: where they are, and their scales. */
struct Rows {
  const unsigned char* upper;
  const unsigned char* lower;
  int rowBytes;
#if FORMAT == 1
  const float* scales[2];
#elif FORMAT == 2
  const unsigned char* scales[2];
  int blocks;
  /** Scales of TILES_AHEAD tiles: lane c of four has those of tile c. */
  u32 words[2];
#endif

  __device__ Rows(const Problem& problem, i64 upperRow, i64 lowerRow) {
    rowBytes = FORMAT == 0 ? problem.inputs * 2 : FORMAT == 1 ? problem.inputs : problem.inputs / 2;
    const int skipped = threadIdx.x % 4 * 16;
    upper = problem.weight + upperRow * rowBytes + skipped;
    lower = problem.weight + lowerRow * rowBytes + skipped;
    rowBytes -= skipped;
#if FORMAT == 1
    const int perRow = (problem.inputs + problem.blockInputs - 1) / problem.blockInputs;
    scales[0] = (const float*)problem.scales + upperRow / problem.blockOutputs * perRow;
    scales[1] = (const float*)problem.scales + lowerRow / problem.blockOutputs * perRow;
#elif FORMAT == 2
    blocks = problem.inputs / 32;
    scales[0] = (const unsigned char*)problem.scales + upperRow * blocks;
    scales[1] = (const unsigned char*)problem.scales + lowerRow * blocks;
#endif
  }

  __device__ Fragment load(int tile) const {
    const int at = tile * 64;
    const uint4 zero = make_uint4(0, 0, 0, 0);
    Fragment fragment = {zero, zero};
    if (at < rowBytes) fragment = {loadOnce(upper + at), loadOnce(lower + at)};
    return fragment;
  }

#if FORMAT == 2
  /** Asks for the scales of four tiles from `tile` on. */
  __device__ void loadScales(int tile) {
    const int first = (tile + threadIdx.x % 4) * 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const unsigned char* source = scales[half] + first;
      words[half] = 0;
      if (blocks % 2 == 0) {
        // Rows of an even number of blocks start at even addresses.
        if (first < blocks) words[half] = *(const unsigned short*)source;
        if (first + 2 < blocks) words[half] |= (u32) * (const unsigned short*)(source + 2) << 16;
      } else {
        for (int i = 0; i < 4; i++) {
          if (first + i < blocks) words[half] |= (u32)source[i] << 8 * i;
        }
      }
    }
  }
  /** Factors of the lane's block in a tile, for its two rows. */
  __device__ static u32 factor(u32 word, int tile) {
    const int lane = threadIdx.x % WARP_LANES;
    const u32 four = __shfl_sync(FULL_WARP, word, (lane & ~3) | (tile & 3));
    return fp4Factor(four >> lane % 4 * 8 & 0xff);
  }
#endif
};

__device__ inline void multiply(float (&sums)[4], u32 upper0, u32 lower0, u32 upper1, u32 lower1,
                                u32 line0, u32 line1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(upper0), "r"(lower0), "r"(upper1), "r"(lower1), "r"(line0), "r"(line1));
}

/** 8 inputs of two rows, in the order of the lines' pieces. */
__device__ inline void multiplyPiece(float (&sums)[COLUMN_TILES][4], uint4 upper, uint4 lower,
                                     const Lines& lines, int piece) {
  const int own = threadIdx.x % WARP_LANES / 4;
#pragma unroll
  for (int n = 0; n < COLUMN_TILES; n++) {
    const uint4 x = *(const uint4*)lines.piece(n * 8 + own, piece);
    multiply(sums[n], upper.x, lower.x, upper.y, lower.y, x.x, x.y);
    multiply(sums[n], upper.z, lower.z, upper.w, lower.w, x.z, x.w);
  }
}

/** Adds a tile's products; `local` is the tile within the chunk that is in shared memory. */
__device__ inline void multiplyTile(float (&sums)[COLUMN_TILES][4], const Fragment& rows,
                                    const Lines& lines, int local, const float (&scales)[2],
                                    const u32 (&factors)[2]) {
  const int piece = local * (TILE_INPUTS / 8) + threadIdx.x % 4 * LANE_PIECES;
#if FORMAT == 0
  multiplyPiece(sums, rows.upper, rows.lower, lines, piece);
#elif FORMAT == 1
  float parts[COLUMN_TILES][4] = {};
  multiplyPiece(parts, widenFp8(rows.upper.x, rows.upper.y), widenFp8(rows.lower.x, rows.lower.y),
                lines, piece);
  multiplyPiece(parts, widenFp8(rows.upper.z, rows.upper.w), widenFp8(rows.lower.z, rows.lower.w),
                lines, piece + 1);
#pragma unroll
  for (int n = 0; n < COLUMN_TILES; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) sums[n][i] += scales[i / 2] * parts[n][i];
  }
#else
  const u32 uppers[4] = {rows.upper.x, rows.upper.y, rows.upper.z, rows.upper.w};
  const u32 lowers[4] = {rows.lower.x, rows.lower.y, rows.lower.z, rows.lower.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    u32 upper[4], lower[4];
    widenFp4(uppers[i], factors[0], upper);
    widenFp4(lowers[i], factors[1], lower);
    multiplyPiece(sums, make_uint4(upper[0], upper[1], upper[2], upper[3]),
                  make_uint4(lower[0], lower[1], lower[2], lower[3]), lines, piece + i);
  }
#endif
}

/** Brings inputs [from, from + chunk) of a tile's lines to shared memory; past their end zeros. */
__device__ inline void fillLines(const Problem& problem, const Lines& lines, const int* sources,
                                 int count, int from) {
  const int pieces = problem.chunkInputs / 8;
  const int given = min(pieces, (problem.inputs - from) / 8);
  for (int line = 0; line < count; line++) {
    const bf16* source = problem.input + (i64)sources[line] * problem.inputs + from;
#pragma unroll 4
    for (int piece = threadIdx.x; piece < pieces; piece += THREADS) {
      uint4 values = make_uint4(0, 0, 0, 0);
      if (piece < given) values = ((const uint4*)source)[piece];
#if FORMAT == 2
      values = orderedAsFp4(values);
#endif
      *(uint4*)lines.piece(line, piece) = values;
    }
  }
}

/** The sums of a lane's two rows with the lines of a tile. */
__device__ inline void multiplyLines(float (&sums)[COLUMN_TILES][4], const Problem& problem,
                                     Rows& rows, const Lines& lines, const int* sources, int count,
                                     Fragment (&ahead)[TILES_AHEAD]) {
  const int tiles = (problem.inputs + TILE_INPUTS - 1) / TILE_INPUTS;
  const int chunkTiles = problem.chunkInputs / TILE_INPUTS;
  for (int first = 0; first < tiles; first += chunkTiles) {
    __syncthreads();
    fillLines(problem, lines, sources, count, first * TILE_INPUTS);
    __syncthreads();
    const int end = min(first + chunkTiles, tiles);
    for (int tile = first; tile < end; tile += TILES_AHEAD) {
#if FORMAT == 2
      u32 words[2] = {rows.words[0], rows.words[1]};
      if (tile % 4 + TILES_AHEAD >= 4) rows.loadScales(tile + TILES_AHEAD);
#endif
#pragma unroll
      for (int d = 0; d < TILES_AHEAD; d++) {
        const Fragment now = ahead[d];
        ahead[d] = rows.load(tile + d + TILES_AHEAD);
        if (tile + d >= end) continue;
        float scales[2] = {};
        u32 factors[2] = {};
#if FORMAT == 1
        const int block = min((tile + d) * TILE_INPUTS, problem.inputs - 1) / problem.blockInputs;
        scales[0] = rows.scales[0][block];
        scales[1] = rows.scales[1][block];
#elif FORMAT == 2
        factors[0] = Rows::factor(words[0], tile + d);
        factors[1] = Rows::factor(words[1], tile + d);
#endif
        multiplyTile(sums, now, lines, tile + d - first, scales, factors);
      }
    }
  }
}

__device__ inline float gated(const Problem& problem, float gate, float up) {
  const float held = fminf(gate, problem.limit);
  const float clamped = fmaxf(-problem.limit, fminf(up, problem.limit));
  return held / (1.0f + __expf(-problem.alpha * held)) * (clamped + problem.shift);
}

template <bool IS_GATE> __device__ void multiplyExpert(const Problem& problem) {
  extern __shared__ __align__(16) unsigned char dynamic[];
  __shared__ int assignments[LINE_TILE];
  __shared__ int sources[LINE_TILE];
  // The gate lets this kernel start once it has seen the groups itself: weights can be asked for
  // before what it writes is there.
  if (IS_GATE || !problem.isBehindGate) awaitEarlier();
  letNextStart();
  const Group group(problem);
  if (group.size == 0) {
    awaitEarlier();
    return;
  }

  // Rows g and g + 8 of a warp's 16 are a lane's; under a gate they belong together.
  const int warp = threadIdx.x / WARP_LANES;
  const int own = threadIdx.x % WARP_LANES / 4;
  const int first = blockIdx.x * (IS_GATE ? ROWS / 2 : ROWS);
  const int output = first + warp * (IS_GATE ? 8 : 16) + own;
  const int last = problem.outputs - 1;
  int upperRow = min(output, last), lowerRow = min(output + 8, last);
  i64 expertRows = problem.outputs;
  if (IS_GATE) {
    const int unit = min(output, last);
    upperRow = problem.isInterleaved ? 2 * unit : unit;
    lowerRow = problem.isInterleaved ? 2 * unit + 1 : problem.outputs + unit;
    expertRows *= 2;
  }
  const i64 base = group.expert * expertRows;
  Rows rows(problem, base + upperRow, base + lowerRow);
  float bias[2] = {};
  const Lines lines(dynamic, problem.chunkInputs);
  Fragment ahead[TILES_AHEAD];
  for (int from = 0; from < group.size; from += LINE_TILE) {
#if FORMAT == 2
    rows.loadScales(0);
#endif
#pragma unroll
    for (int d = 0; d < TILES_AHEAD; d++) ahead[d] = rows.load(d);
    if (from == 0) {
      if (problem.bias != nullptr) {
        bias[0] = widen(problem.bias[base + upperRow]);
        bias[1] = widen(problem.bias[base + lowerRow]);
      }
      awaitEarlier();
    }
    const int count = min(LINE_TILE, group.size - from);
    __syncthreads();
    if (threadIdx.x < count) {
      const int assignment = group.member(from + threadIdx.x);
      assignments[threadIdx.x] = assignment;
      sources[threadIdx.x] = IS_GATE ? assignment / problem.topK : assignment;
    }
    float sums[COLUMN_TILES][4] = {};
    multiplyLines(sums, problem, rows, lines, sources, count, ahead);
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int line = n * 8 + threadIdx.x % 4 * 2 + i;
        if (line >= count) continue;
        const int assignment = assignments[line];
        const float upper = sums[n][i] + bias[0], lower = sums[n][i + 2] + bias[1];
        const i64 at = (i64)assignment * problem.outputs + output;
        if (IS_GATE) {
          if (output <= last) ((bf16*)problem.out)[at] = narrow(gated(problem, upper, lower));
        } else {
          const float weight = problem.weights[assignment];
          if (output <= last) ((float*)problem.out)[at] = weight * upper;
          if (output + 8 <= last) ((float*)problem.out)[at + 8] = weight * lower;
        }
      }
    }
  }
}

/*
 * Grid: (tiles of ROWS rows, groups): groups are assignments where IS_FEW, else experts. Inputs are
 * a multiple of LANE_INPUTS; blockInputs a multiple of TILE_INPUTS or not below inputs.
 */

/** out[assignments, outputs] in bf16; the weight has 2 * outputs rows for each expert. */
extern "C" __global__ void __launch_bounds__(THREADS)
    expert_gate(const __grid_constant__ Problem problem) {
  multiplyExpert<true>(problem);
}

/** out[assignments, outputs] in f32, times each assignment's weight. */
extern "C" __global__ void __launch_bounds__(THREADS)
    expert_down(const __grid_constant__ Problem problem) {
  multiplyExpert<false>(problem);
}
