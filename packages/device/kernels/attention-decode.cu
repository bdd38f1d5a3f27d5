#include "decode-tiles.cuh"
#include "rotary.cuh"

// Decode attention in one kernel: one token of each row is normalised and rotated, its key and
// value go to their page, and its query heads read the row's whole context. That is bound by
// reading K and V once, so everything here serves to keep reads on their way.
//
// A block takes a run of tiles (decode-work.cuh), which may end one item and begin another, and
// its warps take the tiles in turn. An item that several blocks share is put together by whichever
// of them comes last, in the order of the blocks, so that results never vary.
//
// Any grid will do; two blocks fit on a multiprocessor. Fixed when compiled: HEAD_DIM, a multiple
// of 8 up to 512; GROUP, the query heads that a block serves together, at most 8; KV_FORMAT (0:
// bf16, 1: fp8-e4m3); PAGE_TOKENS; DECODE_WARPS of a block; where not all of a head rotates,
// ROTARY_DIM, a multiple of 4; LINE_KV and VALUE_NORM, as rope.cu has them. No two lines may be of
// the same row, unless IS_STORED is 1.

#ifndef VALUE_NORM
#define VALUE_NORM 0
#endif

#define QUERY_STRIDE (DEPTH + 8)
#define MERGE_STRIDE (HEAD_DIM + 4)
/** Floats of one partial result: values of each head, then greatest scores, then sums. */
#define PARTIAL (GROUP * HEAD_DIM + 2 * COLUMNS)

struct Shared {
  bf16 queries[COLUMNS][QUERY_STRIDE];
  /** The token's own key and value, as they are stored. */
  __align__(16) KvElement fresh[2][HEAD_DIM];
  float bests[DECODE_WARPS][COLUMNS];
  float sums[DECODE_WARPS][COLUMNS];
  __align__(16) float values[DECODE_WARPS][GROUP][MERGE_STRIDE];
  bool isLast;
};

/** Pairs of dims that a lane has of each half of a head: 2 lane and 2 lane + 1, 64 n further. */
#define PAIRS ((HEAD_DIM / 2 + 2 * WARP_LANES - 1) / (2 * WARP_LANES))
/** Vectors of an item that a warp prepares: those of its queries, a key and a value. */
#define ROUNDS ((GROUP + 2 + DECODE_WARPS - 1) / DECODE_WARPS)

/** Two dims of each half of a head. */
struct Quad {
  float low[2];
  float high[2];

  __device__ Quad(u32 lows, u32 highs)
      : low{widenLow(lows), widenHigh(lows)}, high{widenLow(highs), widenHigh(highs)} {}

  /** What norms add to their weights. */
  __device__ void shift(float offset) {
#pragma unroll
    for (int i = 0; i < 2; i++) low[i] += offset, high[i] += offset;
  }

  __device__ float squares() const {
    return low[0] * low[0] + low[1] * low[1] + high[0] * high[0] + high[1] * high[1];
  }

  /** To what bf16 holds. */
  __device__ void scale(float factor) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      low[i] = widen(narrow(low[i] * factor));
      high[i] = widen(narrow(high[i] * factor));
    }
  }

  /** Scales and rotates; `angles` are two of (cos, sin). */
  __device__ void turn(float factor, const Quad& norm, float4 angles) {
    const float cosines[2] = {angles.x, angles.z};
    const float sines[2] = {angles.y, angles.w};
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float x = low[i] * factor * norm.low[i];
      const float y = high[i] * factor * norm.high[i];
      low[i] = widen(narrow(x * cosines[i] - y * sines[i]));
      high[i] = widen(narrow(y * cosines[i] + x * sines[i]));
    }
  }
};

/** Two neighbours as they are stored. */
__device__ inline void storePair(KvElement* target, const float (&pair)[2]) {
#if KV_FORMAT == 1
  *(unsigned short*)target = (unsigned short)narrowFp8Pair(pair[0], pair[1]);
#else
  *(u32*)target = narrowPair(pair[0], pair[1]);
#endif
}

