#include "fp8.cuh"
#include "prefill-softmax.cuh"

// Runs of tokens against their contexts on Hopper's tensor cores, after FlashAttention-3 (Shah et
// al., 2024). One warpgroup of a block loads; the others, 64 query lines each, work out scores and
// add up values, and while the tensor cores multiply for one of them the others weigh theirs. A
// tile is LINES query lines: for GQA the lines of the heads that share a KV head lie side by side.
// Tokens of several rows may share a tile: each row's tokens form a segment, in which the other
// lines are masked. Blocks stay and take tile after tile from a common counter, the last tiles of
// the batch, which have the longest contexts, first.
//
// Fixed when compiled: HEAD_DIM (64, 80, 96 or 128) and KV_FORMAT (0: bf16, 1: FP8 E4M3).

#define LOADER_WARPS 4
#define THREADS ((CONSUMERS + 1) * WARPGROUP)
#define STAGES 2
/** Parts of 64 columns, each a tile of lines of 128 bytes. */
#define PARTS ((HEAD_DIM + 63) / 64)
#define PART_BYTES (POSITIONS * SWIZZLE_LINE)
#define QUERY_PART_BYTES (LINES * SWIZZLE_LINE)
/** The registers of a thread: what three warpgroups get alike, divided by what they need. */
#define LOADER_REGISTERS 72
#define CONSUMER_REGISTERS 216
#define NOWHERE 0xffffffffu

/** Its tiles come first: swizzled lines start at multiples of SWIZZLE_ATOM. */
struct Shared {
  unsigned char keys[STAGES][PARTS * PART_BYTES];
  unsigned char values[STAGES][PARTS * PART_BYTES];
  unsigned char queries[PARTS * QUERY_PART_BYTES];
#if KV_FORMAT == 1
  /** FP8 as it comes: each thread widens what it loaded itself. */
  uint4 packedKeys[POSITIONS * PARTS * 4];
  uint4 packedValues[POSITIONS * PARTS * 4];
#endif
  Plan plans[2];
  u64 planFull[2], planFree[2];
  u64 keysFull[STAGES], keysFree[STAGES];
  u64 valuesFull[STAGES], valuesFree[STAGES];
  u64 queriesFull, queriesFree;
};

// ---- The loaders ----

/**
 * Starts to copy 32 lines of HEAD_DIM columns to swizzled lines from `first` on; lane i says in
 * `line` which line of `source` the i-th is, or NOWHERE for zeros. One warp.
 */
__device__ inline void copyLines(u32 target, u32 partBytes, int first, const bf16* source,
                                 u32 line) {
  const int piece = laneOf() % 8;
#pragma unroll
  for (int i = 0; i < WARP_LANES; i += 4) {
    const int index = i + laneOf() / 8;
    const u32 from = __shfl_sync(FULL_WARP, line, index);
    const bool isZero = from == NOWHERE;
    const bf16* address = source + (u64)(isZero ? 0 : from) * HEAD_DIM + piece * 8;
    const u32 to = target + swizzled(first + index, piece);
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      if (part * 64 + piece * 8 >= HEAD_DIM) continue;
      copyPiece(to + part * partBytes, address + part * 64, isZero);
    }
  }
}

__device__ inline void copyQueries(Shared& shared, const Plan& plan, const bf16* qkv,
                                   const PrefillShape& shape) {
  const int width = shape.heads + LINE_KV * shape.pages.kvHeads;
  for (int first = warpOfGroup() * WARP_LANES; first < LINES; first += WARPGROUP) {
    const i64 index = (i64)plan.tile * LINES + first + laneOf();
    const int token = (int)(index / shape.group);
    const int head = plan.kvHead * shape.group + (int)(index % shape.group);
    const u32 line = token < shape.count ? (u32)token * width + head : NOWHERE;
    copyLines(sharedAddress(shared.queries), QUERY_PART_BYTES, first, qkv, line);
  }
}

/** The line of keys, in lines of HEAD_DIM, that this thread looks up for a tile. */
__device__ inline u32 lineOf(const Cursor& cursor, const PrefillShape& shape) {
  if (cursor.isDone()) return NOWHERE;
  const Segment& segment = cursor.segment;
  const int position = cursor.from + threadIdx.x % WARPGROUP;
  // Counted in lines, an offset fits 32 bits.
  const HeadPages pages(shape.pages, segment.row, cursor.plan.kvHead, HEAD_DIM, HEAD_DIM);
  return position < segment.to ? (u32)pages.offset(position) : NOWHERE;
}

