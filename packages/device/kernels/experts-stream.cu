#include "experts.cuh"
#include "hopper.cuh"
#if FORMAT == 1
#include "fp8.cuh"
#elif FORMAT == 2
#include "fp4.cuh"
#endif

// Products of few lines with the experts that they chose, for GPUs from Hopper on. What counts is
// that the weights of the experts that were hit, and of no others, come from memory without a
// pause. So blocks stay: there is one on each multiprocessor, and all have equal shares of the work
// from beginning to end, whichever experts it is for. A unit of it is a strip of rows of one
// expert's weight, with a tile of its lines; units are numbered tile after tile. A warp takes every
// WARPS-th of its block's units, and what it reads is STAGES_AHEAD stages of 128 bytes of each row
// ahead of what it multiplies, over the ends of strips.
//
// A weight row is a row of A of mma.m16n8k16, a line a column of B. The order of inputs within a
// product is free as long as both operands agree: A comes from the stages as they are stored, by
// ldmatrix, and lines are brought to the order that follows from it.
//
// The instructions that widen MXFP4 are what limits it, so that there are as few as could be found.
//
// Fixed when compiled: FORMAT (0: bf16, 1: FP8 e4m3 with scales, 2: MXFP4), LINE_TILE (8 or 16),
// WARPS of a block, STAGES_AHEAD.

#define THREADS (WARPS * WARP_LANES)
/** Rows of A are those of a strip. */
#define STRIP_ROWS 16
#define COLUMN_TILES (LINE_TILE / 8)
/** Sums of bf16 that take turns, because a product waits for the one before. */
#define SETS (FORMAT == 0 && LINE_TILE == 8 ? 2 : 1)
#define STAGE_ROW_BYTES 128
#define ROWS_BYTES (STRIP_ROWS * STAGE_ROW_BYTES)
/** Scales are behind a stage's rows: of FP8 two floats a row, of MXFP4 eight bytes among twelve. */
#define SCALE_BYTES (FORMAT == 0 ? 0 : FORMAT == 1 ? 128 : 256)
#define STAGE_BYTES (ROWS_BYTES + SCALE_BYTES)
/** What one ldmatrix reads: 32 bytes of each row. */
#define UNIT_BYTES 32
#define UNIT_INPUTS (FORMAT == 0 ? 16 : FORMAT == 1 ? 32 : 64)
#define STAGE_UNITS (STAGE_ROW_BYTES / UNIT_BYTES)
#define STAGE_INPUTS (STAGE_UNITS * UNIT_INPUTS)
#define HALF_STAGE (STAGE_INPUTS / 2)
/** Lines are in pieces of 16 bytes for each lane of four: 32 inputs are four pieces. */
#define BLOCK_INPUTS 32
#define BLOCK_BYTES 64

/** Tiles of lines, expert after expert: each lane knows those of a few experts. */
struct Tiles {
  const Problem& problem;
  int perLane;
  int before;
  int own;
  int count;

  __device__ explicit Tiles(const Problem& problem) : problem(problem) {
    const int lane = threadIdx.x % WARP_LANES;
    perLane = (problem.experts + WARP_LANES - 1) / WARP_LANES;
    own = 0;
#pragma unroll 4
    for (int i = 0; i < perLane; i++) own += tilesOf(sizeOf(lane * perLane + i));
    int upTo = own;
#pragma unroll
    for (int offset = 1; offset < WARP_LANES; offset *= 2) {
      const int other = __shfl_up_sync(FULL_WARP, upTo, offset);
      if (lane >= offset) upTo += other;
    }
    before = upTo - own;
    count = __shfl_sync(FULL_WARP, upTo, WARP_LANES - 1);
  }

  /** A tile by its number, which is below `count`. The whole warp calls it. */
  __device__ ExpertTile find(int number) const {
    ExpertTile found = {};
    const int lane = threadIdx.x % WARP_LANES;
    int left = number - before;
    const bool isHere = left >= 0 && left < own;
    for (int i = 0; isHere && i < perLane; i++) {
      const int expert = lane * perLane + i;
      const int size = sizeOf(expert);
      if (left < tilesOf(size)) {
        const int passed = left * LINE_TILE;
        found = {expert, problem.starts[expert] + passed, min(LINE_TILE, size - passed)};
        break;
      }
      left -= tilesOf(size);
    }
    const int finder = __ffs(__ballot_sync(FULL_WARP, isHere)) - 1;
    found.expert = __shfl_sync(FULL_WARP, found.expert, finder);
    found.first = __shfl_sync(FULL_WARP, found.first, finder);
    found.count = __shfl_sync(FULL_WARP, found.count, finder);
    return found;
  }

