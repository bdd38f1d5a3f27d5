#include "hopper.cuh"
#include "int4.cuh"

/*
 * Products of a few lines with weights that are read once: what counts is that HBM never rests. A
 * block owns a contiguous range of weight rows and streams them through a ring in shared memory, 16
 * rows by CHUNK columns at a time: one warp starts bulk copies, the others multiply. Weights never
 * change, so the ring fills before awaitEarlier: while the kernel before stores its last sums and
 * this one's input is read, HBM is already at work.
 *
 * Tensor cores multiply because they need the fewest instructions: a weight row is a row of A, a
 * line a column of B. The order of columns within an instruction is free as long as both operands
 * agree, so each lane reads 16 bytes of its row at once.
 *
 * Fixed when compiled: LINE_COUNT (1 to 4, of int4 1 to 8), FORMAT (0: bf16, 1: FP8 e4m3 with
 * scales, 2: int4 with a scale and a zero point for each SPAN inputs or for a row) and, where a
 * gate is not silu, GELU.
 */

#ifdef GELU
#define ACTIVATE geluTanh
#else
#define ACTIVATE silu
#endif

/** Half as many bytes are unpacked in as much time by more warps that wait for one another less. */
#define CONSUMER_WARPS (FORMAT == 2 ? 16 : 8)
#define CONSUMERS (CONSUMER_WARPS * WARP_LANES)
/** The last warp starts the copies. */
#define THREADS (CONSUMERS + WARP_LANES)
#define GROUP_ROWS 16
#define MAX_STAGES 16
#define ELEMENT_BITS (FORMAT == 0 ? 16 : FORMAT == 1 ? 8 : 4)
/** Of one row in one stage. */
#define CHUNK_BYTES 2048
#define CHUNK (CHUNK_BYTES * 8 / ELEMENT_BITS)
/** The words of int4 that go with the chunk, behind it. */
#define SCALE_BYTES (FORMAT == 2 ? CHUNK / SPAN * 4 : 0)
/** Half a line of banks more than all that, so that lanes of neighbouring rows do not collide. */
#define ROW_PITCH (CHUNK_BYTES + SCALE_BYTES + 64)
#define STAGE_BYTES (GROUP_ROWS * ROW_PITCH)
/** Columns of a stage that one warp multiplies, and those among them with the same scales. */
#define SLICE (CHUNK / CONSUMER_WARPS)
#define SPAN (FORMAT == 0 ? SLICE : 128)
#define SPANS (SLICE / SPAN)
/** Columns for which a lane reads 16 bytes; four lanes share a row. */
#define LANE_COLUMNS (16 * 8 / ELEMENT_BITS)
#define TILE (4 * LANE_COLUMNS)
/** Groups whose sums wait in shared memory to be stored together, a sum by one of 256 consumers. */
#define PENDING_GROUPS (256 / (GROUP_ROWS * LINE_COUNT))

/** What packed weights become with the fewest instructions, exactly. */
#if FORMAT == 0
#define OPERAND_TYPE "bf16"
#else
#define OPERAND_TYPE "f16"
#endif

enum Then { STORE, ADD, GATE };

/** What a launch works on: see the kernels at the end. */
struct Product {
  const bf16* input;
  const char* weight;
  const float* scales;
  const bf16 *bias, *normWeight;
  void* out;
  int inputs, outputs, blockInputs, blockOutputs;
  float epsilon, normOffset;
  int stages, stepsLeft;
};

__device__ inline uint4 load16(const void* source, bool isGiven) {
  return isGiven ? *(const uint4*)source : make_uint4(0, 0, 0, 0);
}
__device__ inline void put(bf16* target, float value) { *target = narrow(value); }
__device__ inline void put(float* target, float value) { *target = value; }

