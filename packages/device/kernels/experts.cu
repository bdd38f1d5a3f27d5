#include "experts.cuh"
#include "hopper.cuh"
#if FORMAT == 1
#include "fp8.cuh"
#elif FORMAT == 2
#include "fp4.cuh"
#elif FORMAT == 3
#include "int4.cuh"
#endif

// Products of lines with the experts that they chose. A block has ROWS rows of one expert's weight
// and goes through the lines of that expert, LINE_TILE at a time; what counts for few lines is that
// the weights of the experts that were hit, and of no others, come from memory without a pause. So
// many blocks share a multiprocessor, and each warp has TILES_AHEAD tiles of its 16 rows on their
// way: in shared memory, since registers that wait for one load also wait for those after it. What
// a lane asks for, it alone reads.
//
// A weight row is a row of A of mma.m16n8k16, a line a column of B. The order of inputs within a
// product is free as long as both operands agree: each lane reads 16 bytes of its row at once, and
// the same inputs of its line.
//
// Fixed when compiled: FORMAT (0: bf16, 1: FP8 e4m3 with scales, 2: MXFP4, 3: int4), LINE_TILE
// (8, 16 or 32), WARPS of a block, TILES_AHEAD (4 or 8), IS_FEW (1: at most 32 assignments, whose
// groups every warp works out for itself).

#define THREADS (WARPS * WARP_LANES)
/** Blocks that share a multiprocessor, as far as registers go: shared memory has room for these. */
#define MIN_BLOCKS ((TILES_AHEAD == 8 ? 12 : 16) / WARPS)
#define WARP_ROWS 16
#define ROWS (WARPS * WARP_ROWS)
#define COLUMN_TILES (LINE_TILE / 8)
/** Sums that take turns, because a product waits for the one before. */
#define SETS (LINE_TILE == 8 ? 2 : 1)
/** Inputs of which a lane reads 16 bytes; four lanes share a row. */
#define LANE_INPUTS (FORMAT == 0 ? 8 : FORMAT == 1 ? 16 : 32)
#define TILE_INPUTS (4 * LANE_INPUTS)
/** Pieces of 8 inputs of a line that belong to a lane's 16 bytes. */
#define LANE_PIECES (LANE_INPUTS / 8)
/** Bytes between lines in shared memory, beyond a multiple of 128: lanes then meet in no bank. */
#define LINE_SKEW (FORMAT == 0 ? 64 : FORMAT == 1 ? 16 : 32)
/** Tiles whose scales of MXFP4 are asked for together: lane c of four has those of tile c. */
#define SCALE_TILES 4
#define SCALE_SLOTS (TILES_AHEAD / SCALE_TILES + 1)
/** Of the ring: 16 bytes of two rows for each lane and tile. */
#define RING_BYTES (TILES_AHEAD * 2 * THREADS * 16)

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

  /** Members [from, from + count), and the lines they are of, where `slots` share one. */
  __device__ void list(int from, int count, int slots, int* assignments, int* sources) const {
#if IS_FEW
    const u32 before = members & ((1u << threadIdx.x % WARP_LANES) - 1);
    const int at = __popc(before) - from;
    const int assignment = threadIdx.x;
    const bool isGiven = threadIdx.x < WARP_LANES && (members >> threadIdx.x % WARP_LANES & 1) != 0;
    if (!isGiven || (u32)at >= (u32)count) return;
#else
    const int at = threadIdx.x;
    if (at >= count) return;
    const int assignment = order[from + at];
#endif
    assignments[at] = assignment;
    sources[at] = assignment / slots;
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
    // Lanes of packed codes are four pieces apart: every other pair of lanes is moved by one.
    const int place = FORMAT >= 2 ? piece ^ (piece >> 3 & 1) : piece;
    return start + line * pitch + place * 16;
  }
};

