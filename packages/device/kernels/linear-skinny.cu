#include "fp8.cuh"
#include "hopper.cuh"
#include "int4.cuh"
#include "skinny-product.cuh"

// out[count, outputs] = input[count, inputs] * weight[outputs, inputs]^T for a few to a hundred
// lines: too many to add up one by one, too few for the weights' bytes not to matter most. The
// weights are the A operand of wgmma, from registers, so that FP8 can be widened on its way; the
// lines are its B operand, in shared memory.
//
// A block has ROWS weight rows, LINE_TILE lines, and its share of the inputs: the blocks of a
// cluster split the inputs between them and add up, in the same order each time, through each
// other's shared memory. One warpgroup copies stages of weights and lines into a ring, the others
// multiply. The first weights are under way before earlier kernels have ended.
//
// A stage is 128 bytes of each row: eight pieces of 16 bytes. Tensor cores want inputs 2t, 2t+1,
// 2t+8 and 2t+9 of every 16 in thread t of four, which would be loads of 2 bytes. But the order of
// the inputs is free, as long as both operands agree: so thread t takes whole pieces 2t and 2t+1,
// and the lines are brought into that order in shared memory.
//
// Fixed when compiled: FORMAT (0: bf16 weights, 1: FP8 e4m3 with scales, 2: int4 with a scale and a
// zero point for each SPAN inputs or for a row), LINE_TILE (8, 16, 32 or 64), WARPGROUPS (each
// multiplies 64 rows), RING_STAGES (of the ring) and MIN_BLOCKS (that share a multiprocessor);
// where a gate is not silu, GELU. Of int4 also STAGE_SPANS (1 or 2), which a stage has: with one, a
// stage has half as many bytes, and consumers hold half as many weights in registers.

#ifdef GELU
#define ACTIVATE geluTanh
#else
#define ACTIVATE silu
#endif

#define ROWS (WARPGROUPS * 64)
#define CONSUMERS (WARPGROUPS * WARPGROUP)
#define COPIERS WARPGROUP
#define THREADS (CONSUMERS + COPIERS)
/**
 * Each quarter of a multiprocessor has 512 registers for a lane of every warp, and one warp of each
 * warpgroup. The copiers leave most of theirs to the consumers.
 */
#define LAUNCH_REGISTERS (512 / MIN_BLOCKS / (WARPGROUPS + 1) / 8 * 8)
#define COPIER_REGISTERS 32
#define CONSUMER_REGISTERS \
  ((LAUNCH_REGISTERS * (WARPGROUPS + 1) - COPIER_REGISTERS) / WARPGROUPS / 8 * 8)
/** The barrier at which consumers meet each other. */
#define CONSUMER_BARRIER 1

#if FORMAT == 2
#define ROW_BYTES (64 * STAGE_SPANS)
#else
#define ROW_BYTES 128
#endif
#define PIECE_BYTES 16
#define ROW_PIECES (ROW_BYTES / PIECE_BYTES)
#define WEIGHT_BITS (FORMAT == 0 ? 16 : FORMAT == 1 ? 8 : 4)
#define PIECE_INPUTS (PIECE_BYTES * 8 / WEIGHT_BITS)
#define STAGE_INPUTS (ROW_BYTES * 8 / WEIGHT_BITS)
#define STAGE_ROW_BYTES (ROWS * ROW_BYTES)
/** Inputs of int4 that share a scale and a zero point, and the words that a row has in a stage. */
#define SPAN 128
#if FORMAT == 2
#define STAGE_SCALE_BYTES (ROWS * STAGE_SPANS * 4)
#else
#define STAGE_SCALE_BYTES 0
#endif

/** 64 inputs of all lines are a panel: what a swizzled line of shared memory holds. */
#define PANELS (STAGE_INPUTS / 64)
#define PANEL_STEPS 4
#define PANEL_BYTES (LINE_TILE * SWIZZLE_LINE)
#define STAGE_LINE_BYTES (PANELS * PANEL_BYTES)
#define LINE_PIECES (STAGE_INPUTS / 8)
/** Of a line in a stage: a job brings half of a panel's line into order. */
#define LINE_JOBS (PANELS * 2)
#define JOBS ((LINE_TILE * LINE_JOBS + CONSUMERS - 1) / CONSUMERS)

/** Floats of a line of sums in shared memory: four more keep the threads' banks apart. */
#define SUM_STRIDE (ROWS + 4)

enum Finish { STORE, STORE_F32, ADD, GATE };