/** Bytes to shared memory in the background; nobody reads them again, so L2 drops them first. */
__device__ inline void copyBulk(char* target, const char* source, int bytes, u64& barrier) {
  u64 readOnce;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(readOnce));
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(sharedAddress(target)),
      "l"(source), "r"(bytes), "r"(sharedAddress(&barrier)), "l"(readOnce)
      : "memory");
}
/** Arrives, and makes the phase wait for this many bytes more. */
__device__ inline void arriveExpecting(u64& barrier, int bytes) {
  const u32 address = sharedAddress(&barrier);
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes)
               : "memory");
}
/** The warp that copies does not take part. */
__device__ inline void meetConsumers() { meet(1, CONSUMERS); }

/** Weights on their way: stages, and whether their bytes are there, or all consumers done. */
struct Ring {
  char* stages;
  u64 *full, *empty;
};

/** The stage that a warp is at, and how often the ring has gone round. */
struct Cursor {
  int slot = 0;
  u32 round = 0;

  __device__ void advance(int stages) {
    if (++slot == stages) {
      slot = 0;
      round++;
    }
  }
};

/** The block's share of the outputs: units are rows, or pairs of rows under a gate. */
template <Then then> struct Share {
  static constexpr int GROUP_UNITS = then == GATE ? GROUP_ROWS / 2 : GROUP_ROWS;
  int units, begin, end;

  __device__ Share(int outputs) {
    units = then == GATE ? outputs / 2 : outputs;
    begin = (int)((i64)units * blockIdx.x / gridDim.x);
    end = (int)((i64)units * (blockIdx.x + 1) / gridDim.x);
  }
  __device__ int groups() const { return (end - begin + GROUP_UNITS - 1) / GROUP_UNITS; }
  /** The weight row at place `row` of a group, or -1 beyond the share. */
  __device__ int weightRow(int group, int row) const {
    const int unit = begin + group * GROUP_UNITS + row % GROUP_UNITS;
    return unit < end ? unit + row / GROUP_UNITS * units : -1;
  }
};

/** The words of a row's chunk of int4, in the background: as many as it has. */
__device__ inline void copyScales(const Product& product, char* target, int row, int column) {
  const int perRow = product.inputs / product.blockInputs;
  const int first = column / product.blockInputs;
  const int count = min(perRow - first, CHUNK / SPAN);
  const float* source = product.scales + (i64)row * perRow + first;
  const u32 address = sharedAddress(target);
  if (perRow % 4 == 0) {
    for (int i = 0; i < count; i += 4) copyPiece(address + i * 4, source + i, false);
  } else {
    for (int i = 0; i < count; i++) copyWord(address + i * 4, source + i, false);
  }
}

/**
 * The copying warp: lane i brings row i of each group, chunk after chunk, and lane i + 16 what
 * else goes with it.
 */