#if KV_FORMAT == 1
/** Starts to copy 32 lines of FP8 to where the same threads widen them from. One warp. */
__device__ inline void requestLines(uint4* packed, const void* source, u32 line) {
  const int piece = laneOf() % 4;
#pragma unroll
  for (int i = 0; i < WARP_LANES; i += 8) {
    const u32 from = __shfl_sync(FULL_WARP, line, i + laneOf() / 4);
    const bool isZero = from == NOWHERE;
    const char* address = (const char*)source + (u64)(isZero ? 0 : from) * HEAD_DIM + piece * 16;
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      if (part * 64 + piece * 16 >= HEAD_DIM) continue;
      const uint4* target = packed + (i / 8 * PARTS + part) * WARPGROUP + threadIdx.x % WARPGROUP;
      copyPiece(sharedAddress(target), address + part * 64, isZero);
    }
  }
  commitCopies();
}

/** Widens what this thread requested to swizzled lines of bf16 from `first` on. */
__device__ inline void widenLines(unsigned char* target, int first, const uint4* packed) {
  const int piece = laneOf() % 4;
#pragma unroll
  for (int i = 0; i < WARP_LANES; i += 8) {
    const int line = first + i + laneOf() / 4;
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      if (part * 64 + piece * 16 >= HEAD_DIM) continue;
      const uint4 values =
          packed[(i / 8 * PARTS + part) * WARPGROUP + threadIdx.x % WARPGROUP];
      unsigned char* to = target + part * PART_BYTES;
      *(uint4*)(to + swizzled(line, piece * 2)) = widenFp8(values.x, values.y);
      *(uint4*)(to + swizzled(line, piece * 2 + 1)) = widenFp8(values.z, values.w);
    }
  }
}
#endif

/** The way of queries, keys and values to shared memory. */
struct Loader {
  Shared& shared;
  const bf16* qkv;
  const void* kv;
  const PrefillShape& shape;
  /** Tiles of keys, and plans with any, loaded so far. */
  int loaded;
  int rounds;

#if KV_FORMAT == 0
  __device__ void fill(unsigned char* target, u64& full, u32 line) const {
    const int first = warpOfGroup() * WARP_LANES;
    copyLines(sharedAddress(target), PART_BYTES, first, (const bf16*)kv, line);
    arriveWhenCopied(full);
  }
#else
  /** Widens the older of two requests, and renews it. */
  __device__ void fill(unsigned char* target, u64& full, uint4* packed, u32 nextLine) const {
    awaitCopies<1>();
    widenLines(target, warpOfGroup() * WARP_LANES, packed);
    fenceProducts();
    arrive(full);
    requestLines(packed, kv, nextLine);
  }
#endif

  __device__ void load(const Plan& plan) {
    Cursor cursor(plan);
    if (cursor.isDone()) return;
    const u32 valueLines = shape.pages.kvHeads * shape.pages.pageTokens;
    const auto valueOf = [&](u32 key) { return key == NOWHERE ? NOWHERE : key + valueLines; };
    u32 line = lineOf(cursor, shape);
#if KV_FORMAT == 1
    requestLines(shared.packedKeys, kv, line);
    requestLines(shared.packedValues, kv, valueOf(line));
#endif
    for (bool isFirst = true; !cursor.isDone(); isFirst = false) {
      cursor.advance();
      // Looked up while this tile is on its way.
      const u32 nextLine = lineOf(cursor, shape);
      const int stage = loaded % STAGES;
      const int parity = loaded / STAGES % 2 ^ 1;
      awaitPhase(shared.keysFree[stage], parity);
#if KV_FORMAT == 0
      fill(shared.keys[stage], shared.keysFull[stage], line);
#else
      fill(shared.keys[stage], shared.keysFull[stage], shared.packedKeys, nextLine);
#endif
      if (isFirst) {
        awaitPhase(shared.queriesFree, rounds % 2 ^ 1);
        copyQueries(shared, plan, qkv, shape);
        arriveWhenCopied(shared.queriesFull);
      }
      awaitPhase(shared.valuesFree[stage], parity);
#if KV_FORMAT == 0
      fill(shared.values[stage], shared.valuesFull[stage], valueOf(line));
#else
      fill(shared.values[stage], shared.valuesFull[stage], shared.packedValues,
           valueOf(nextLine));
#endif
      loaded++;
      line = nextLine;
    }
    rounds++;
  }
};