/** The rows of a warp: those of its tile of the outputs, of gate and up under a gate. */
template <bool IS_GATE> struct WarpRows {
  const Problem& problem;
  int expert;
  int first;
  int last;

  __device__ WarpRows(const Problem& problem, int expert) : problem(problem), expert(expert) {
    last = problem.outputs - 1;
    first = blockIdx.x * (IS_GATE ? ROWS / 2 : ROWS);
    first += threadIdx.x / WARP_LANES * (IS_GATE ? WARP_ROWS / 2 : WARP_ROWS);
  }
  /** The output that row 0 to 15 is of: rows g and g + 8 are a lane's, and one gate's. */
  __device__ int output(int row) const { return first + (IS_GATE ? row % 8 : row); }
  /** The weight's row. Past the end the last one will do: none is written. */
  __device__ i64 weightRow(int row) const {
    const int unit = min(output(row), last);
    if (IS_GATE) return problem.gateRow(expert, unit, row / 8);
    return (i64)expert * problem.outputs + unit;
  }
};

/** A lane's bytes of its two rows in a tile; zeros past the end of a row. */
struct Fragment {
  uint4 upper;
  uint4 lower;
};

/** A lane's part of its warp's rows on its way: tiles, and the scales of MXFP4. */
struct Feed {
  unsigned char* ring;
  const unsigned char* upper;
  const unsigned char* lower;
  /** Of a row, from where the lane's first bytes are. */
  int bytesLeft;
#if FORMAT == 2
  unsigned char* scaleRing;
  const unsigned char* scales[2];
  const unsigned char* lastWord;
  int blocks;
#endif

  template <bool IS_GATE>
  __device__ Feed(const Problem& problem, const WarpRows<IS_GATE>& rows, unsigned char* memory) {
    const int own = threadIdx.x % WARP_LANES / 4;
    const int rowBytes =
        FORMAT == 0 ? problem.inputs * 2 : FORMAT == 1 ? problem.inputs : problem.inputs / 2;
    const int skipped = threadIdx.x % 4 * 16;
    ring = memory + threadIdx.x * 16;
    upper = problem.weight + rows.weightRow(own) * rowBytes + skipped;
    lower = problem.weight + rows.weightRow(own + 8) * rowBytes + skipped;
    bytesLeft = rowBytes - skipped;
#if FORMAT == 2
    scaleRing = memory + RING_BYTES + threadIdx.x * 16;
    blocks = problem.inputs / 32;
    const unsigned char* all = (const unsigned char*)problem.scales;
    scales[0] = all + rows.weightRow(own) * blocks;
    scales[1] = all + rows.weightRow(own + 8) * blocks;
    const i64 bytes = (i64)problem.experts * problem.outputs * (IS_GATE ? 2 : 1) * blocks;
    lastWord = all + (bytes - 1 & ~(i64)3);
#endif
  }

  /** Asks for a tile, in a group of copies of its own; past the end for nothing. */
  __device__ void ask(int tile) const {
    const int at = tile * 64;
    const bool isZero = at >= bytesLeft;
    const u32 target = sharedAddress(ring) + tile % TILES_AHEAD * 2 * THREADS * 16;
    copyPiece(target, upper + (isZero ? 0 : at), isZero);
    copyPiece(target + THREADS * 16, lower + (isZero ? 0 : at), isZero);
#if FORMAT == 2
    if (tile % SCALE_TILES == 0) askScales(tile);
#endif
    commitCopies();
  }

