#include "common.cuh"

// From a checkpoint's elements to the device's. See `place` in ops.ts.

#define PLACE_THREADS 256
#define VECTOR_BYTES 16

/** Lines of placement.ts, with the piece's count and the row groups. */
struct Piece {
  i64 count, lines, firstRow, firstColumn, rows, columns, columnsFrom, columnsTo, rowGroups;

  /** Where a stored row goes. */
  __device__ i64 targetRow(i64 row) const {
    return rowGroups == 1 ? row : row % rowGroups * (rows / rowGroups) + row / rowGroups;
  }
};

/** The placed part of one line: where it starts in the piece and among the columns placed. */
struct Run {
  i64 source, column, length;

  __device__ Run(const Piece& piece, i64 line) {
    const i64 start = line * piece.columns - piece.firstColumn;
    const i64 low = -start > piece.columnsFrom ? -start : piece.columnsFrom;
    const i64 rest = piece.count - start;
    const i64 high = rest < piece.columnsTo ? rest : piece.columnsTo;
    source = start + low;
    column = low - piece.columnsFrom;
    length = high - low;
  }
};

/** CASTS of place.ts. */
enum CastKind { COPY_1, COPY_2, COPY_4, F16_BF16, F32_BF16, BF16_F32, F16_F32 };

/** As f32FromF16 does, whose NaNs are all the same. */
__device__ inline u32 f32FromF16(u32 bits) {
  if ((bits & 0x7fffu) > 0x7c00u) return 0x7fc00000u;
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"((unsigned short)bits));
  return __float_as_uint(value);
}

/** As bf16FromF32 does: a NaN keeps its upper bits. The instruction would not. */
__device__ inline u32 bf16FromF32(u32 bits) {
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

template <int KIND>
struct Cast {
  static constexpr int FROM = KIND == COPY_1 ? 1 : KIND == COPY_4 || KIND == F32_BF16 ? 4 : 2;
  static constexpr int TO =
      KIND == COPY_1 ? 1 : KIND == COPY_4 || KIND == BF16_F32 || KIND == F16_F32 ? 4 : 2;

  __device__ static u32 bits(u32 from) {
    if (KIND == F16_BF16) return bf16FromF32(f32FromF16(from));
    if (KIND == F32_BF16) return bf16FromF32(from);
    if (KIND == BF16_F32) return from << 16;
    if (KIND == F16_F32) return f32FromF16(from);
    return from;
  }
};

template <int BYTES>
__device__ inline u32 loadElement(const char* source) {
  if (BYTES == 4) return *(const u32*)source;
  return BYTES == 2 ? *(const unsigned short*)source : *(const unsigned char*)source;
}

template <int BYTES>
__device__ inline void storeElement(char* target, u32 bits) {
  if (BYTES == 4) *(u32*)target = bits;
  else if (BYTES == 2) *(unsigned short*)target = (unsigned short)bits;
  else *(unsigned char*)target = (unsigned char)bits;
}

template <class C>
__device__ inline void placeElement(const char* source, char* target) {
  storeElement<C::TO>(target, C::bits(loadElement<C::FROM>(source)));
}

/** Little-endian words by the widest accesses that their address allows. */
template <int WORDS>
__device__ inline void loadWords(const char* source, u32 (&words)[WORDS]) {
  const u32 address = (u32)(u64)source;
  if (WORDS % 4 == 0 && address % 16 == 0) {
#pragma unroll
    for (int i = 0; i + 4 <= WORDS; i += 4) {
      const uint4 four = *(const uint4*)(source + 4 * i);
      words[i] = four.x, words[i + 1] = four.y, words[i + 2] = four.z, words[i + 3] = four.w;
    }
  } else if (address % 8 == 0) {
#pragma unroll
    for (int i = 0; i < WORDS; i += 2) {
      const uint2 two = *(const uint2*)(source + 4 * i);
      words[i] = two.x, words[i + 1] = two.y;
    }
  } else if (address % 4 == 0) {
#pragma unroll
    for (int i = 0; i < WORDS; i++) words[i] = ((const u32*)source)[i];
  } else if (address % 2 == 0) {
    const unsigned short* halves = (const unsigned short*)source;
#pragma unroll
    for (int i = 0; i < WORDS; i++) words[i] = halves[2 * i] | (u32)halves[2 * i + 1] << 16;
  } else {
    const unsigned char* bytes = (const unsigned char*)source;
#pragma unroll
    for (int i = 0; i < WORDS; i++) {
      words[i] = bytes[4 * i] | (u32)bytes[4 * i + 1] << 8 | (u32)bytes[4 * i + 2] << 16 |
                 (u32)bytes[4 * i + 3] << 24;
    }
  }
}

/** 16 bytes of elements for the device. */
template <class C>
__device__ inline uint4 castVector(const char* source) {
  constexpr int COUNT = VECTOR_BYTES / C::TO;
  u32 from[COUNT * C::FROM / 4];
  loadWords(source, from);
  if (C::FROM == 1) return make_uint4(from[0], from[1], from[2], from[3]);
  u32 to[4] = {};
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    const u32 bits = C::FROM == 4 ? from[i] : from[i / 2] >> 16 * (i % 2) & 0xffffu;
    if (C::TO == 4) to[i] = C::bits(bits);
    else to[i / 2] |= C::bits(bits) << 16 * (i % 2);
  }
  return make_uint4(to[0], to[1], to[2], to[3]);
}