  __device__ int sizeOf(int expert) const {
    if (expert >= problem.experts) return 0;
    return problem.starts[expert + 1] - problem.starts[expert];
  }
  __device__ static int tilesOf(int size) { return (size + LINE_TILE - 1) / LINE_TILE; }
};

/** The units of a block. */
struct Share {
  /** Of an expert. */
  int strips;
  int stages;
  int first;
  int end;

  __device__ Share(const Problem& problem, const Tiles& tiles, int outputsOfStrip) {
    strips = (problem.outputs + outputsOfStrip - 1) / outputsOfStrip;
    stages = (problem.inputs + STAGE_INPUTS - 1) / STAGE_INPUTS;
    const i64 all = (i64)tiles.count * strips;
    first = (int)(all * blockIdx.x / gridDim.x);
    end = (int)(all * (blockIdx.x + 1) / gridDim.x);
  }
};

/** A strip of rows with a tile of lines: those that a warp has, one after the other. */
template <bool IS_GATE> struct Unit {
  const Problem& problem;
  const Tiles& tiles;
  const Share& share;
  int number;
  int tileNumber;
  int strip;
  ExpertTile tile;
  /** The first output. */
  int first;

  __device__ Unit(const Problem& problem, const Tiles& tiles, const Share& share)
      : problem(problem), tiles(tiles), share(share) {
    number = share.first + threadIdx.x / WARP_LANES;
    tileNumber = number / share.strips;
    strip = number - tileNumber * share.strips;
    if (isGiven()) tile = tiles.find(tileNumber);
    first = strip * (IS_GATE ? STRIP_ROWS / 2 : STRIP_ROWS);
  }

  __device__ bool isGiven() const { return number < share.end; }
  __device__ void advance() {
    number += WARPS;
    strip += WARPS;
    if (strip >= share.strips && isGiven()) {
      for (; strip >= share.strips; strip -= share.strips) tileNumber++;
      tile = tiles.find(tileNumber);
    }
    first = strip * (IS_GATE ? STRIP_ROWS / 2 : STRIP_ROWS);
  }

  /** The output that a row is of: rows g and g + 8 are a lane's, and one gate's. */
  __device__ int output(int row) const { return first + (IS_GATE ? row % 8 : row); }
  /** The first row of the expert in the weight, and of that a row. */
  __device__ i64 expertRow() const {
    return (i64)tile.expert * problem.outputs * (IS_GATE ? 2 : 1);
  }
  /** Past the end the last one will do: none is written. */
  __device__ u32 weightRow(int row) const {
    const int own = min(output(row), problem.outputs - 1);
    const int half = row / 8;
    if (!IS_GATE) return own;
    return problem.isInterleaved ? 2 * own + half : own + half * problem.outputs;
  }
};

/** The way of a warp's rows to its ring of stages, in the background. */
template <bool IS_GATE> struct Feed {
  const Problem& problem;
  const Share& share;
  Unit<IS_GATE> unit;
  int stage;
  u32 ring;
  int slot;
  u32 rowBytes;
  /** Where the lane's pieces go in a stage: those of every other four rows. */
  u32 places[2];
  /** Of the rows that the lane copies a piece of: l / 8 and every fourth after it. */
  const unsigned char* rows[4];
#if FORMAT != 0
  /** Of the row whose scales the lane copies. */
  const unsigned char* scales;
#endif
#if FORMAT == 1
  /** Blocks of scales in half a stage, times 2^16 and rounded up: exact below 16384 inputs. */
  int blocksOfHalf;
#elif FORMAT == 2
  /** How far behind these the last word of all scales is. */
  int last;
#endif

  __device__ Feed(const Problem& problem, const Tiles& tiles, const Share& share, u32 ring)
      : problem(problem), share(share), unit(problem, tiles, share), stage(0), ring(ring), slot(0) {
    const int lane = threadIdx.x % WARP_LANES;
    rowBytes = FORMAT == 0 ? problem.inputs * 2 : FORMAT == 1 ? problem.inputs : problem.inputs / 2;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      places[i] = swizzled(lane / 8 + 4 * i, lane % 8);
      // Not to be worked out anew for each stage.
      asm volatile("" : "+r"(places[i]));
    }
#if FORMAT == 1
    const int halves = max(problem.blockInputs / HALF_STAGE, 1);
    blocksOfHalf = (0xffff + halves) / halves;
#endif
    if (unit.isGiven()) begin();
  }

  __device__ void begin() {
    const int lane = threadIdx.x % WARP_LANES;
    const i64 expertRow = unit.expertRow();
    const unsigned char* weight = problem.weight + expertRow * rowBytes + lane % 8 * 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      rows[i] = weight + (u64)unit.weightRow(lane / 8 + 4 * i) * rowBytes;
    }