template <Then then>
__device__ void copyWeights(const Product& product, const Share<then>& share, const Ring& ring) {
  const int lane = threadIdx.x % GROUP_ROWS;
  const bool isForScales = threadIdx.x % WARP_LANES >= GROUP_ROWS;
  if (FORMAT != 2 && isForScales) return;
  const int rowBytes = (int)((i64)product.inputs * ELEMENT_BITS / 8);
  const int chunks = (rowBytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
  int stepsLeft = share.groups() * chunks;
  if (stepsLeft < product.stepsLeft) letNextStart();
  Cursor at;
  for (int group = 0; group < share.groups(); group++) {
    const int row = share.weightRow(group, lane);
    const char* source = product.weight + (i64)row * rowBytes;
    for (int from = 0; from < rowBytes; from += CHUNK_BYTES) {
      if (stepsLeft-- == product.stepsLeft) letNextStart();
      const int bytes = row < 0 ? 0 : min(CHUNK_BYTES, rowBytes - from);
      u64& full = ring.full[at.slot];
      awaitPhase(ring.empty[at.slot], (at.round & 1) ^ 1);
      char* target = ring.stages + at.slot * STAGE_BYTES + lane * ROW_PITCH;
      if (isForScales) {
        if (row >= 0) copyScales(product, target + CHUNK_BYTES, row, from * 8 / ELEMENT_BITS);
        arriveWhenCopied(full);
      } else {
        arriveExpecting(full, bytes);
        if (bytes > 0) copyBulk(target, source + from, bytes, full);
      }
      at.advance(product.stages);
    }
  }
}

/**
 * The input in shared memory: lines of whole chunks with zeros beyond the inputs, half a line of
 * banks apart; beside packed weights a factor for each span follows.
 */
struct Lines {
  char* start;
  int columns, pitch;

  __device__ Lines(char* start, int inputs) : start(start) {
    columns = (inputs + CHUNK - 1) / CHUNK * CHUNK;
    const int factorBytes = FORMAT == 0 ? 0 : columns / SPAN * 4;
    pitch = (columns * 2 + factorBytes + 127) / 128 * 128 + 64;
  }
  __device__ char* at(int line, int column) const { return start + line * pitch + column * 2; }
  /**
   * Where 8 columns are. The four lanes of a row of int4 read pieces that are four apart at the
   * same time: these lie side by side.
   */
  __device__ char* piece(int line, int column) const {
    if (FORMAT != 2) return at(line, column);
    const int piece = column % TILE / 8;
    return at(line, column - column % TILE) + (piece % 4 * 4 + piece / 4) * 16;
  }
  __device__ float& factor(int line, int column) const {
    return ((float*)at(line, columns))[column / SPAN];
  }
};

/** Two floats as a pair of f16, rounded to nearest even; `low` comes first in memory. */
__device__ inline u32 halfPair(float low, float high) {
  u32 pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/**
 * 8 columns as f16, as weights that were packed. The 16 lanes of a span divide by `factor`, the
 * power of two that takes their largest value to the top of the range of f16: all 8 bits of a bf16
 * survive unless it is 2^30 times smaller than the largest.
 */
__device__ inline uint4 halves8(const float (&values)[8], float& factor) {
  float largest = 0.0f;
#pragma unroll
  for (int j = 0; j < 8; j++) largest = fmaxf(largest, fabsf(values[j]));
#pragma unroll
  for (int offset = 8; offset > 0; offset >>= 1) {
    largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, offset));
  }
  const int exponent = max((int)(__float_as_uint(largest) >> 23), 15);
  factor = __uint_as_float((u32)(exponent - 14) << 23);
  const float inverse = __uint_as_float((u32)(268 - exponent) << 23);
  return make_uint4(halfPair(values[0] * inverse, values[1] * inverse),
                    halfPair(values[2] * inverse, values[3] * inverse),
                    halfPair(values[4] * inverse, values[5] * inverse),
                    halfPair(values[6] * inverse, values[7] * inverse));
}

/** Puts 8 columns, times the norm's weights where there are any; adds to the sum of squares. */
__device__ inline void putColumns(const Product& product, const Lines& lines, int line, int column,
                                  uint4 packed, uint4 norm, float& squares) {
  float values[8];
  widen8(packed, values);
  if (product.normWeight != nullptr) {
    float weights[8];
    widen8(norm, weights);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      squares += values[j] * values[j];
      values[j] *= weights[j] + product.normOffset;
    }
  }
  float factor;
  uint4 piece = FORMAT == 0 ? narrow8(values) : halves8(values, factor);
  if (FORMAT == 2) piece = orderedAsInt4(piece);
  *(uint4*)lines.piece(line, column) = piece;
  if (FORMAT != 0 && column % SPAN == 0) lines.factor(line, column) = factor;
}

/**
 * The input to shared memory, times the norm's weight. The norm's other factor is the same for a
 * whole line and waits for the sums, so nothing stands between the input and the first product.
 * Returns this thread's part of each line's sum of squares.
 */