/** The query heads of an item. */
struct Heads {
  /** The first of them. */
  int first;
  int served;

  __device__ Heads(const DecodeShape& shape, const Item& item) {
    const int perKvHead = shape.heads / shape.pages.kvHeads;
    first = item.kvHead * perKvHead + item.chunk * GROUP;
    served = min(GROUP, perKvHead - item.chunk * GROUP);
  }
};

/**
 * What an item needs of its line's q, k and v. Each warp has some of the vectors. `load` starts
 * early, so that `finish` need not wait.
 */
struct Preparation {
  u32 low[ROUNDS][PAIRS];
  u32 high[ROUNDS][PAIRS];
  float4 angles[PAIRS];

  /** Which vector: queries come first, the token's own key is GROUP, its value GROUP + 1. */
  __device__ static int vector(int round) {
    return round * DECODE_WARPS + threadIdx.x / WARP_LANES;
  }
  __device__ static int dim(int n) { return 2 * (n * WARP_LANES + threadIdx.x % WARP_LANES); }

  __device__ void load(const DecodeArgs& args, const Item& item) {
    const DecodeShape& shape = args.shape;
    const Heads heads(shape, item);
    const int kvHeads = shape.pages.kvHeads;
    const bf16* line = args.qkv + (i64)item.line * (shape.heads + LINE_KV * kvHeads) * HEAD_DIM;
    const float2* turn = args.rope + (i64)item.span.position * (HEAD_DIM / 2);
#pragma unroll
    for (int n = 0; n < PAIRS; n++) {
      if (dim(n) >= HEAD_DIM / 2) continue;
      angles[n] = *(const float4*)(turn + dim(n));
#pragma unroll
      for (int round = 0; round < ROUNDS; round++) {
        const int i = vector(round);
        int head = heads.first + min(i, heads.served - 1);
        const bool isKey = i == GROUP || LINE_KV == 1;
        if (LINE_KV > 0 && i >= GROUP) head = shape.heads + (isKey ? 0 : kvHeads) + item.kvHead;
        low[round][n] = *(const u32*)(line + head * HEAD_DIM + lowAt(dim(n)));
        high[round][n] = *(const u32*)(line + head * HEAD_DIM + highAt(dim(n)));
      }
    }
  }

  /** Into shared memory and, with `isOwner`, to the token's page. */
  __device__ void finish(const DecodeArgs& args, Shared& shared, const Item& item, bool isOwner) {
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
      const int i = vector(round);
      if (i >= GROUP + (IS_STORED ? 0 : 2)) continue;
      const bf16* norm = i < GROUP ? args.queryNorm : i == GROUP ? args.keyNorm : nullptr;
      float factor = 1.0f;
      if (IS_STORED) norm = nullptr;
      if (norm != nullptr) factor = scaleOf(round, args.shape.epsilon);
      const bool isNormedValue = VALUE_NORM && !IS_STORED && i > GROUP;
      if (isNormedValue) factor = scaleOf(round, args.shape.epsilon);
#pragma unroll
      for (int n = 0; n < PAIRS; n++) {
        if (dim(n) >= HEAD_DIM / 2) continue;
        Quad quad(low[round][n], high[round][n]);
        const u32 ones = 0x3f803f80u;
        Quad weights(ones, ones);
        if (norm != nullptr) {
          weights = Quad(*(const u32*)(norm + lowAt(dim(n))), *(const u32*)(norm + highAt(dim(n))));
          weights.shift(args.shape.normOffset);
        }
        if (!IS_STORED && i <= GROUP) quad.turn(factor, weights, angles[n]);
        if (isNormedValue) quad.scale(factor);
        if (i < GROUP) {
          bf16* query = shared.queries[i];
          *(u32*)(query + lowAt(dim(n))) = operandPair(quad.low[0], quad.low[1]);
          *(u32*)(query + highAt(dim(n))) = operandPair(quad.high[0], quad.high[1]);
        } else {
          putFresh(args, shared.fresh[i - GROUP], item, quad, isOwner, dim(n), i - GROUP);
        }
      }
    }
  }

  /** 1 / rms of a vector. */
  __device__ float scaleOf(int round, float epsilon) const {
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < PAIRS; n++) {
      if (dim(n) < HEAD_DIM / 2) sum += Quad(low[round][n], high[round][n]).squares();
    }
    return rsqrtf(warpSum(sum) / (float)HEAD_DIM + epsilon);
  }

  __device__ static void putFresh(const DecodeArgs& args, KvElement* fresh, const Item& item,
                                  const Quad& quad, bool isOwner, int dim, int isValue) {
    storePair(fresh + lowAt(dim), quad.low);
    storePair(fresh + highAt(dim), quad.high);
    if (!isOwner) return;
    const KvPages& pages = args.shape.pages;
    const int position = item.span.position;
    const HeadKv kv(pages, item.span.row, item.kvHead);
    const i64 offset = kv.offset(pages, kv.page(position), position);
    if (offset < 0) return;
    KvElement* page = args.kv + offset + isValue * HeadKv::valueStride(pages);
    storePair(page + lowAt(dim), quad.low);
    storePair(page + highAt(dim), quad.high);
  }
};