#if FORMAT == 1
    const int perRow = (problem.inputs - 1) / problem.blockInputs + 1;
    const i64 row = (expertRow + unit.weightRow(lane % STRIP_ROWS)) / problem.blockOutputs;
    scales = (const unsigned char*)((const float*)problem.scales + row * perRow);
#elif FORMAT == 2
    const u32 blocks = problem.inputs / 32;
    const unsigned char* all = (const unsigned char*)problem.scales + expertRow * blocks;
    const unsigned char* end = (const unsigned char*)problem.scales + problem.scaleBytes;
    const u64 row = unit.weightRow(lane % STRIP_ROWS);
    scales = (const unsigned char*)((u64)(all + row * blocks) & ~3ull);
    last = (int)min((i64)(end - scales - 4), (i64)0x7fffffff);
#endif
  }

  /** Asks for the next stage, in a group of copies of its own; past the last for nothing. */
  __device__ void ask() {
    if (unit.isGiven()) {
      const u32 at = stage * STAGE_ROW_BYTES;
      const u32 target = ring + slot * STAGE_BYTES;
      if (at + threadIdx.x % 8 * 16 < rowBytes) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          copyPiece(target + places[i % 2] + i / 2 * (8 * STAGE_ROW_BYTES), rows[i] + at, false);
        }
      }
      askScales(target + ROWS_BYTES);
      if (++stage == share.stages) {
        stage = 0;
        unit.advance();
        if (unit.isGiven()) begin();
      }
    }
    if (++slot == STAGES_AHEAD) slot = 0;
    commitCopies();
  }

  __device__ void askScales(u32 target) const {
#if FORMAT == 1
    const int lane = threadIdx.x % WARP_LANES;
    // Row l % 16, first or second half of the stage.
    const int half = min(stage * 2 + lane / 16, (problem.inputs - 1) / HALF_STAGE);
    copyWord(target + lane * 4, scales + (half * blocksOfHalf >> 16) * 4, false);
#elif FORMAT == 2
    const int lane = threadIdx.x % WARP_LANES;
    // Whole words, among which the eight scales may begin anywhere: lanes 16 to 31 have the second.
    const u32 own = target + lane % 16 * 16 + lane / 16 * 4;
    const int first = stage * 8 + lane / 16 * 4;
    copyWord(own, scales + min(first, last), false);
    if (lane < 16) copyWord(own + 8, scales + min(first + 8, last), false);
#endif
  }
};

__device__ inline void loadRows(u32 (&words)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

__device__ inline void multiply(float (&sums)[4], u32 upper0, u32 lower0, u32 upper1, u32 lower1,
                                u32 line0, u32 line1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(upper0), "r"(lower0), "r"(upper1), "r"(lower1), "r"(line0), "r"(line1));
}

typedef float Sums[SETS][COLUMN_TILES][4];

/** What a lane multiplies: its lines, and the scales of its two rows. */
struct Operands {
  const unsigned char* lines[COLUMN_TILES];
  const unsigned char* scales[2];
};

#if FORMAT != 0
/**
 * Codes are put where bf16 has its bits, which makes them 2^120 or 2^126 times too small. Lines are
 * 2^80 times too large for that, so that sums of products are normal numbers; from 2^48 on they are
 * infinite.
 */