__device__ inline void readInput(const Product& product, const Lines& lines,
                                 float (&squares)[LINE_COUNT]) {
  // Loads that are under way at once, for their latency is all that this costs.
  constexpr int BATCH = LINE_COUNT < 3 ? 6 / LINE_COUNT : LINE_COUNT > 4 ? 1 : 2;
  const uint4 zero = make_uint4(0, 0, 0, 0);
  for (int first = threadIdx.x * 8; first < lines.columns; first += BATCH * CONSUMERS * 8) {
    uint4 packed[BATCH][LINE_COUNT], norm[BATCH];
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
      const int column = first + b * CONSUMERS * 8;
      const bool given = column < product.inputs;
      norm[b] = zero;
      if (product.normWeight != nullptr && given) norm[b] = *(uint4*)(product.normWeight + column);
#pragma unroll
      for (int line = 0; line < LINE_COUNT; line++) {
        const bf16* source = product.input + (i64)line * product.inputs + column;
        packed[b][line] = given ? *(const uint4*)source : zero;
      }
    }
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
      const int column = first + b * CONSUMERS * 8;
      // The same in all lanes of a warp, because chunks are whole.
      if (column >= lines.columns) continue;
#pragma unroll
      for (int line = 0; line < LINE_COUNT; line++) {
        putColumns(product, lines, line, column, packed[b][line], norm[b], squares[line]);
      }
    }
  }
}

/**
 * sums[row, line] += A[row, 16 columns] * B[16 columns, line]. Of A a lane has some columns of two
 * rows, of B the same columns of a line; see mma.m16n8k16 in the PTX manual.
 */
__device__ inline void multiplyTile(float (&sums)[4], u32 upper0, u32 lower0, u32 upper1,
                                    u32 lower1, u32 line0, u32 line1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32." OPERAND_TYPE "." OPERAND_TYPE
      ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(upper0), "r"(lower0), "r"(upper1), "r"(lower1), "r"(line0), "r"(line1));
}

/** Two pairs of FP8 as f16, exactly. */
__device__ inline void widenToHalves(u32 four, u32& first, u32& second) {
  asm("{.reg .b16 a, b; mov.b32 {a, b}, %2; cvt.rn.f16x2.e4m3x2 %0, a; cvt.rn.f16x2.e4m3x2 %1, b;}"
      : "=r"(first), "=r"(second)
      : "r"(four));
}
__device__ inline void multiplyFp8(float (&sums)[4], u32 upper, u32 lower, u32 line0, u32 line1) {
  u32 upper0, upper1, lower0, lower1;
  widenToHalves(upper, upper0, upper1);
  widenToHalves(lower, lower0, lower1);
  multiplyTile(sums, upper0, lower0, upper1, lower1, line0, line1);
}

/**
 * Adds the products of a lane's columns in a tile: `weights` is where they start in the upper row,
 * `line` where in its line. Two sums, because an addition waits for the one before.
 */
__device__ inline void multiplyColumns(float (&sums)[2][4], const char* weights, bool hasWeights,
                                       const char* line, bool hasLine) {
  const uint4 upper = load16(weights, hasWeights);
  const uint4 lower = load16(weights + GROUP_ROWS / 2 * ROW_PITCH, hasWeights);
  const uint4 x = load16(line, hasLine);
#if FORMAT == 1
  const uint4 y = load16(line + 16, hasLine);
  multiplyFp8(sums[0], upper.x, lower.x, x.x, x.y);
  multiplyFp8(sums[1], upper.y, lower.y, x.z, x.w);
  multiplyFp8(sums[0], upper.z, lower.z, y.x, y.y);
  multiplyFp8(sums[1], upper.w, lower.w, y.z, y.w);
#else
  multiplyTile(sums[0], upper.x, lower.x, upper.y, lower.y, x.x, x.y);
  multiplyTile(sums[1], upper.z, lower.z, upper.w, lower.w, x.z, x.w);
#endif
}

/** The same of int4, for one span: the words of the two rows come with it. */
__device__ inline void multiplyInt4(float (&sums)[2][4], const char* weights, bool hasWeights,
                                    const char* line, bool hasLine, u32 upperWord,
                                    u32 lowerWord) {
  const uint4 upper = load16(weights, hasWeights);
  const uint4 lower = load16(weights + GROUP_ROWS / 2 * ROW_PITCH, hasWeights);
  const u32 upperCodes[4] = {upper.x, upper.y, upper.z, upper.w};
  const u32 lowerCodes[4] = {lower.x, lower.y, lower.z, lower.w};
  const Int4Halves upperHalves(upperWord), lowerHalves(lowerWord);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const uint4 x = load16(line + i * 64, hasLine);
    const uint4 a = upperHalves.widen(upperCodes[i]);
    const uint4 b = lowerHalves.widen(lowerCodes[i]);
    multiplyTile(sums[0], a.x, b.x, a.y, b.y, x.x, x.y);
    multiplyTile(sums[1], a.z, b.z, a.w, b.w, x.z, x.w);
  }
}