/** The ring of weights, that of lines, and their barriers; in the end the sums. */
extern __shared__ __align__(1024) unsigned char sharedBytes[];

struct Barriers {
  u64 full[RING_STAGES], empty[RING_STAGES];
};
#define SCALES_AT (RING_STAGES * (STAGE_ROW_BYTES + STAGE_LINE_BYTES))
#define BARRIERS_AT (SCALES_AT + RING_STAGES * STAGE_SCALE_BYTES)
static_assert(LINE_TILE * SUM_STRIDE * 4 <= BARRIERS_AT, "the sums must fit into the ring");

/** What a launch works on: see the kernel at the end. */
struct Problem {
  const bf16* input;
  const unsigned char* weight;
  const float* scales;
  const bf16* bias;
  void* out;
  int count;
  int inputs;
  int outputs;
  int blockInputs;
  int blockOutputs;
  int finish;
};

/** What a block works on. A gate's tile has ROWS / 2 rows of either half of the weight. */
struct Share {
  bool isGate;
  /** Rows of the weight, or of its half: outputs are as many. */
  int rows;
  int firstRow;
  int firstLine;
  int firstStage;
  int stages;

  __device__ explicit Share(const Problem& problem) {
    isGate = problem.finish == GATE;
    rows = isGate ? problem.outputs / 2 : problem.outputs;
    firstRow = blockIdx.z * (isGate ? ROWS / 2 : ROWS);
    firstLine = blockIdx.y * LINE_TILE;
    const int all = (problem.inputs + STAGE_INPUTS - 1) / STAGE_INPUTS;
    firstStage = (int)((i64)all * blockIdx.x / gridDim.x);
    stages = (int)((i64)all * (blockIdx.x + 1) / gridDim.x) - firstStage;
  }

  /** The weight's row that is in a row of the tile. Past the end any will do: none is written. */
  __device__ int weightRow(int tileRow) const {
    const bool isOther = isGate && tileRow >= ROWS / 2;
    const int row = min(firstRow + tileRow - (isOther ? ROWS / 2 : 0), rows - 1);
    return isOther ? rows + row : row;
  }
};

__device__ inline Barriers& barriers() { return *(Barriers*)(sharedBytes + BARRIERS_AT); }
__device__ inline u32 rowsAddress(int slot) {
  return sharedAddress(sharedBytes) + slot * STAGE_ROW_BYTES;
}
__device__ inline u32 linesAddress(int slot) {
  return sharedAddress(sharedBytes) + RING_STAGES * STAGE_ROW_BYTES + slot * STAGE_LINE_BYTES;
}
/** Where a row's words of int4 are in a stage. */
__device__ inline u32 scalesAddress(int slot, int row) {
  return sharedAddress(sharedBytes) + SCALES_AT + slot * STAGE_SCALE_BYTES +
         row * (STAGE_SCALE_BYTES / ROWS);
}
/** Where a row's piece lies in a stage: two rows that are read at once meet in no bank. */
__device__ inline u32 rowPlace(int row, int piece) {
  // Rows of 64 bytes do not anyway.
  const int turn = FORMAT != 2 ? row & 1 : ROW_PIECES == 8 ? (row & 1) * 4 : 0;
  return row * ROW_BYTES + (piece ^ turn) * PIECE_BYTES;
}
/** Where four pieces of a line lie that a job brings into order: half of the line in a panel. */
__device__ inline u32 piecePlace(int line, int part, int piece) {
  return part / 2 * PANEL_BYTES + swizzled(line, part % 2 * 4 + piece);
}
__device__ inline uint4 loadShared(u32 address) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(address)
               : "memory");
  return value;
}
__device__ inline void storeShared(u32 address, u32 x, u32 y, u32 z, u32 w) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(x), "r"(y), "r"(z),
               "r"(w)
               : "memory");
}