#define LINE_FACTOR 0x67806780u
#endif
#if FORMAT == 2
/** A block's scale, 2^(scale - 127), times what is then missing. */
__device__ inline float blockFactor(u32 scale) {
  return __uint_as_float(scale * 0x00800000u + 46 * 0x00800000u);
}
#endif
/** What is missing in the end. */
#define SUM_FACTOR (FORMAT == 1 ? 0x1p40f : 1.0f)

/** Products of 32 bytes of each row; `seen` gathers the bits of the scales of MXFP4. */
__device__ inline void multiplyUnit(Sums& sums, u32 rows, const Operands& operands, int unit,
                                    u32& seen) {
  u32 words[4];
  loadRows(words, rows ^ unit * UNIT_BYTES);
#if FORMAT == 2
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int block = unit * 2 + half;
    const u32 scales[2] = {operands.scales[0][block], operands.scales[1][block]};
    seen |= scales[0] | scales[1];
    const float factors[2] = {blockFactor(scales[0]), blockFactor(scales[1])};
    u32 upper[4], lower[4];
    spreadFp4(words[half * 2], upper);
    spreadFp4(words[half * 2 + 1], lower);
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; n++) {
      const uint4 x = *(const uint4*)(operands.lines[n] + block * BLOCK_BYTES);
      float parts[4] = {};
      multiply(parts, upper[0], lower[0], upper[1], lower[1], x.x, x.y);
      multiply(parts, upper[2], lower[2], upper[3], lower[3], x.z, x.w);
#pragma unroll
      for (int i = 0; i < 4; i++) sums[0][n][i] += factors[i / 2] * parts[i];
    }
  }
#elif FORMAT == 1
  u32 pairs[4][2];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    pairs[i][0] = spreadFp8Pair(prmt(words[i], 0x9180));
    pairs[i][1] = spreadFp8Pair(prmt(words[i], 0xb3a2));
  }
  const float factors[2] = {((const float*)operands.scales[0])[unit / 2 * STRIP_ROWS],
                            ((const float*)operands.scales[1])[unit / 2 * STRIP_ROWS]};
#pragma unroll
  for (int n = 0; n < COLUMN_TILES; n++) {
    const uint4 x = *(const uint4*)(operands.lines[n] + unit * BLOCK_BYTES);
    float parts[4] = {};
    multiply(parts, pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1], x.x, x.y);
    multiply(parts, pairs[2][0], pairs[3][0], pairs[2][1], pairs[3][1], x.z, x.w);
#pragma unroll
    for (int i = 0; i < 4; i++) sums[0][n][i] += factors[i / 2] * parts[i];
  }
#else
#pragma unroll
  for (int n = 0; n < COLUMN_TILES; n++) {
    const uint2 x = *(const uint2*)(operands.lines[n] + unit / 2 * BLOCK_BYTES + unit % 2 * 8);
    multiply(sums[unit % SETS][n], words[0], words[1], words[2], words[3], x.x, x.y);
  }
#endif
}

/** Products of a stage at `stage`, of as many units as there are, at most STAGE_UNITS. */
__device__ inline void multiplyStage(Sums& sums, u32 stage, const Operands& operands, int units,
                                     u32& seen) {
  const int lane = threadIdx.x % WARP_LANES;
  const u32 rows = stage + swizzled(lane % STRIP_ROWS, lane / STRIP_ROWS);
  if (units >= STAGE_UNITS) {
#pragma unroll
    for (int unit = 0; unit < STAGE_UNITS; unit++) multiplyUnit(sums, rows, operands, unit, seen);
  } else {
#pragma unroll
    for (int unit = 0; unit < STAGE_UNITS - 1; unit++) {
      if (unit < units) multiplyUnit(sums, rows, operands, unit, seen);
    }
  }
}