/** Scales of a lane's two weight rows, by span of the warp's slice. */
struct Scales {
  const float* rows[2];
  float values[SPANS][2];
  float spansPerBlock;

  __device__ Scales(const Product& product) {
    spansPerBlock = (float)((product.blockInputs + SPAN - 1) / SPAN);
  }
  __device__ void select(const Product& product, int upperRow, int lowerRow) {
    const int perRow = (product.inputs + product.blockInputs - 1) / product.blockInputs;
    rows[0] = product.scales + (i64)(max(upperRow, 0) / product.blockOutputs) * perRow;
    rows[1] = product.scales + (i64)(max(lowerRow, 0) / product.blockOutputs) * perRow;
  }
  __device__ void load(const Product& product, int column) {
#pragma unroll
    for (int span = 0; span < SPANS; span++) {
      const int index = min(column + span * SPAN, product.inputs - 1) / SPAN;
      // Exact for all indices below 2^20, and far shorter than a division of integers.
      const int block = (int)__fdividef((float)index + 0.5f, spansPerBlock);
      values[span][0] = rows[0][block];
      values[span][1] = rows[1][block];
    }
  }
};

/** What the consumers leave for each other: sums by warp, of the groups that are not stored yet. */
struct Partials {
  float sums[PENDING_GROUPS][CONSUMER_WARPS][LINE_COUNT][GROUP_ROWS];
  float squares[CONSUMER_WARPS][LINE_COUNT];
};

/** A consuming warp: multiplies the same columns of each stage and stores what groups add up to. */
template <Then then, typename Out> struct Consumer {
  const Product& product;
  const Share<then>& share;
  const Ring& ring;
  const Lines& lines;
  Partials& partials;
  int warp = threadIdx.x / WARP_LANES;
  int lane = threadIdx.x % WARP_LANES;
  /** A lane's rows are `own` and `own` + 8, its line of the input `own`, its columns a quarter. */
  int own = lane / 4, quarter = lane % 4;

#if FORMAT == 2
  /** Of two rows the sums over a slice of lines 2 * quarter and 2 * quarter + 1. */
  template <bool IS_WHOLE>
  __device__ void multiplySpans(float (&sums)[4], const char* stage, int column) const {
    const char* row = stage + own * ROW_PITCH;
    const char* weights = row + (warp * SLICE + quarter * LANE_COLUMNS) * ELEMENT_BITS / 8;
    const char* line = lines.at(own, column) + quarter * 16;
    const int columnsLeft = product.inputs - column;
    // Of a row that has one word, that is the first.
    const bool isOfRow = product.blockInputs != SPAN;
    const char* words = row + CHUNK_BYTES + (isOfRow ? 0 : warp * SPANS * 4);
#pragma unroll
    for (int span = 0; span < SPANS; span++) {
      // Past the end there are none: what would be multiplied is zero.
      const bool isGiven = IS_WHOLE || span * SPAN < columnsLeft;
      const u32* word = (const u32*)words + (isOfRow ? 0 : span);
      const u32 upper = isGiven ? word[0] : 0;
      const u32 lower = isGiven ? word[GROUP_ROWS / 2 * ROW_PITCH / 4] : 0;
      const bool hasWeights =
          IS_WHOLE || span * SPAN + quarter * LANE_COLUMNS < columnsLeft;
      float parts[2][4] = {};
      multiplyInt4(parts, weights + span * 64, hasWeights, line + span * TILE * 2,
                   own < LINE_COUNT, upper, lower);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int factorLine = min(2 * quarter + i % 2, LINE_COUNT - 1);
        sums[i] += (parts[0][i] + parts[1][i]) * int4Scale(i < 2 ? upper : lower) *
                   lines.factor(factorLine, column + span * SPAN);
      }
    }
  }
  __device__ void multiplySlice(float (&sums)[4], const char* stage, int column,
                                const Scales& scales) const {
    if (column + SLICE <= product.inputs) {
      multiplySpans<true>(sums, stage, column);
    } else if (column < product.inputs) {
      multiplySpans<false>(sums, stage, column);
    }
  }
