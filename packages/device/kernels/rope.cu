#include "common.cuh"
#include "fp8.cuh"
#include "rotary.cuh"

// Normalises and rotates the heads of q and k in place, and writes k and v to their pages. Fixed
// when compiled: HEAD_DIM, an even number, KV_FORMAT (0: bf16, 1: FP8 E4M3) and, where not all of a
// head rotates, ROTARY_DIM. "Halves" are then those of what rotates, followed by those of the rest.
// LINE_KV says what lines have of each KV head: with 1 the key is its value as well. With
// VALUE_NORM values are divided by their root mean square.

#ifndef VALUE_NORM
#define VALUE_NORM 0
#endif

#define HALF (HEAD_DIM / 2)
/** Elements of either half that a lane holds: 16 bytes where halves can be cut so. */
#define PIECE (HALF % 8 == 0 && ROTARY_DIM / 2 % 8 == 0 ? 8 : 1)

/** Lanes that share a head; they read it at once where its pieces are enough for no more. */
constexpr int lanesOfHead() {
  int lanes = 1;
  while (lanes < WARP_LANES && lanes * PIECE < HALF) lanes *= 2;
  return lanes;
}
constexpr int LANES = lanesOfHead();
/** Pieces of either half that a lane holds. */
constexpr int PIECES = (HALF + LANES * PIECE - 1) / (LANES * PIECE);

#if KV_FORMAT == 1
typedef unsigned char Stored;
#else
typedef bf16 Stored;
#endif

struct RopeShape {
  KvPages pages;
  int tableRows;
  int count;
  int heads;
  int maxPositions;
  float epsilon;
  float normOffset;
};

/** A lane's part of a head: `low` of its first half, `high` of its second. */
struct Part {
  float low[PIECES][PIECE];
  float high[PIECES][PIECE];
};

/** Where a lane's piece starts, in its half. */
__device__ inline int pieceStart(int i) {
  return (i * LANES + (int)threadIdx.x % LANES) * PIECE;
}

__device__ inline void readPiece(float (&values)[8], const bf16* source) {
  widen8(*(const uint4*)source, values);
}
__device__ inline void readPiece(float (&values)[1], const bf16* source) {
  values[0] = widen(*source);
}
__device__ inline void writePiece(bf16* target, const float (&values)[8]) {
  *(uint4*)target = narrow8(values);
}
__device__ inline void writePiece(bf16* target, const float (&values)[1]) {
  *target = narrow(values[0]);
}
/** As FP8, of what bf16 holds: pages get what qkv gets. */
__device__ inline u32 storedPair(float low, float high) {
  const u32 pair = narrowPair(low, high);
  return narrowFp8Pair(widenLow(pair), widenHigh(pair));
}
__device__ inline void writePiece(unsigned char* target, const float (&values)[8]) {
  *(uint2*)target =
      make_uint2(storedPair(values[0], values[1]) | storedPair(values[2], values[3]) << 16,
                 storedPair(values[4], values[5]) | storedPair(values[6], values[7]) << 16);
}
__device__ inline void writePiece(unsigned char* target, const float (&values)[1]) {
  *target = (unsigned char)storedPair(values[0], 0.0f);
}

__device__ inline Part readHead(const bf16* head) {
  Part part = {};
#pragma unroll
  for (int i = 0; i < PIECES; i++) {
    const int start = pieceStart(i);
    if (start >= HALF) continue;
    readPiece(part.low[i], head + lowAt(start));
    readPiece(part.high[i], head + highAt(start));
  }
  return part;
}

template <typename Stored> __device__ inline void writeHead(Stored* head, const Part& part) {
#pragma unroll
  for (int i = 0; i < PIECES; i++) {
    const int start = pieceStart(i);
    if (start >= HALF) continue;
    writePiece(head + lowAt(start), part.low[i]);
    writePiece(head + highAt(start), part.high[i]);
  }
}

/** 1 / rms of a head. All lanes of a warp call it alike. */
__device__ inline float factorOf(const Part& part, float epsilon) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < PIECES; i++) {
#pragma unroll
    for (int j = 0; j < PIECE; j++) {
      sum += part.low[i][j] * part.low[i][j] + part.high[i][j] * part.high[i][j];
    }
  }
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset >>= 1) {
    sum += __shfl_xor_sync(FULL_WARP, sum, offset);
  }
  return rsqrtf(sum / (float)HEAD_DIM + epsilon);
}