/** 16 bytes of a line: what a lane of four multiplies of 32 inputs. */
__device__ inline uint4 linePiece(const bf16* line, int piece) {
#if FORMAT == 2
  const uint4 ordered = orderedAsFp4(((const uint4*)line)[piece]);
  u32 words[4] = {ordered.x, ordered.y, ordered.z, ordered.w};
#elif FORMAT == 1
  const uint2* source = (const uint2*)(line + piece / 4 * BLOCK_INPUTS) + piece % 4;
  u32 words[4] = {source[0].x, source[0].y, source[4].x, source[4].y};
#else
  const u32* source = (const u32*)(line + piece / 4 * BLOCK_INPUTS) + piece % 4;
  u32 words[4] = {source[0], source[4], source[8], source[12]};
#endif
#if FORMAT != 0
#pragma unroll
  for (int i = 0; i < 4; i++) {
    asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(words[i]) : "r"(LINE_FACTOR), "r"(0x80008000u));
  }
#endif
  return make_uint4(words[0], words[1], words[2], words[3]);
}

/** Lines in shared memory: of assignments that follow each other in the order. */
struct Window {
  unsigned char* lines;
  int* assignments;
  int pitch;
  /** In the order: of the first line. */
  int first;
  int count;

  /** Finds how many units from `next` on it has lines for: the first beyond. */
  __device__ int reach(int next, const Share& share, const Tiles& tiles) {
    int number = next / share.strips;
    ExpertTile tile = tiles.find(number);
    first = tile.first;
    count = 0;
    for (;;) {
      count = tile.first + tile.count - first;
      const int end = (number + 1) * share.strips;
      if (end >= share.end) return share.end;
      tile = tiles.find(++number);
      if (tile.first + tile.count - first > LINE_TILE) return end;
    }
  }

  /** `slots` assignments share a line of the input. The whole block calls it. */
  __device__ void fill(const Problem& problem, int slots) const {
    if (threadIdx.x < count) assignments[threadIdx.x] = problem.order[first + threadIdx.x];
    const int pieces = problem.inputs / 8;
    // As many lines at once as there are warps, and otherwise several warps for each.
    const int sharing = max(WARPS / count, 1);
    const int warp = threadIdx.x / WARP_LANES;
    const int start = warp % sharing * WARP_LANES + threadIdx.x % WARP_LANES;
    for (int line = warp / sharing; line < count; line += WARPS / sharing) {
      const bf16* source =
          problem.input + (i64)(problem.order[first + line] / slots) * problem.inputs;
#pragma unroll 8
      for (int piece = start; piece < pieces; piece += sharing * WARP_LANES) {
        *(uint4*)(lines + line * pitch + piece * 16) = linePiece(source, piece);
      }
    }
  }
};

#if FORMAT == 2
/** What there is no bf16 for: see e8m0Value in mxfp4.ts. Weights have no such scale. */
template <bool IS_GATE> __device__ inline bool isOutOfRange(const Unit<IS_GATE>& unit, int row) {
  const Problem& problem = unit.problem;
  const int blocks = problem.inputs / 32;
  const i64 first = (unit.expertRow() + unit.weightRow(row)) * blocks;
  bool isFound = false;
  for (int i = 0; i < blocks; i++) {
    isFound |= ((const unsigned char*)problem.scales)[first + i] > 128;
  }
  return isFound;
}
#endif

template <bool IS_GATE>
__device__ inline void finish(const Unit<IS_GATE>& unit, const Sums& sums, u32 seen,
                              const float (&bias)[2], const int* assignments) {
  const Problem& problem = unit.problem;
  const int row = threadIdx.x % WARP_LANES / 4;
  const int output = unit.output(row);
  float added[2] = {bias[0], bias[1]};
#if FORMAT == 2
  if (seen >= 128) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (isOutOfRange(unit, row + 8 * i)) added[i] = infinity() - infinity();
    }
  }