__device__ inline void runLoaders(Shared& shared, const bf16* qkv, const void* kv,
                                  const int* tokenRows, const int* positions, int* counter,
                                  const PrefillShape& shape) {
  Loader loader = {shared, qkv, kv, shape, 0, 0};
  int item = blockIdx.x;
  for (int turn = 0;; turn++) {
    const int slot = turn % 2;
    const int parity = turn / 2 % 2;
    Plan& plan = shared.plans[slot];
    if (warpOfGroup() == 0) {
      awaitPhase(shared.planFree[slot], parity ^ 1);
      item = __shfl_sync(FULL_WARP, item, 0);
      planNext(plan, item, tokenRows, positions, shape);
      __syncwarp();
      arriveAsWarp(shared.planFull[slot]);
      // Asked for long before it is needed.
      if (isLeader()) item = gridDim.x + atomicAdd(counter, 1);
    }
    awaitPhase(shared.planFull[slot], parity);
    if (plan.tile < 0) return;
    loader.load(plan);
    __syncwarp();
    arriveAsWarp(shared.planFree[slot]);
  }
}

// ---- The consumers ----

/** Only one warpgroup at a time issues its products; the others weigh scores meanwhile. */
#define TURN(consumer) (1 + (consumer) % CONSUMERS)

/** A warpgroup that works off tiles of keys and values for its 64 query lines. */
struct Consumer {
  Shared& shared;
  const PrefillShape& shape;
  int index;
  /** Tiles of keys, and plans with any, worked off so far. */
  int done;
  int rounds;

  __device__ void issueScores(float (&scores)[POSITIONS / 2], int stage) const {
    const u32 own = index * 64 * SWIZZLE_LINE;
    const u64 a = describe(sharedAddress(shared.queries) + own, 16, SWIZZLE_ATOM);
    const u64 b = describe(sharedAddress(shared.keys[stage]), 16, SWIZZLE_ATOM);
#pragma unroll
    for (int k = 0; k < HEAD_DIM / 16; k++) {
      const u32 column = k % 4 * 32;
      multiplyShared(scores, further(a, k / 4 * QUERY_PART_BYTES + column),
                     further(b, k / 4 * PART_BYTES + column), k > 0);
    }
    commitProducts();
  }

  __device__ void issueValues(Softmax& state, const u32 (&weights)[POSITIONS / 4],
                              int stage) const {
    const u64 b = describe(sharedAddress(shared.values[stage]), PART_BYTES, SWIZZLE_ATOM);
#pragma unroll
    for (int k = 0; k < POSITIONS / 16; k++) {
      multiplyRegisters(state.values, weights[4 * k], weights[4 * k + 1], weights[4 * k + 2],
                        weights[4 * k + 3], further(b, k * 2 * SWIZZLE_ATOM));
    }
    commitProducts();
  }

  __device__ void weighTile(float (&scores)[POSITIONS / 2], Softmax& state, float (&keep)[2],
                            const Lines& lines, const Cursor& cursor) const {
    if (!cursor.isClear()) {
      maskScores(scores, lines, cursor.segment, cursor.from, shape.window);
    }
    weigh(scores, state, keep, shape.scale);
  }