/** Puts the token's own key or value into the tile of its position. A warp's work. */
__device__ inline void patch(char* tile, const KvElement* fresh, int position) {
  char* line = tile + position % TILE * STRIDE;
  for (int i = threadIdx.x % WARP_LANES; i < ROW_BYTES / 8; i += WARP_LANES) {
    ((uint2*)line)[i] = ((const uint2*)fresh)[i];
  }
  __syncwarp();
}

/** Leaves a warp's part of an item where mergeWarps finds it. */
__device__ inline void storeWarp(Shared& shared, const Running& running) {
  const int warp = threadIdx.x / WARP_LANES;
  const int lane = threadIdx.x % WARP_LANES;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    float sum = running.sums[i];
#pragma unroll
    for (int offset = 4; offset < WARP_LANES; offset <<= 1) {
      sum += __shfl_xor_sync(FULL_WARP, sum, offset);
    }
    const int head = lane % 4 * 2 + i;
    if (lane < 4) {
      shared.bests[warp][head] = running.bests[i];
      shared.sums[warp][head] = sum;
    }
    if (head >= GROUP) continue;
#pragma unroll
    for (int d = 0; d < STEPS; d++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int dim = dimOf(d, half);
        if (dim < HEAD_DIM) shared.values[warp][head][dim] = running.values[d][half * 2 + i];
      }
    }
  }
}

/** A softmax that takes in parts of a context one after the other: four dims of one head. */
struct Merge {
  float best = -infinity();
  float sum = 0.0f;
  float4 values = {0.0f, 0.0f, 0.0f, 0.0f};

  __device__ void add(float otherBest, float otherSum, float4 other) {
    const float top = fmaxf(best, otherBest);
    // A part without positions has -infinity, which must not meet itself.
    const float reference = top == -infinity() ? 0.0f : top;
    const float mine = exp2f(best - reference);
    const float others = exp2f(otherBest - reference);
    best = top;
    sum = sum * mine + otherSum * others;
    values.x = values.x * mine + other.x * others;
    values.y = values.y * mine + other.y * others;
    values.z = values.z * mine + other.z * others;
    values.w = values.w * mine + other.w * others;
  }

  __device__ void write(bf16* out) const {
    const float scale = 1.0f / sum;
    *(uint2*)out = make_uint2(narrowPair(values.x * scale, values.y * scale),
                              narrowPair(values.z * scale, values.w * scale));
  }
};