  __device__ Fragment read(int tile) const {
    const unsigned char* from = ring + tile % TILES_AHEAD * 2 * THREADS * 16;
    return {*(const uint4*)from, *(const uint4*)(from + THREADS * 16)};
  }

#if FORMAT == 2
  /** Whole words, between which the four scales of a tile may lie. */
  __device__ void askScales(int tile) const {
    const int first = (tile + threadIdx.x % 4) * 4;
    const u32 target = sharedAddress(scaleRing) + tile / SCALE_TILES % SCALE_SLOTS * THREADS * 16;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const bool isZero = first >= blocks;
      const u64 source = (u64)(scales[half] + (isZero ? 0 : first)) & ~3ull;
      const u64 next = min(source + 4, (u64)lastWord);
      copyWord(target + half * 8, (const void*)source, isZero);
      copyWord(target + half * 8 + 4, (const void*)next, isZero);
    }
  }

  /** Of the tile that is the lane's among four from `tile` on: its four scales, of both rows. */
  __device__ void readScales(int tile, u32 (&words)[2]) const {
    const uint4 all =
        *(const uint4*)(scaleRing + tile / SCALE_TILES % SCALE_SLOTS * THREADS * 16);
    words[0] = __funnelshift_r(all.x, all.y, (u32)(u64)scales[0] % 4 * 8);
    words[1] = __funnelshift_r(all.z, all.w, (u32)(u64)scales[1] % 4 * 8);
  }

  /**
   * What the lane's block of a row is multiplied by; beyond the row, where codes are zeros, 2^-1.
   */
  __device__ u32 factor(u32 word, int tile) const {
    const int lane = threadIdx.x % WARP_LANES;
    const u32 four = __shfl_sync(FULL_WARP, word, (lane & ~3) | tile % SCALE_TILES);
    const bool isGiven = tile * 4 + lane % 4 < blocks;
    return fp4Factor(isGiven ? four >> lane % 4 * 8 & 0xff : 0);
  }
#endif
};

#if FORMAT == 1 || FORMAT == 3
#if FORMAT == 1
typedef float Scale;
#else
/** With the zero point (int4.cuh). */
typedef u32 Scale;
#endif

/** The scales of a warp's rows, in shared memory. */
struct Scales {
  Scale* start;
  int perRow;
  int blockInputs;
  int lastInput;

  __device__ Scales(const Problem& problem, unsigned char* memory) {
    blockInputs = problem.blockInputs;
    lastInput = problem.inputs - 1;
    perRow = lastInput / blockInputs + 1;
    start = (Scale*)memory + threadIdx.x / WARP_LANES * WARP_ROWS * perRow;
  }
  template <bool IS_GATE>
  __device__ void load(const Problem& problem, const WarpRows<IS_GATE>& rows) const {
#pragma unroll 8
    for (int row = 0; row < WARP_ROWS; row++) {
      const Scale* source = (const Scale*)problem.scales;
      source += rows.weightRow(row) / problem.blockOutputs * perRow;
      for (int i = threadIdx.x % WARP_LANES; i < perRow; i += WARP_LANES) {
        start[row * perRow + i] = source[i];
      }
    }
    __syncwarp();
  }
  /** Of one of the lane's rows, for its inputs of a tile. */
  __device__ Scale of(int half, int tile) const {
    const int own = threadIdx.x % WARP_LANES / 4 + half * 8;
    // Those of FP8 are of whole tiles.
    const int skipped = FORMAT == 1 ? 0 : threadIdx.x % 4 * LANE_INPUTS;
    const int first = min(tile * TILE_INPUTS + skipped, lastInput);
    return start[own * perRow + first / blockInputs];
  }
};
#endif

__device__ inline void multiply(float (&sums)[4], u32 upper0, u32 lower0, u32 upper1, u32 lower1,
                                u32 line0, u32 line1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(upper0), "r"(lower0), "r"(upper1), "r"(lower1), "r"(line0), "r"(line1));
}

/** 8 inputs of two rows, in the order of the lines' pieces. Lines past the last repeat it. */
__device__ inline void multiplyPiece(float (&sums)[COLUMN_TILES][4], uint4 upper, uint4 lower,
                                     const Lines& lines, int lastLine, int piece) {
  const int own = threadIdx.x % WARP_LANES / 4;
#pragma unroll
  for (int n = 0; n < COLUMN_TILES; n++) {
    const uint4 x = *(const uint4*)lines.piece(min(n * 8 + own, lastLine), piece);
    multiply(sums[n], upper.x, lower.x, upper.y, lower.y, x.x, x.y);
    multiply(sums[n], upper.z, lower.z, upper.w, lower.w, x.z, x.w);
  }
}