/** Multiplies a head by `factor`, and by its norm's weights. */
__device__ inline void weigh(Part& part, float factor, const bf16* norm, float offset) {
  const Part weights = readHead(norm);
#pragma unroll
  for (int i = 0; i < PIECES; i++) {
#pragma unroll
    for (int j = 0; j < PIECE; j++) {
      part.low[i][j] *= factor * (weights.low[i][j] + offset);
      part.high[i][j] *= factor * (weights.high[i][j] + offset);
    }
  }
}

__device__ inline void scale(Part& part, float factor) {
#pragma unroll
  for (int i = 0; i < PIECES; i++) {
#pragma unroll
    for (int j = 0; j < PIECE; j++) part.low[i][j] *= factor, part.high[i][j] *= factor;
  }
}

/** The angles of a lane's elements. */
struct Angles {
  float2 values[PIECES][PIECE];
};

__device__ inline Angles readAngles(const float2* angles) {
  Angles part;
#pragma unroll
  for (int i = 0; i < PIECES; i++) {
    const int start = pieceStart(i);
    if (start >= HALF) continue;
    if (PIECE == 1) {
      part.values[i][0] = angles[start];
    } else {
#pragma unroll
      for (int j = 0; j < PIECE; j += 2) {
        *(float4*)&part.values[i][j] = *(const float4*)(angles + start + j);
      }
    }
  }
  return part;
}

__device__ inline void rotate(Part& part, const Angles& angles) {
#pragma unroll
  for (int i = 0; i < PIECES; i++) {
#pragma unroll
    for (int j = 0; j < PIECE; j++) {
      const float2 angle = angles.values[i][j];
      const float low = part.low[i][j], high = part.high[i][j];
      part.low[i][j] = low * angle.x - high * angle.y;
      part.high[i][j] = high * angle.x + low * angle.y;
    }
  }
}

/**
 * LANES lanes for each head of a line of qkv, in any number of blocks of whole warps that is
 * enough. Sets `counter`, which attention_prefill_hopper counts with, to 0.
 */
extern "C" __global__ void rope_write_kv(bf16* qkv, const bf16* queryNorm, const bf16* keyNorm,
                                         const float2* rope, void* kv, const int* tokenRows,
                                         const int* positions, int* counter, RopeShape shape) {
  letNextStart();
  awaitEarlier();
  const u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
  if (thread == 0 && counter != nullptr) *counter = 0;
  const KvPages& pages = shape.pages;
  const u32 slots = shape.heads + LINE_KV * pages.kvHeads;
  const u32 index = thread / LANES;
  const int token = index / slots;
  const int slot = index % slots;
  const bool isInside = token < shape.count;
  const bool isValue = slot >= shape.heads + pages.kvHeads;
  const bool isKey = slot >= shape.heads && !isValue;
  bf16* head = qkv + (u64)index * HEAD_DIM;
  // Everything is asked for before anything is waited for.
  const int position = isInside ? positions[token] : -1;
  const int row = isInside ? checkedRow(tokenRows[token], shape.tableRows) : -1;
  Part part = {};
  if (isInside) part = readHead(head);
  const bool isPlaced = (u32)position < (u32)min(pages.reach(), shape.maxPositions);
  Angles angles = {};
  if (isPlaced && !isValue) angles = readAngles(rope + (i64)position * HALF);
  const bf16* norm = isValue ? nullptr : isKey ? keyNorm : queryNorm;
  const float factor = factorOf(part, shape.epsilon);
  Part value = part;
  if (VALUE_NORM) scale(value, factor);
  if (norm != nullptr) weigh(part, factor, norm, shape.normOffset);
  if (row < 0 || !isPlaced) return;

  if (!isValue) rotate(part, angles);
  if (!isValue && !isKey) {
    writeHead(head, part);
    return;
  }
  const int kvHead = slot - shape.heads - (isValue ? pages.kvHeads : 0);
  const HeadPages keys(pages, row, kvHead, HEAD_DIM);
  const i64 offset = keys.offset(position);
  if (offset < 0) return;
  Stored* key = (Stored*)kv + offset;
  if (isKey) writeHead(key, part);
  if (isValue || LINE_KV == 1) writeHead(key + keys.valueStride, value);
}