/** The sink of a head, which has weight and no value. `sinks` are those of the item, or null. */
__device__ inline void addSink(Merge& merge, const bf16* sinks, int head) {
  if (sinks == nullptr) return;
  merge.add(widen(sinks[head]) * LOG2_E, 1.0f, make_float4(0.0f, 0.0f, 0.0f, 0.0f));
}

/** Merges the warps of a block: into `out` or, with `partial`, for another block to go on with. */
__device__ inline void mergeWarps(const Shared& shared, int served, const bf16* sinks, bf16* out,
                                  float* partial) {
  for (int i = threadIdx.x * 4; i < served * HEAD_DIM; i += THREADS * 4) {
    const int head = i / HEAD_DIM;
    Merge merge;
#pragma unroll
    for (int warp = 0; warp < DECODE_WARPS; warp++) {
      merge.add(shared.bests[warp][head], shared.sums[warp][head],
                *(const float4*)&shared.values[warp][head][i % HEAD_DIM]);
    }
    if (partial == nullptr) {
      addSink(merge, sinks, head);
      merge.write(out + i);
    } else {
      *(float4*)(partial + i) = merge.values;
      if (i % HEAD_DIM == 0) {
        partial[GROUP * HEAD_DIM + head] = merge.best;
        partial[GROUP * HEAD_DIM + COLUMNS + head] = merge.sum;
      }
    }
  }
}

/** Merges the blocks from `first` to `last`, the first of which has its part in slot `at`. */
__device__ inline void mergeBlocks(const float* partials, int at, int first, int last, int served,
                                   const bf16* sinks, bf16* out) {
  for (int i = threadIdx.x * 4; i < served * HEAD_DIM; i += THREADS * 4) {
    const int head = i / HEAD_DIM;
    Merge merge;
#pragma unroll 8
    for (int block = first; block <= last; block++) {
      const float* partial = partials + (i64)(block == first ? at : 2 * block) * PARTIAL;
      merge.add(__ldcg(partial + GROUP * HEAD_DIM + head),
                __ldcg(partial + GROUP * HEAD_DIM + COLUMNS + head),
                __ldcg((const float4*)(partial + i)));
    }
    addSink(merge, sinks, head);
    merge.write(out + i);
  }
}

/** Whether this block is the last of `parts` to arrive; the counter is then zero again. */
__device__ inline bool arrive(int* arrivals, int parts, bool& isLast) {
  __syncthreads();
  if (threadIdx.x == 0) {
    // Releases what the whole block wrote, since the barrier came before, and acquires the rest.
    int earlier;
    asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], 1;"
                 : "=r"(earlier)
                 : "l"(arrivals)
                 : "memory");
    isLast = earlier == parts - 1;
    if (isLast) *arrivals = 0;
  }
  __syncthreads();
  return isLast;
}

/**
 * Ends this block's part of an item that begins at tile `start` of the batch. A block has two slots
 * for partial results: one for the item that its share begins in (`isFirst`), one for the item that
 * it ends in.
 */
__device__ inline void endItem(const DecodeArgs& args, Shared& shared, const Share& share,
                               const Item& item, int start, bool isFirst) {
  const Heads heads(args.shape, item);
  bf16* out = args.out + ((i64)item.line * args.shape.heads + heads.first) * HEAD_DIM;
  const bf16* sinks = args.sinks == nullptr ? nullptr : args.sinks + heads.first;
  const int first = start / share.each;
  const int last = (start + item.span.tiles - 1) / share.each;
  __syncthreads();
  if (first == last) {
    mergeWarps(shared, heads.served, sinks, out, nullptr);
    return;
  }
  const int own = 2 * (int)blockIdx.x + (isFirst ? 0 : 1);
  mergeWarps(shared, heads.served, sinks, nullptr, args.partials + (i64)own * PARTIAL);
  if (!arrive(args.arrivals + first, last - first + 1, shared.isLast)) return;
  const int at = 2 * first + (start % share.each == 0 ? 0 : 1);
  mergeBlocks(args.partials, at, first, last, heads.served, sinks, out);
}