#endif
#pragma unroll
  for (int n = 0; n < COLUMN_TILES; n++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int line = n * 8 + threadIdx.x % 4 * 2 + i;
      if (line >= unit.tile.count) continue;
      float upper = added[0], lower = added[1];
#pragma unroll
      for (int set = 0; set < SETS; set++) {
        upper += SUM_FACTOR * sums[set][n][i];
        lower += SUM_FACTOR * sums[set][n][i + 2];
      }
      const int assignment = assignments[line];
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

/** All stages of a strip, whose lines are in the window. */
template <bool IS_GATE>
__device__ inline void multiplyStrip(const Unit<IS_GATE>& unit, Feed<IS_GATE>& feed,
                                     const unsigned char* ring, int& slot, const Window& window) {
  const Problem& problem = unit.problem;
  const int own = threadIdx.x % WARP_LANES / 4;
  const int before = unit.tile.first - window.first;
  float bias[2] = {};
  Operands operands = {};
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int row = i * 8 + own;
    const i64 weightRow = unit.expertRow() + unit.weightRow(row);
    if (problem.bias != nullptr) bias[i] = widen(problem.bias[weightRow]);
#if FORMAT == 1
    operands.scales[i] = ring + ROWS_BYTES + row * 4;
#elif FORMAT == 2
    const u64 source = (u64)problem.scales + weightRow * (problem.inputs / 32);
    operands.scales[i] = ring + ROWS_BYTES + row * 16 + (source & 3);
#endif
  }
#pragma unroll
  for (int n = 0; n < COLUMN_TILES; n++) {
    const int line = before + min(n * 8 + own, unit.tile.count - 1);
    operands.lines[n] = window.lines + line * window.pitch + threadIdx.x % 4 * 16;
  }
  Sums sums = {};
  u32 seen = 0;
  for (int units = feed.rowBytes / UNIT_BYTES; units > 0; units -= STAGE_UNITS) {
    awaitCopies<STAGES_AHEAD - 1>();
    __syncwarp();
    Operands here = operands;
    here.scales[0] += slot * STAGE_BYTES;
    here.scales[1] += slot * STAGE_BYTES;
    multiplyStage(sums, sharedAddress(ring) + slot * STAGE_BYTES, here, units, seen);
    __syncwarp();
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; n++) operands.lines[n] += STAGE_INPUTS * 2;
    if (++slot == STAGES_AHEAD) slot = 0;
    feed.ask();
  }
  finish(unit, sums, seen, bias, window.assignments + before);
}

template <bool IS_GATE> __device__ void multiplyExperts(const Problem& problem) {
  extern __shared__ __align__(128) unsigned char dynamic[];
  __shared__ int assignments[LINE_TILE];
  // The gate lets this kernel start once it has seen the groups itself: weights can be asked for
  // before what it writes is there.
  if (IS_GATE || !problem.isBehindGate) awaitEarlier();
  letNextStart();
  const int warp = threadIdx.x / WARP_LANES;
  const Tiles tiles(problem);
  const Share share(problem, tiles, IS_GATE ? STRIP_ROWS / 2 : STRIP_ROWS);
  unsigned char* ring = dynamic + warp * STAGES_AHEAD * STAGE_BYTES;
  Feed<IS_GATE> feed(problem, tiles, share, sharedAddress(ring));
#pragma unroll 1
  for (int stage = 0; stage < STAGES_AHEAD; stage++) feed.ask();
  if (!IS_GATE && problem.isBehindGate) awaitEarlier();
  Window window;
  window.lines = dynamic + WARPS * STAGES_AHEAD * STAGE_BYTES;
  window.assignments = assignments;
  // Lines that are read at once are 64 bytes apart beyond a multiple of 128: they meet in no bank.
  window.pitch = problem.inputs * 2 / 128 * 128 + 64;
  Unit<IS_GATE> unit(problem, tiles, share);
  int slot = 0;
  for (int next = share.first; next < share.end;) {
    next = window.reach(next, share, tiles);
    __syncthreads();
    window.fill(problem, IS_GATE ? problem.topK : 1);
    __syncthreads();
    for (; unit.number < next; unit.advance()) {
      multiplyStrip(unit, feed, ring, slot, window);
    }
  }
  awaitCopies<0>();
}

/*
 * Grid: as many blocks as there are multiprocessors. Threads: THREADS. Dynamic shared memory: each
 * warp's STAGES_AHEAD stages, and LINE_TILE lines or as many as there are assignments. Rows have a
 * multiple of UNIT_BYTES, and inputs are a multiple of BLOCK_INPUTS; blockInputs is a multiple of
 * half a stage's, or not below inputs.
 */

/** out[assignments, outputs] in bf16; the weight has 2 * outputs rows for each expert. */
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    expert_gate_stream(const __grid_constant__ Problem problem) {
  multiplyExperts<true>(problem);
}

/** out[assignments, outputs] in f32, times each assignment's weight. */
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    expert_down_stream(const __grid_constant__ Problem problem) {
  multiplyExperts<false>(problem);
}
