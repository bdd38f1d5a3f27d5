#include "fp8.cuh"
#include "warp-product.cuh"

// `head-linear` of ops.ts: a product of each head's own, by warps. Fixed when compiled: FORMAT (0:
// bf16, 1: FP8 E4M3 with scales), IS_TRANSPOSED, and LINE_TILE, lines of a block: 16 or 64.

#define WARPS 4
#define THREADS (WARPS * WARP_LANES)
/** Outputs of a block, of which each warp has a part for all lines. */
#define OUTPUTS 64
/** Inputs that are in shared memory at once: more of them where there are few lines. */
#define DEPTH (LINE_TILE > 16 ? 64 : 128)
/** Tiles of lines and of weights; rows are an odd number of 16 bytes apart. */
#define LINE_STRIDE (DEPTH + 8)
#define TILE_ROWS (IS_TRANSPOSED ? DEPTH : OUTPUTS)
#define TILE_COLUMNS (IS_TRANSPOSED ? OUTPUTS : DEPTH)
#define STRIDE (TILE_COLUMNS + 8)
/** Pieces of eight that a thread copies. */
#define WEIGHT_PIECES (OUTPUTS * DEPTH / 8 / THREADS)
#define LINE_PIECES (LINE_TILE * DEPTH / 8 / THREADS)
#define LINE_PARTS (LINE_TILE / 16)

struct HeadShape {
  int count;
  int heads;
  int headRows;
  int firstRow;
  int rows;
  int columns;
  int inputStride;
  int outStride;
  int blockOutputs;
  int blockInputs;
};

/** Eight weights of a row, from a column on; zeros outside. */
__device__ inline uint4 weightPiece(const void* weight, const float* scales, const HeadShape& shape,
                                    int row, int column) {
  if (row >= shape.rows || column >= shape.columns) return make_uint4(0, 0, 0, 0);
  const i64 line = (i64)blockIdx.y * shape.headRows + shape.firstRow + row;
  const i64 at = line * shape.columns + column;
#if FORMAT == 0
  return *(const uint4*)((const bf16*)weight + at);
#else
  const uint2 codes = *(const uint2*)((const unsigned char*)weight + at);
  const int perRow = (shape.columns + shape.blockInputs - 1) / shape.blockInputs;
  const float scale = scales[line / shape.blockOutputs * perRow + column / shape.blockInputs];
  float values[8];
  widen8(widenFp8(codes.x, codes.y), values);
#pragma unroll
  for (int i = 0; i < 8; i++) values[i] *= scale;
  return narrow8(values);
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS)
    head_linear(const bf16* input, const void* weight, const float* scales, bf16* out,
                HeadShape shape) {
  __shared__ __align__(16) bf16 lines[LINE_TILE * LINE_STRIDE];
  __shared__ __align__(16) bf16 weights[TILE_ROWS * STRIDE];
  const int inputs = IS_TRANSPOSED ? shape.rows : shape.columns;
  const int outputs = IS_TRANSPOSED ? shape.columns : shape.rows;
  const int firstOutput = blockIdx.x * OUTPUTS;
  const int firstLine = blockIdx.z * LINE_TILE;
  const int lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
  uint4 nextWeights[WEIGHT_PIECES], nextLines[LINE_PIECES];
  // Where in a tile of so many columns a thread's piece is.
  const auto rowOf = [&](int i, int columns) {
    return (i * THREADS + (int)threadIdx.x) / (columns / 8);
  };
  const auto columnOf = [&](int i, int columns) {
    return (i * THREADS + (int)threadIdx.x) % (columns / 8) * 8;
  };
  // A row of the tile is an output, or, transposed, an input.
  const auto readWeights = [&](int from) {
#pragma unroll
    for (int i = 0; i < WEIGHT_PIECES; i++) {
      const int row = rowOf(i, TILE_COLUMNS), column = columnOf(i, TILE_COLUMNS);
      nextWeights[i] = IS_TRANSPOSED
                           ? weightPiece(weight, scales, shape, from + row, firstOutput + column)
                           : weightPiece(weight, scales, shape, firstOutput + row, from + column);
    }
  };
  const auto readLines = [&](int from) {
#pragma unroll
    for (int i = 0; i < LINE_PIECES; i++) {
      const int line = firstLine + rowOf(i, DEPTH), column = from + columnOf(i, DEPTH);
      const bool isThere = line < shape.count && column < inputs;
      const i64 at = ((i64)line * shape.heads + blockIdx.y) * shape.inputStride + column;
      nextLines[i] = isThere ? *(const uint4*)(input + at) : make_uint4(0, 0, 0, 0);
    }
  };
  readWeights(0);
  awaitEarlier();
  letNextStart();
  readLines(0);
  float sums[LINE_PARTS][2][4] = {};
  for (int from = 0; from < inputs; from += DEPTH) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < WEIGHT_PIECES; i++) {
      const int at = rowOf(i, TILE_COLUMNS) * STRIDE + columnOf(i, TILE_COLUMNS);
      *(uint4*)(weights + at) = nextWeights[i];
    }
#pragma unroll
    for (int i = 0; i < LINE_PIECES; i++) {
      *(uint4*)(lines + rowOf(i, DEPTH) * LINE_STRIDE + columnOf(i, DEPTH)) = nextLines[i];
    }
    __syncthreads();
    if (from + DEPTH < inputs) readWeights(from + DEPTH), readLines(from + DEPTH);
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
      u32 right[4];
      if (IS_TRANSPOSED) {
        loadTransposed(right, weights + k * STRIDE + warp * 16 + rightTransposedAt(STRIDE));
      } else {
        loadMatrices(right, weights + warp * 16 * STRIDE + k + rightAt(STRIDE));
      }
#pragma unroll
      for (int part = 0; part < LINE_PARTS; part++) {
        if (firstLine + part * 16 >= shape.count) break;
        u32 left[4];
        loadMatrices(left, lines + part * 16 * LINE_STRIDE + k + leftAt(LINE_STRIDE));
        multiply(sums[part][0], left, right[0], right[1]);
        multiply(sums[part][1], left, right[2], right[3]);
      }
    }
  }
#pragma unroll
  for (int part = 0; part < LINE_PARTS; part++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int line = firstLine + part * 16 + half * 8 + lane / 4;
      if (line >= shape.count) continue;
#pragma unroll
      for (int n = 0; n < 2; n++) {
        const int output = firstOutput + warp * 16 + n * 8 + lane % 4 * 2;
        if (output >= outputs) continue;
        const i64 at = ((i64)line * shape.heads + blockIdx.y) * shape.outStride + output;
        *(u32*)(out + at) = narrowPair(sums[part][n][half * 2], sums[part][n][half * 2 + 1]);
      }
    }
  }
}