/** Rows past the end repeat the last one; inputs past the end are zeros. */
__device__ inline void copyRows(const Problem& problem, const Share& share, int stage, int slot) {
  const int copier = threadIdx.x - CONSUMERS;
  const int piece = copier % ROW_PIECES;
  const int input = (share.firstStage + stage) * STAGE_INPUTS + piece * PIECE_INPUTS;
  const bool isZero = input >= problem.inputs;
  const unsigned char* source = problem.weight + (isZero ? 0 : (i64)input * WEIGHT_BITS / 8);
  const i64 stride = (i64)problem.inputs * WEIGHT_BITS / 8;
  constexpr int step = COPIERS / ROW_PIECES;
#pragma unroll 4
  for (int first = 0; first < ROWS; first += step) {
    const int row = first + copier / ROW_PIECES;
    const u32 target = rowsAddress(slot) + rowPlace(row, piece);
    copyPiece(target, source + share.weightRow(row) * stride, isZero);
  }
#if FORMAT == 2
  // Inputs past the end have a scale of zero.
  const int perRow = problem.inputs / problem.blockInputs;
  for (int i = copier; i < ROWS * STAGE_SPANS; i += COPIERS) {
    const int row = i / STAGE_SPANS;
    const int start = (share.firstStage + stage) * STAGE_INPUTS + i % STAGE_SPANS * SPAN;
    const bool isPast = start >= problem.inputs;
    const float* word = problem.scales + (i64)share.weightRow(row) * perRow;
    if (!isPast) word += start / problem.blockInputs;
    copyWord(scalesAddress(slot, row) + i % STAGE_SPANS * 4, word, isPast);
  }
#endif
}

/**
 * Lines past the end are zeros: were they the last one, all blocks would ask for the same bytes
 * again and again. Inputs past the end meet weights that are zeros, but for int4, whose zeros need
 * not be zero.
 */
__device__ inline void copyLines(const Problem& problem, const Share& share, int stage, int slot) {
  const int copier = threadIdx.x - CONSUMERS;
  const int piece = copier % LINE_PIECES;
  const int input = (share.firstStage + stage) * STAGE_INPUTS + piece * 8;
  const bf16* source = problem.input + min(input, problem.inputs - 8);
  constexpr int step = COPIERS / LINE_PIECES;
#pragma unroll 4
  for (int first = 0; first < LINE_TILE; first += step) {
    const int line = first + copier / LINE_PIECES;
    if (LINE_TILE % step != 0 && line >= LINE_TILE) break;
    const bool isPast = share.firstLine + line >= problem.count;
    const i64 index = isPast ? 0 : share.firstLine + line;
#if FORMAT == 2
    // A thread's 16 bytes of weights have 32 inputs of a span.
    const u32 place = piecePlace(line, piece / 16 * 4 + piece % 4, piece % 16 / 4);
    const bool isZero = isPast || input >= problem.inputs;
#else
    const u32 place = piecePlace(line, piece % LINE_JOBS, piece / LINE_JOBS);
    const bool isZero = isPast;
#endif
    copyPiece(linesAddress(slot) + place, source + index * problem.inputs, isZero);
  }
}

/** Keeps the ring full. */
__device__ inline void copyStages(const Problem& problem, const Share& share) {
  const int ahead = min(RING_STAGES, share.stages);
  for (int stage = 0; stage < ahead; stage++) copyRows(problem, share, stage, stage);
  awaitEarlier();
  for (int stage = 0; stage < ahead; stage++) {
    copyLines(problem, share, stage, stage);
    arriveWhenCopied(barriers().full[stage]);
  }
  int slot = 0, parity = 0;
  for (int stage = RING_STAGES; stage < share.stages; stage++) {
    awaitPhase(barriers().empty[slot], parity);
    copyRows(problem, share, stage, slot);
    copyLines(problem, share, stage, slot);
    arriveWhenCopied(barriers().full[slot]);
    slot = slot == RING_STAGES - 1 ? 0 : slot + 1;
    if (slot == 0) parity ^= 1;
  }
  // Later kernels fill the memory system with their first weights as soon as this one has no more
  // to ask for; sooner they would only take its bandwidth.
  letNextStart();
}