#else
  /** Of two rows the sums over a slice of lines 2 * quarter and 2 * quarter + 1. */
  __device__ void multiplySlice(float (&sums)[4], const char* stage, int column,
                                const Scales& scales) const {
    const int skipped = quarter * LANE_COLUMNS;
    const char* weights = stage + own * ROW_PITCH + (warp * SLICE + skipped) * ELEMENT_BITS / 8;
    const int columnsLeft = product.inputs - column - skipped;
    const char* line = lines.at(own, column + skipped);
#pragma unroll
    for (int span = 0; span < SPANS; span++) {
      float parts[2][4] = {};
#pragma unroll
      for (int tile = span * (SPAN / TILE); tile < (span + 1) * (SPAN / TILE); tile++) {
        multiplyColumns(parts, weights + tile * 64, tile * TILE < columnsLeft,
                        line + tile * TILE * 2, own < LINE_COUNT);
      }
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float part = parts[0][i] + parts[1][i];
        const int factorLine = min(2 * quarter + i % 2, LINE_COUNT - 1);
        sums[i] += FORMAT == 1 ? part * scales.values[span][i / 2] *
                                     lines.factor(factorLine, column + span * SPAN)
                               : part;
      }
    }
  }
#endif

  __device__ void run() {
    const int groups = share.groups();
    Cursor at;
    Scales scales(product);
    for (int group = 0; group < groups; group++) {
      const int upperRow = share.weightRow(group, own), lowerRow = share.weightRow(group, own + 8);
      if (FORMAT == 1) scales.select(product, upperRow, lowerRow);
      float sums[4] = {};
      for (int column = warp * SLICE; column < lines.columns; column += CHUNK) {
        if (FORMAT == 1) scales.load(product, column);
        awaitPhase(ring.full[at.slot], at.round & 1);
        multiplySlice(sums, ring.stages + at.slot * STAGE_BYTES, column, scales);
        __syncwarp();
        arriveAsWarp(ring.empty[at.slot]);
        at.advance(product.stages);
      }
      const int pending = group % PENDING_GROUPS;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int line = 2 * quarter + i % 2;
        if (line < LINE_COUNT) partials.sums[pending][warp][line][own + i / 2 * 8] = sums[i];
      }
      if (pending == PENDING_GROUPS - 1 || group == groups - 1) store(group - pending, pending + 1);
    }
  }

  /** Stores the outputs of `groups` groups from `firstGroup` on: one by each thread. */
  __device__ void store(int firstGroup, int groups) const {
    constexpr int GROUP_UNITS = Share<then>::GROUP_UNITS;
    const int line = threadIdx.x / (PENDING_GROUPS * GROUP_UNITS);
    const int group = threadIdx.x / GROUP_UNITS % PENDING_GROUPS;
    const int row = threadIdx.x % GROUP_UNITS;
    const int unit = group < groups ? share.weightRow(firstGroup + group, row) : -1;
    const bool stores = line < LINE_COUNT && unit >= 0;
    Out* out = (Out*)product.out + (i64)line * share.units + unit;
    // These loads overlap with the wait for the slowest warp.
    float bias[2] = {};
    if (stores && product.bias != nullptr) {
      bias[0] = widen(product.bias[unit]);
      if (then == GATE) bias[1] = widen(product.bias[share.units + unit]);
    }
    const float earlier = stores && then == ADD ? widen(*(const bf16*)out) : 0.0f;
    meetConsumers();
    if (stores) {
      float squares = 0.0f, sum = 0.0f, up = 0.0f;
#pragma unroll
      for (int w = 0; w < CONSUMER_WARPS; w++) {
        squares += partials.squares[w][line];
        sum += partials.sums[group][w][line][row];
        if (then == GATE) up += partials.sums[group][w][line][row + GROUP_UNITS];
      }
      const float mean = squares / (float)product.inputs;
      const float norm = product.normWeight != nullptr ? rsqrtf(mean + product.epsilon) : 1.0f;
      float value = sum * norm + bias[0];
      if (then == GATE) value = ACTIVATE(value) * (up * norm + bias[1]);
      put(out, value + earlier);
    }
    meetConsumers();
  }
};