/**
 * Places a run of `length` elements at element `first` of out. Vectors lie at multiples of their
 * size in out; those at the run's ends, which others may share, are placed by elements.
 */
template <class C>
__device__ void placeRun(const char* source, char* out, i64 first, i64 length, int lane,
                         int lanes) {
  constexpr int COUNT = VECTOR_BYTES / C::TO;
  const i64 last = (first + length - 1) / COUNT;
  for (i64 vector = first / COUNT + lane; vector <= last; vector += lanes) {
    const i64 at = vector * COUNT - first;
    if (at >= 0 && at + COUNT <= length) {
      ((uint4*)out)[vector] = castVector<C>(source + at * C::FROM);
    } else {
      const i64 end = at + COUNT < length ? at + COUNT : length;
      for (i64 i = at > 0 ? at : 0; i < end; i++) {
        placeElement<C>(source + i * C::FROM, out + (first + i) * C::TO);
      }
    }
  }
}

template <class C>
__device__ void placeLines(const char* input, char* out, const Piece& piece, int lanes) {
  const i64 width = piece.columnsTo - piece.columnsFrom;
  const int lane = blockIdx.y * lanes + threadIdx.x % lanes;
  const i64 step = (i64)gridDim.x * (blockDim.x / lanes);
  i64 line = (i64)blockIdx.x * (blockDim.x / lanes) + threadIdx.x / lanes;
  for (; line < piece.lines; line += step) {
    const Run run(piece, line);
    if (run.length <= 0) continue;
    const i64 first = piece.targetRow(piece.firstRow + line) * width + run.column;
    placeRun<C>(input + run.source * C::FROM, out, first, run.length, lane, gridDim.y * lanes);
  }
}

/**
 * `lanes` threads go along each line, in gridDim.y blocks; a block has as many lines as fit. What
 * is only moved is moved as bytes: COPY_1, with all counts in bytes.
 */
extern "C" __global__ void __launch_bounds__(PLACE_THREADS)
    place_lines(const char* input, char* out, Piece piece, int lanes, int kind) {
  letNextStart();
  awaitEarlier();
  if (kind == COPY_1) placeLines<Cast<COPY_1>>(input, out, piece, lanes);
  if (kind == F16_BF16) placeLines<Cast<F16_BF16>>(input, out, piece, lanes);
  if (kind == F32_BF16) placeLines<Cast<F32_BF16>>(input, out, piece, lanes);
  if (kind == BF16_F32) placeLines<Cast<BF16_F32>>(input, out, piece, lanes);
  if (kind == F16_F32) placeLines<Cast<F16_F32>>(input, out, piece, lanes);
}

/** Columns become rows, one element at a time: reads are in order, writes are not. */
template <class C>
__device__ void transposeLines(const char* input, char* out, const Piece& piece) {
  const i64 lane = (i64)blockIdx.y * blockDim.x + threadIdx.x;
  for (i64 line = blockIdx.x; line < piece.lines; line += gridDim.x) {
    const Run run(piece, line);
    const i64 row = piece.targetRow(piece.firstRow + line);
    for (i64 i = lane; i < run.length; i += (i64)gridDim.y * blockDim.x) {
      const i64 at = (run.column + i) * piece.rows + row;
      placeElement<C>(input + (run.source + i) * C::FROM, out + at * C::TO);
    }
  }
}

extern "C" __global__ void __launch_bounds__(PLACE_THREADS)
    place_transposed(const char* input, char* out, Piece piece, int kind) {
  letNextStart();
  awaitEarlier();
  if (kind == COPY_1) transposeLines<Cast<COPY_1>>(input, out, piece);
  if (kind == COPY_2) transposeLines<Cast<COPY_2>>(input, out, piece);
  if (kind == COPY_4) transposeLines<Cast<COPY_4>>(input, out, piece);
  if (kind == F16_BF16) transposeLines<Cast<F16_BF16>>(input, out, piece);
  if (kind == F32_BF16) transposeLines<Cast<F32_BF16>>(input, out, piece);
  if (kind == BF16_F32) transposeLines<Cast<BF16_F32>>(input, out, piece);
  if (kind == F16_F32) transposeLines<Cast<F16_F32>>(input, out, piece);
}