/** Word c of four threads' pieces becomes what the tensor cores take as one piece. */
__device__ inline void orderLines(int slot) {
#pragma unroll
  for (int i = 0; i < JOBS; i++) {
    // Jobs of eight neighbours meet in no bank.
    const int job = threadIdx.x + i * CONSUMERS;
    if (LINE_TILE * LINE_JOBS % CONSUMERS != 0 && job >= LINE_TILE * LINE_JOBS) break;
    const int line = job / (8 * LINE_JOBS) * 8 + job % 8;
    const int part = job / 8 % LINE_JOBS;
    u32 place[4];
    uint4 piece[4];
#pragma unroll
    for (int t = 0; t < 4; t++) {
      place[t] = linesAddress(slot) + piecePlace(line, part, t);
      piece[t] = loadShared(place[t]);
      if (FORMAT == 2) piece[t] = orderedAsInt4(piece[t]);
    }
    storeShared(place[0], piece[0].x, piece[1].x, piece[2].x, piece[3].x);
    storeShared(place[1], piece[0].y, piece[1].y, piece[2].y, piece[3].y);
    storeShared(place[2], piece[0].z, piece[1].z, piece[2].z, piece[3].z);
    storeShared(place[3], piece[0].w, piece[1].w, piece[2].w, piece[3].w);
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/** The A operand of a panel: for each step rows g and g + 8, first its low half, then its high. */
struct Fragments {
  u32 values[PANEL_STEPS][4];

#if FORMAT == 2
  /** The panel of a span whose codes are `low` and `high` for row g, or g + 8. */
  __device__ void loadInt4(int half, u32 low, u32 high, u32 zeros) {
    set(0, half, widenInt4(low, zeros));
    set(2, half, widenInt4(high, zeros));
  }
#else
  /** Row g of the warp, and thread t of four, are the lane's. */
  __device__ void load(int slot, int panel) {
    const int lane = threadIdx.x % WARP_LANES;
    const int row = threadIdx.x / WARP_LANES * 16 + lane / 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const auto pieceAt = [&](int piece) {
        return loadShared(rowsAddress(slot) + rowPlace(row + half * 8, lane % 4 * 2 + piece));
      };
#if FORMAT == 1
      const uint4 piece = pieceAt(panel);
      set(0, half, widenFp8(piece.x, piece.y));
      set(2, half, widenFp8(piece.z, piece.w));
#else
      set(0, half, pieceAt(0));
      set(2, half, pieceAt(1));
#endif
    }
  }
#endif

  /** Of two steps. */
  __device__ void set(int step, int half, uint4 inputs) {
    values[step][half] = inputs.x;
    values[step][half + 2] = inputs.y;
    values[step + 1][half] = inputs.z;
    values[step + 1][half + 2] = inputs.w;
  }
};

#if FORMAT == 2
/** A thread's rows g and g + 8, and their words of a stage, span by span. */
struct Words {
  u32 values[STAGE_SPANS][2];

  __device__ explicit Words(int slot) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const u32 address = scalesAddress(slot, threadRow() + half * 8);
#pragma unroll
      for (int span = 0; span < STAGE_SPANS; span++) {
        asm volatile("ld.shared.u32 %0, [%1];"
                     : "=r"(values[span][half])
                     : "r"(address + span * 4)
                     : "memory");
      }
    }
  }
  __device__ static int threadRow() {
    return threadIdx.x / WARP_LANES * 16 + threadIdx.x % WARP_LANES / 4;
  }
};

/** Starts to multiply a stage: parts of each span. */
__device__ inline void multiplyStage(float (&parts)[STAGE_SPANS][SUMS], int slot,
                                     const Words& words) {
  Fragments rows[PANELS];
#pragma unroll
  for (int span = 0; span < STAGE_SPANS; span++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int piece = span * 4 + threadIdx.x % 4;
      const u32 place = rowPlace(Words::threadRow() + half * 8, piece);
      const uint4 codes = loadShared(rowsAddress(slot) + place);
      const u32 zeros = int4Zeros(words.values[span][half]);
      rows[2 * span].loadInt4(half, codes.x, codes.y, zeros);
      rows[2 * span + 1].loadInt4(half, codes.z, codes.w, zeros);
    }
    beginProducts();
#pragma unroll
    for (int panel = 0; panel < 2; panel++) {
      const u32 address = linesAddress(slot) + (2 * span + panel) * PANEL_BYTES;
      const u64 lines = describe(address, 16, SWIZZLE_ATOM);
#pragma unroll
      for (int step = 0; step < PANEL_STEPS; step++) {
        const bool isLater = panel + step > 0;
        multiply(parts[span], rows[2 * span + panel].values[step], further(lines, step * 32),
                 isLater);
      }
    }
    commitProducts();
  }
}
#else
/** Starts to multiply a stage, in one group of products for each panel. */
__device__ inline void multiplyStage(float (&sums)[SUMS], int slot, bool isAdded) {
  Fragments rows[PANELS];
#pragma unroll
  for (int panel = 0; panel < PANELS; panel++) {
    const u64 lines = describe(linesAddress(slot) + panel * PANEL_BYTES, 16, SWIZZLE_ATOM);
    rows[panel].load(slot, panel);
    beginProducts();
#pragma unroll
    for (int step = 0; step < PANEL_STEPS; step++) {
      // In swizzled lines a step's 32 bytes are found where they would be without.
      const bool isLater = isAdded || panel + step > 0;
      multiply(sums, rows[panel].values[step], further(lines, step * 32), isLater);
    }
    commitProducts();
  }
}
#endif