/** Brings inputs [from, from + chunk) of a tile's lines to shared memory; past their end zeros. */
__device__ inline void fillLines(const Problem& problem, const Lines& lines, const int* sources,
                                 int count, int from) {
  // As many lines at once as there are warps, and otherwise several warps for each.
  const int parts = max(WARPS / count, 1);
  const int pieces = problem.chunkInputs / 8;
  const int given = min(pieces, (problem.inputs - from) / 8);
  const int warp = threadIdx.x / WARP_LANES;
  const int first = warp % parts * WARP_LANES + threadIdx.x % WARP_LANES;
  for (int line = warp / parts; line < count; line += WARPS / parts) {
    const bf16* source = problem.input + (i64)sources[line] * problem.inputs + from;
#pragma unroll 8
    for (int piece = first; piece < pieces; piece += parts * WARP_LANES) {
      uint4 values = make_uint4(0, 0, 0, 0);
      if (piece < given) values = ((const uint4*)source)[piece];
#if FORMAT == 2
      values = orderedAsFp4(values);
#elif FORMAT == 3
      values = orderedAsInt4(values);
#endif
      *(uint4*)lines.piece(line, piece) = values;
    }
  }
}

typedef float Sums[SETS][COLUMN_TILES][4];

/** A warp's way through its rows. */
struct Walk {
  const Problem& problem;
  const Feed& feed;
  const Lines& lines;
#if FORMAT == 1 || FORMAT == 3
  const Scales& scales;
#endif

  /**
   * Adds a tile's products; `local` is the tile within the chunk that is in shared memory, and
   * `set` the sums whose turn it is, where a tile has one.
   */
  __device__ void multiplyTile(Sums& sums, int set, int tile, int local, int lastLine,
                               const u32 (&words)[2]) const {
    const Fragment rows = feed.read(tile);
    const int piece = local * (TILE_INPUTS / 8) + threadIdx.x % 4 * LANE_PIECES;
#if FORMAT == 0
    multiplyPiece(sums[set], rows.upper, rows.lower, lines, lastLine, piece);
#elif FORMAT == 1
    float parts[SETS][COLUMN_TILES][4] = {};
    multiplyPiece(parts[0], widenFp8(rows.upper.x, rows.upper.y),
                  widenFp8(rows.lower.x, rows.lower.y), lines, lastLine, piece);
    multiplyPiece(parts[SETS - 1], widenFp8(rows.upper.z, rows.upper.w),
                  widenFp8(rows.lower.z, rows.lower.w), lines, lastLine, piece + 1);
    const float factors[2] = {scales.of(0, tile), scales.of(1, tile)};
#pragma unroll
    for (int each = 0; each < SETS; each++) {
#pragma unroll
      for (int n = 0; n < COLUMN_TILES; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) sums[each][n][i] += factors[i / 2] * parts[each][n][i];
      }
    }
#elif FORMAT == 3
    const Int4Scale upperScale(scales.of(0, tile)), lowerScale(scales.of(1, tile));
    const u32 uppers[4] = {rows.upper.x, rows.upper.y, rows.upper.z, rows.upper.w};
    const u32 lowers[4] = {rows.lower.x, rows.lower.y, rows.lower.z, rows.lower.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      multiplyPiece(sums[i % SETS], upperScale.widen(uppers[i]), lowerScale.widen(lowers[i]), lines,
                    lastLine, piece + i);
    }
#else
    const u32 factors[2] = {feed.factor(words[0], tile), feed.factor(words[1], tile)};
    const u32 uppers[4] = {rows.upper.x, rows.upper.y, rows.upper.z, rows.upper.w};
    const u32 lowers[4] = {rows.lower.x, rows.lower.y, rows.lower.z, rows.lower.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      u32 upper[4], lower[4];
      widenFp4(uppers[i], factors[0], upper);
      widenFp4(lowers[i], factors[1], lower);
      multiplyPiece(sums[i % SETS], make_uint4(upper[0], upper[1], upper[2], upper[3]),
                    make_uint4(lower[0], lower[1], lower[2], lower[3]), lines, lastLine, piece + i);
    }
#endif
  }

  /**
   * The sums of a lane's two rows with the lines of a tile; the first TILES_AHEAD tiles are asked
   * for.
   */
  __device__ void run(Sums& sums, const int* sources, int count) const {
    const int tiles = (problem.inputs + TILE_INPUTS - 1) / TILE_INPUTS;
    const int chunkTiles = problem.chunkInputs / TILE_INPUTS;
    for (int first = 0; first < tiles; first += chunkTiles) {
      __syncthreads();
      fillLines(problem, lines, sources, count, first * TILE_INPUTS);
      __syncthreads();
      const int end = min(first + chunkTiles, tiles);
      for (int four = first; four < end; four += SCALE_TILES) {
        u32 words[2] = {};
#pragma unroll
        for (int d = 0; d < SCALE_TILES; d++) {
          const int tile = four + d;
          if (tile >= end) continue;
          awaitCopies<TILES_AHEAD - 1>();
#if FORMAT == 2
          if (d == 0) feed.readScales(tile, words);
#endif
          multiplyTile(sums, d % SETS, tile, tile - first, count - 1, words);
          // What was read has been used: its place is free.
          feed.ask(tile + TILES_AHEAD);
        }
      }
    }
  }
};

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
  const WarpRows<IS_GATE> rows(problem, group.expert);
  const Feed feed(problem, rows, dynamic);
  const int own = threadIdx.x % WARP_LANES / 4;
  float bias[2] = {};