/** Rows of the query operand, for lane 4g + c: head g; the dims that its KV format's keys have. */
__device__ inline void loadQueries(u32 (&query)[STEPS][2], const Shared& shared) {
  const int g = threadIdx.x % WARP_LANES / 4;
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int k = 0; k < STEPS; k++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int dim = KV_FORMAT == 1 ? k * 16 + 4 * c + 2 * i : k * 16 + 2 * c + 8 * i;
      query[k][i] = *(const u32*)&shared.queries[g][dim];
    }
  }
}

/** Brings the arguments near: the first use of each would otherwise be a slow one. */
__device__ inline void fetchArguments(const DecodeArgs& args) {
  const u32* words = (const u32*)&args;
#pragma unroll
  for (int i = 0; i < sizeof(DecodeArgs) / 4; i += 8) asm volatile("" ::"r"(words[i]));
}

/** Copies leave alone what pads a head, which must be zero: zero times NaN is NaN. */
__device__ inline void clear(void* memory, int bytes) {
  for (int i = threadIdx.x * 16; i < bytes; i += THREADS * 16) {
    *(uint4*)((char*)memory + i) = make_uint4(0, 0, 0, 0);
  }
}

/** One tile, whose keys and values are on their way; starts to load the warp's next one. */
__device__ inline void foldTile(const DecodeArgs& args, const Shared& shared, Running& running,
                                Feed& feed, const u32 (&query)[STEPS][2], const Span& span,
                                int tile) {
  const bool isOwn = tile == span.tiles - 1;
  float scores[4];
  u32 weights[2];
  awaitOlderCopy();
  if (!IS_STORED && isOwn) patch(feed.keys, shared.fresh[0], span.position);
  scoreTile(scores, query, feed.keys);
  __syncwarp();
  feed.loadKeys();
  running.weigh(weights, scores, span.start(tile), span, args.shape.scale);
  awaitOlderCopy();
  if (!IS_STORED && isOwn) patch(feed.values, shared.fresh[1], span.position);
  addValues(running.values, weights, feed.values);
  __syncwarp();
  feed.loadValues();
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    attention_decode(const __grid_constant__ DecodeArgs args) {
  extern __shared__ __align__(16) char tiles[];
  __shared__ Shared shared;
  letNextStart();
  clear(shared.queries, sizeof(shared.queries));
  if (DEPTH > HEAD_DIM) clear(tiles, DECODE_WARPS * 2 * TILE_BYTES);
  fetchArguments(args);
  __syncthreads();
  awaitEarlier();

  const Share share = findShare(args);
  if (share.tiles == 0) return;
  const int warp = threadIdx.x / WARP_LANES;
  Feed feed(args, share, tiles + warp * 2 * TILE_BYTES);
  Item item = share.item;
  Preparation preparation;
  preparation.load(args, item);
  feed.loadKeys();
  feed.loadValues();
  int from = share.tile;
  for (int done = 0; done < share.tiles;) {
    const int to = min(item.span.tiles, from + share.tiles - done);
    preparation.finish(args, shared, item, to == item.span.tiles && item.chunk == 0);
    __syncthreads();
    u32 query[STEPS][2];
    loadQueries(query, shared);
    Item next = item;
    if (done + to - from < share.tiles) {
      next.next(args);
      preparation.load(args, next);
    }
    Running running;
    const int turn = (warp - done % DECODE_WARPS + DECODE_WARPS) % DECODE_WARPS;
    for (int tile = from + turn; tile < to; tile += DECODE_WARPS) {
      foldTile(args, shared, running, feed, query, item.span, tile);
    }
    storeWarp(shared, running);
    endItem(args, shared, share, item, share.start + done - from, done == 0);
    done += to - from;
    from = 0;
    item = next;
  }
}