/** The scales of a thread's rows g and g + 8, of one stage after the other. */
struct Scales {
  const float* row[2];
  float values[2];
  int block;
  int lastBlock;
  int blockStages;
  /** Stages that the values are good for. */
  int left;

  __device__ Scales(const Problem& problem, const Share& share) {
    lastBlock = (problem.inputs - 1) / problem.blockInputs;
    blockStages = max(problem.blockInputs / STAGE_INPUTS, 1);
    block = share.firstStage / blockStages;
    left = (block + 1) * blockStages - share.firstStage;
    block = min(block, lastBlock);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int lane = threadIdx.x % WARP_LANES;
      const int tileRow = threadIdx.x / WARP_LANES * 16 + lane / 4 + half * 8;
      const i64 line = share.weightRow(tileRow) / problem.blockOutputs;
      row[half] = problem.scales + line * (lastBlock + 1);
      values[half] = row[half][block];
    }
  }

  /** sums += scales * parts of a stage; then come those of the next. */
  __device__ void apply(float (&sums)[SUMS], const float (&parts)[SUMS]) {
#pragma unroll
    for (int i = 0; i < SUMS; i++) sums[i] += values[i % 4 / 2] * parts[i];
    if (--left > 0) return;
    left = blockStages;
    block = min(block + 1, lastBlock);
    values[0] = row[0][block];
    values[1] = row[1][block];
  }
};

/** The sums, as lines of rows, where the cluster's other blocks can read them. */
__device__ inline void publish(const float (&sums)[SUMS]) {
  const int lane = threadIdx.x % WARP_LANES;
  float* target = (float*)sharedBytes + threadIdx.x / WARP_LANES * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < SUMS; i++) {
    const int line = i / 4 * 8 + lane % 4 * 2 + i % 2;
    target[line * SUM_STRIDE + i % 4 / 2 * 8] = sums[i];
  }
}

/** Multiplies what the ring brings; the sums end up where the stages were. */
__device__ inline void multiplyStages(const Problem& problem, const Share& share) {
  float sums[SUMS];
#pragma unroll
  for (int i = 0; i < SUMS; i++) sums[i] = 0.0f;
#if FORMAT == 1
  Scales scales(problem, share);
#endif
  awaitEarlier();
  if (share.stages > 0) {
    awaitPhase(barriers().full[0], 0);
    orderLines(0);
  }
  int slot = 0, parity = 0;
  for (int stage = 0; stage < share.stages; stage++) {
    meet(CONSUMER_BARRIER, CONSUMERS);
#if FORMAT == 1
    float parts[SUMS];
    multiplyStage(parts, slot, false);
#elif FORMAT == 2
    float parts[STAGE_SPANS][SUMS];
    const Words words(slot);
    multiplyStage(parts, slot, words);
#else
    multiplyStage(sums, slot, stage > 0);
#endif
    const int done = slot;
    slot = slot == RING_STAGES - 1 ? 0 : slot + 1;
    if (slot == 0) parity ^= 1;
    if (stage + 1 < share.stages) {
      // While the tensor cores work: the lines of the next stage.
      awaitPhase(barriers().full[slot], parity);
      orderLines(slot);
    }
    awaitProducts<0>();
    arriveAsWarp(barriers().empty[done]);
#if FORMAT == 1
    scales.apply(sums, parts);
#elif FORMAT == 2
#pragma unroll
    for (int span = 0; span < STAGE_SPANS; span++) {
#pragma unroll
      for (int i = 0; i < SUMS; i++) {
        sums[i] += int4Scale(words.values[span][i % 4 / 2]) * parts[span][i];
      }
    }
#endif
  }
  meet(CONSUMER_BARRIER, CONSUMERS);
  publish(sums);
}

/**
 * Waits until all blocks of the cluster have published their sums. A lone block's sums concern its
 * consumers alone, and a cluster's barrier would be __syncthreads to it, which must not stand in
 * one branch only.
 */
template <bool IS_CONSUMER>
__device__ inline void awaitCluster() {
  if (gridDim.x > 1) {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  } else if (IS_CONSUMER) {
    meet(CONSUMER_BARRIER, CONSUMERS);
  }
}