  /** The products of a tile of values are issued with those of the next tile's scores. */
  __device__ void attend(Softmax& state, const Plan& plan, const Lines& lines) {
    Cursor cursor(plan);
    if (cursor.isDone()) return;
    float scores[POSITIONS / 2], keep[2];
    u32 weights[POSITIONS / 4];
    awaitPhase(shared.queriesFull, rounds % 2);
    awaitPhase(shared.keysFull[done % STAGES], done / STAGES % 2);
    fenceProducts();
    beginProducts();
    issueScores(scores, done % STAGES);
    awaitProducts<0>();
    pin(scores);
    arriveAsWarp(shared.keysFree[done % STAGES]);
    weighTile(scores, state, keep, lines, cursor);
    packWeights(weights, scores);
    for (cursor.advance(); !cursor.isDone(); cursor.advance()) {
      const int stage = done % STAGES;
      const int next = (done + 1) % STAGES;
      // What copies of this kind have written is for the tensor cores to read after a fence.
      awaitPhase(shared.keysFull[next], (done + 1) / STAGES % 2);
      awaitPhase(shared.valuesFull[stage], done / STAGES % 2);
      fenceProducts();
      meet(TURN(index), 2 * WARPGROUP);
      pin(state.values);
      pin(weights);
      beginProducts();
      issueScores(scores, next);
      issueValues(state, weights, stage);
      announce(TURN(index + 1), 2 * WARPGROUP);
      awaitProducts<1>();
      pin(scores);
      arriveAsWarp(shared.keysFree[next]);
      weighTile(scores, state, keep, lines, cursor);
      awaitProducts<0>();
      pin(state.values);
      pin(weights);
      arriveAsWarp(shared.valuesFree[stage]);
      scaleValues(state, keep);
      packWeights(weights, scores);
      done++;
    }
    arriveAsWarp(shared.queriesFree);
    awaitPhase(shared.valuesFull[done % STAGES], done / STAGES % 2);
    fenceProducts();
    pin(state.values);
    pin(weights);
    beginProducts();
    issueValues(state, weights, done % STAGES);
    awaitProducts<0>();
    pin(state.values);
    arriveAsWarp(shared.valuesFree[done % STAGES]);
    done++;
    rounds++;
  }
};

__device__ inline void runConsumers(Shared& shared, const bf16* sinks, bf16* out,
                                    const PrefillShape& shape) {
  const int index = threadIdx.x / WARPGROUP - 1;
  Consumer consumer = {shared, shape, index, 0, 0};
  if (index == CONSUMERS - 1) announce(TURN(0), 2 * WARPGROUP);
  for (int turn = 0;; turn++) {
    const int slot = turn % 2;
    const Plan& plan = shared.plans[slot];
    awaitPhase(shared.planFull[slot], turn / 2 % 2);
    if (plan.tile < 0) return;
    const Lines lines = linesOf(plan, shape);
    Softmax state;
#pragma unroll
    for (int half = 0; half < 2; half++) state.best[half] = -infinity(), state.sum[half] = 0.0f;
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 2; i++) state.values[i] = 0.0f;
    consumer.attend(state, plan, lines);
    __syncwarp();
    arriveAsWarp(shared.planFree[slot]);
    store(state, lines, sinks, shape, out);
  }
}

/**
 * Grid: as many blocks as there are multiprocessors, or tiles times KV heads if these are fewer.
 * Threads: THREADS, no other number. Dynamic shared memory: sizeof(Shared). `counter` is 0 before.
 */
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_prefill_hopper(const bf16* qkv, const void* kv, const int* tokenRows,
                             const int* positions, const bf16* sinks, bf16* out, int* counter,
                             PrefillShape shape) {
  extern __shared__ __align__(SWIZZLE_ATOM) unsigned char memory[];
  Shared& shared = *(Shared*)memory;
  letNextStart();
  if (threadIdx.x == 0) {
    const int consumers = CONSUMERS * WARPGROUP / WARP_LANES * WARP_ARRIVALS;
    for (int i = 0; i < 2; i++) {
      initBarrier(shared.planFull[i], WARP_ARRIVALS);
      initBarrier(shared.planFree[i], consumers + LOADER_WARPS * WARP_ARRIVALS);
    }
    for (int i = 0; i < STAGES; i++) {
      initBarrier(shared.keysFull[i], WARPGROUP);
      initBarrier(shared.valuesFull[i], WARPGROUP);
      initBarrier(shared.keysFree[i], consumers);
      initBarrier(shared.valuesFree[i], consumers);
    }
    initBarrier(shared.queriesFull, WARPGROUP);
    initBarrier(shared.queriesFree, consumers);
    fenceProducts();
  }
  __syncthreads();
  awaitEarlier();
  if (threadIdx.x < WARPGROUP) {
    leaveRegisters<LOADER_REGISTERS>();
    runLoaders(shared, qkv, kv, tokenRows, positions, counter, shape);
  } else {
    takeRegisters<CONSUMER_REGISTERS>();
    runConsumers(shared, sinks, out, shape);
  }
}