#if FORMAT == 1 || FORMAT == 3
  const Scales scales(problem, dynamic + RING_BYTES);
  const Lines lines(dynamic + RING_BYTES + ROWS * scales.perRow * 4, problem.chunkInputs);
  const Walk walk = {problem, feed, lines, scales};
#else
  const int scaleBytes = FORMAT == 2 ? SCALE_SLOTS * THREADS * 16 : 0;
  const Lines lines(dynamic + RING_BYTES + scaleBytes, problem.chunkInputs);
  const Walk walk = {problem, feed, lines};
#endif
  for (int from = 0; from < group.size; from += LINE_TILE) {
#pragma unroll
    for (int tile = 0; tile < TILES_AHEAD; tile++) feed.ask(tile);
    if (from == 0) {
#if FORMAT == 1 || FORMAT == 3
      scales.load(problem, rows);
#endif
      if (problem.bias != nullptr) {
        bias[0] = widen(problem.bias[rows.weightRow(own)]);
        bias[1] = widen(problem.bias[rows.weightRow(own + 8)]);
      }
      awaitEarlier();
    }
    const int count = min(LINE_TILE, group.size - from);
    __syncthreads();
    group.list(from, count, IS_GATE ? problem.topK : 1, assignments, sources);
    Sums sums = {};
    walk.run(sums, sources, count);
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; n++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int line = n * 8 + threadIdx.x % 4 * 2 + i;
        if (line >= count) continue;
        float upper = bias[0], lower = bias[1];
#pragma unroll
        for (int set = 0; set < SETS; set++) {
          upper += sums[set][n][i];
          lower += sums[set][n][i + 2];
        }
        const int assignment = assignments[line];
        const int output = rows.output(own);
        const i64 at = (i64)assignment * problem.outputs + output;
        if (IS_GATE) {
          if (output <= rows.last) ((bf16*)problem.out)[at] = narrow(problem.gated(upper, lower));
        } else {
          const float weight = problem.weights[assignment];
          if (output <= rows.last) ((float*)problem.out)[at] = weight * upper;
          if (output + 8 <= rows.last) ((float*)problem.out)[at + 8] = weight * lower;
        }
      }
    }
  }
}

/*
 * Grid: (tiles of ROWS rows, groups): groups are assignments where IS_FEW, else experts. Inputs are
 * a multiple of LANE_INPUTS; blockInputs a multiple of TILE_INPUTS or not below inputs, and of int4
 * a multiple of LANE_INPUTS that divides them.
 */

/** out[assignments, outputs] in bf16; the weight has 2 * outputs rows for each expert. */
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    expert_gate(const __grid_constant__ Problem problem) {
  multiplyExpert<true>(problem);
}

/** out[assignments, outputs] in f32, times each assignment's weight. */
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    expert_down(const __grid_constant__ Problem problem) {
  multiplyExpert<false>(problem);
}