/** Four rows' sums of a line over all blocks of the cluster, in the order of the inputs. */
__device__ inline void gather(float (&sums)[4], int line, int row) {
  const u32 local = sharedAddress(sharedBytes) + (line * SUM_STRIDE + row) * 4;
  for (int i = 0; i < 4; i++) sums[i] = 0.0f;
  for (u32 block = 0; block < gridDim.x; block++) {
    u32 remote;
    float parts[4];
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(block));
    asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(parts[0]), "=f"(parts[1]), "=f"(parts[2]), "=f"(parts[3])
                 : "r"(remote)
                 : "memory");
    for (int i = 0; i < 4; i++) sums[i] += parts[i];
  }
}

__device__ inline void addBias(float (&values)[4], const bf16* bias, int row, int rows) {
  if (bias == nullptr) return;
  for (int i = 0; i < 4; i++) {
    if (row + i < rows) values[i] += widen(bias[row + i]);
  }
}

/** Four outputs of a line from `column` on, of which those past `width` do not exist. */
__device__ inline void write(const Problem& problem, const float (&values)[4], i64 line, int column,
                             int width) {
  const i64 offset = line * width + column;
  if (problem.finish == STORE_F32) {
    float* target = (float*)problem.out + offset;
    if (width % 4 == 0) {
      *(float4*)target = make_float4(values[0], values[1], values[2], values[3]);
    } else {
      for (int i = 0; i < 4 && column + i < width; i++) target[i] = values[i];
    }
    return;
  }
  bf16* target = (bf16*)problem.out + offset;
  const bool adds = problem.finish == ADD;
  if (width % 4 == 0) {
    uint2 old = make_uint2(0, 0);
    if (adds) old = *(const uint2*)target;
    *(uint2*)target =
        make_uint2(narrowPair(values[0] + widenLow(old.x), values[1] + widenHigh(old.x)),
                   narrowPair(values[2] + widenLow(old.y), values[3] + widenHigh(old.y)));
  } else {
    for (int i = 0; i < 4 && column + i < width; i++) {
      target[i] = narrow(values[i] + (adds ? widen(target[i]) : 0.0f));
    }
  }
}

/** Adds up the cluster's sums and writes this block's part of them. */
__device__ inline void finishTile(const Problem& problem, const Share& share) {
  const int groups = (share.isGate ? ROWS / 2 : ROWS) / 4;
  const int lines = min(LINE_TILE, problem.count - share.firstLine);
  const int stride = gridDim.x * CONSUMERS;
  for (int i = blockIdx.x * CONSUMERS + threadIdx.x; i < lines * groups; i += stride) {
    const int line = i / groups;
    const int row = i % groups * 4;
    const int column = share.firstRow + row;
    if (column >= share.rows) continue;
    float values[4];
    gather(values, line, row);
    addBias(values, problem.bias, column, share.rows);
    if (share.isGate) {
      float factors[4];
      gather(factors, line, row + ROWS / 2);
      addBias(factors, problem.bias, column + share.rows, problem.outputs);
      for (int j = 0; j < 4; j++) values[j] = ACTIVATE(values[j]) * factors[j];
    }
    write(problem, values, share.firstLine + line, column, share.rows);
  }
}

/**
 * Grid: x blocks of a cluster (which split the inputs), y tiles of LINE_TILE lines, z tiles of ROWS
 * outputs (for a gate: of ROWS / 2). `finish` is a Finish; a gate's out is [count, outputs / 2].
 * Scales and their blocks are for packed weights alone; of FP8 blockInputs is a multiple of 128 or
 * not below inputs, which are a multiple of 16; of int4 it is SPAN, or inputs, which are a multiple
 * of 32. bias may be null.
 */
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    linear_skinny(const __grid_constant__ Problem problem) {
  const Share share(problem);
  if (threadIdx.x < RING_STAGES) {
    initBarrier(barriers().full[threadIdx.x], COPIERS);
    initBarrier(barriers().empty[threadIdx.x], CONSUMERS / WARP_LANES * WARP_ARRIVALS);
  }
  __syncthreads();
  if (threadIdx.x < CONSUMERS) {
    takeRegisters<CONSUMER_REGISTERS>();
    multiplyStages(problem, share);
    awaitCluster<true>();
    finishTile(problem, share);
    // Others may still read this block's sums.
    awaitCluster<true>();
  } else {
    leaveRegisters<COPIER_REGISTERS>();
    copyStages(problem, share);
    awaitCluster<false>();
    awaitCluster<false>();
  }
}