/** Brings what never changes and is soon read to L2. */
__device__ inline void prefetch(const void* start, int bytes) {
  for (int at = threadIdx.x * 128; at < bytes; at += CONSUMERS * 128) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"((const char*)start + at));
  }
}

template <Then then, typename Out> __device__ void linear(const Product& product) {
  extern __shared__ __align__(128) char dynamic[];
  __shared__ Partials partials;
  __shared__ u64 barriers[2 * MAX_STAGES];
  const Ring ring = {dynamic, barriers, barriers + MAX_STAGES};
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < product.stages; stage++) {
      initBarrier(ring.full[stage], FORMAT == 2 ? WARP_LANES : GROUP_ROWS);
      initBarrier(ring.empty[stage], CONSUMER_WARPS * WARP_ARRIVALS);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  const Share<then> share(product.outputs);
  if (threadIdx.x >= CONSUMERS) {
    copyWeights(product, share, ring);
    awaitEarlier();
    return;
  }
  if (product.normWeight != nullptr) prefetch(product.normWeight, product.inputs * 2);
  awaitEarlier();
  const Lines lines(dynamic + product.stages * STAGE_BYTES, product.inputs);
  float squares[LINE_COUNT] = {};
  readInput(product, lines, squares);
#pragma unroll
  for (int line = 0; line < LINE_COUNT; line++) {
    const float sum = warpSum(squares[line]);
    if (threadIdx.x % WARP_LANES == 0) partials.squares[threadIdx.x / WARP_LANES][line] = sum;
  }
  meetConsumers();
  Consumer<then, Out>{product, share, ring, lines, partials}.run();
}

/*
 * input [LINE_COUNT, inputs], weight [outputs, inputs], bias [outputs] or null, normWeight [inputs]
 * or null; scales [ceil(outputs / blockOutputs), ceil(inputs / blockInputs)], read where FORMAT is
 * not 0. A weight row is a multiple of 16 bytes; blockInputs one of SPAN, or inputs at the least,
 * and with FORMAT 2 either of both itself.
 * `stages` is the ring's length, at most MAX_STAGES: best so long that one block alone fits on a
 * multiprocessor, or two of the next kernel may share one while another has none. The next kernel
 * may start once at most `stepsLeft` stages of a block are still to be asked for.
 */
#define PARAMETERS                                                                               \
  const bf16 *input, const char *weight, const float *scales, const bf16 *bias,                  \
      const bf16 *normWeight, void *out, int inputs, int outputs, int blockInputs,               \
      int blockOutputs, float epsilon, float normOffset, int stages, int stepsLeft
#define PRODUCT                                                                                  \
  {input, weight, scales, bias, normWeight, out, inputs, outputs, blockInputs, blockOutputs,     \
   epsilon, normOffset, stages, stepsLeft}

/** out[LINE_COUNT, outputs] = product. */
extern "C" __global__ void __launch_bounds__(THREADS) linear_store(PARAMETERS) {
  linear<STORE, bf16>(PRODUCT);
}
extern "C" __global__ void __launch_bounds__(THREADS) linear_store_f32(PARAMETERS) {
  linear<STORE, float>(PRODUCT);
}
/** out[LINE_COUNT, outputs] += product. */
extern "C" __global__ void __launch_bounds__(THREADS) linear_add(PARAMETERS) {
  linear<ADD, bf16>(PRODUCT);
}
/** out[LINE_COUNT, outputs / 2] = ACTIVATE(first half of product) * second half. */
extern "C" __global__ void __launch_bounds__(THREADS) linear_gate(PARAMETERS) {
  linear<GATE, bf16>(PRODUCT);
}
