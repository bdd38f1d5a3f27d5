#include "common.cuh"

// Operations in which several GPUs take part, each by a kernel of its own on its own stream. They
// meet by flags in each other's memory, so that nothing on the host takes part and a graph may hold
// any number of them. Sums are made in the order of the ranks by whoever makes them: every rank
// gets the same bits.

#ifndef RANKS
#define RANKS 8
#endif
/** Vectors of each rank that a thread has on their way at once. */
#define AT_ONCE (RANKS <= 2 ? 4 : RANKS <= 4 ? 2 : 1)
/** These are in collectives.ts, too. MAX_RANKS is what parameters have room for. */
#define MAX_RANKS 8
#define MEETING_BLOCKS 64
/** Pushed bytes come twice their number, and from every other rank. */
#define PUSH_BYTES (RANKS <= 2 ? 1572864 : 262144)
#define PUSH_ENTRIES (PUSH_BYTES / 8)

/** Read where it lies, whatever the index. */
#define PARAMETER const __grid_constant__

/** Memory of each rank. */
struct Parts {
  const void* at[MAX_RANKS];
};

/** In a rank's own memory: what the others write to it, and what it counts. All zeros first. */
struct Mailbox {
  /** How often each rank has come to a meeting of these blocks. Theirs to write. */
  u32 arrived[MEETING_BLOCKS][MAX_RANKS];
  /** How many meetings this rank's blocks, and how many pushes its kernels had. */
  u32 meetings[MEETING_BLOCKS];
  u32 pushes[MEETING_BLOCKS];
  /** Two words and their turn twice: words that come with their own flags. */
  uint4 inbox[2][RANKS][PUSH_ENTRIES];
};
struct Mailboxes {
  Mailbox* at[MAX_RANKS];
};

/** A peer that has not come by then will not: its GPU failed, or nothing was launched there. */
#define PATIENCE_NS 30000000000ull
#define SPINS_A_LOOK 65536

__device__ inline u64 globalNs() {
  u64 ns;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
  return ns;
}

/**
 * Lets the kernel take so much longer, as a law says of links that are encrypted. One thread of a
 * block waits, and with it the kernel.
 */
__device__ inline void takeTime(u64 lawNs) {
  if (lawNs == 0 || threadIdx.x != 0) return;
  const u64 startedNs = globalNs();
  while (globalNs() - startedNs < lawNs);
}

/** Ends the kernel, and with it every launch behind it, by an error. */
struct Patience {
  u32 spins = 0;
  u64 startedNs = 0;

  __device__ void spin() {
    if (++spins % SPINS_A_LOOK != 0) return;
    const u64 ns = globalNs();
    if (startedNs == 0) startedNs = ns;
    if (ns - startedNs > PATIENCE_NS) __trap();
  }
};

/**
 * Returns when the same block of every rank has come here. What a block wrote and read before is
 * over for all after. All threads call it.
 */
__device__ inline void meet(const Mailboxes& boxes, int rank) {
  Mailbox* own = boxes.at[rank];
  __syncthreads();
  const int peer = threadIdx.x;
  const u32 turn = own->meetings[blockIdx.x] + 1;
  if (peer < RANKS && peer != rank) {
    u32* theirs = &boxes.at[peer]->arrived[blockIdx.x][rank];
    const u32* mine = &own->arrived[blockIdx.x][peer];
    __threadfence_system();
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(theirs), "r"(turn) : "memory");
    Patience patience;
    for (;;) {
      u32 seen;
      asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(seen) : "l"(mine) : "memory");
      // A peer may already have come to the next one.
      if ((int)(seen - turn) >= 0) break;
      patience.spin();
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) own->meetings[blockIdx.x] = turn;
}

__device__ inline void addWide(uint4 packed, float (&sums)[8]) {
  float values[8];
  widen8(packed, values);
#pragma unroll
  for (int j = 0; j < 8; j++) sums[j] += values[j];
}

/**
 * target[i] = the sum of the parts (+ target[i]) for i in [from, end), in steps of `stride`
 * vectors from `first`.
 */
__device__ inline void sumVectors(const Parts& inputs, int count, bf16* target, i64 from, i64 end,
                                  i64 first, i64 stride, bool adds) {
  for (i64 start = from + first; start < end; start += AT_ONCE * stride) {
    // What is far away is asked for together.
    uint4 parts[AT_ONCE][RANKS];
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++) {
#pragma unroll
      for (int part = 0; part < RANKS; part++) {
        const i64 i = start + k * stride;
        if (part < count && i < end) parts[k][part] = ((const uint4*)inputs.at[part])[i];
      }
    }
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++) {
      const i64 i = start + k * stride;
      if (i >= end) break;
      float sums[8] = {};
#pragma unroll
      for (int part = 0; part < RANKS; part++) {
        if (part < count) addWide(parts[k][part], sums);
      }
      if (adds) addWide(((const uint4*)target)[i], sums);
      ((uint4*)target)[i] = narrow8(sums);
    }
  }
}

/** The same for sizes that are no whole vectors. */
__device__ inline void sumScalars(const Parts& inputs, int count, bf16* target, i64 elements,
                                  i64 first, i64 stride, bool adds) {
  for (i64 i = first; i < elements; i += stride) {
    float sum = 0.0f;
    for (int part = 0; part < count; part++) sum += widen(((const bf16*)inputs.at[part])[i]);
    target[i] = narrow(adds ? sum + widen(target[i]) : sum);
  }
}

__device__ inline void sumAll(const Parts& inputs, int count, bf16* target, i64 elements,
                              bool adds) {
  const i64 first = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const i64 stride = (i64)gridDim.x * blockDim.x;
  if (elements % 8 == 0) {
    sumVectors(inputs, count, target, 0, elements / 8, first, stride, adds);
  } else {
    sumScalars(inputs, count, target, elements, first, stride, adds);
  }
}

/** Lines of the parts side by side. */
__device__ inline void gatherAll(const Parts& inputs, int count, float* out, int lines,
                                 int width) {
  const int first = blockIdx.x * blockDim.x + threadIdx.x;
  const int stride = gridDim.x * blockDim.x;
  for (int line = 0; line < lines; line++) {
    for (int part = 0; part < count; part++) {
      const float* source = (const float*)inputs.at[part] + (i64)line * width;
      float* target = out + ((i64)line * count + part) * width;
      if (width % 4 == 0) {
        for (int i = first; i < width / 4; i += stride) {
          ((uint4*)target)[i] = ((const uint4*)source)[i];
        }
      } else {
        for (int i = first; i < width; i += stride) target[i] = source[i];
      }
    }
  }
}

/** All parts are in this GPU's memory, and the stream's order is all that is needed. */
extern "C" __global__ void all_reduce_local(PARAMETER Parts inputs, bf16* out, i64 elements,
                                            u64 lawNs, int count, int adds) {
  letNextStart();
  awaitEarlier();
  sumAll(inputs, count, out, elements, adds != 0);
  takeTime(lawNs);
}

extern "C" __global__ void all_gather_local(PARAMETER Parts inputs, float* out, u64 lawNs,
                                            int lines, int width, int count) {
  letNextStart();
  awaitEarlier();
  gatherAll(inputs, count, out, lines, width);
  takeTime(lawNs);
}

/** Brings here what another GPU has; both places begin at a whole vector. */
extern "C" __global__ void copy_from_peer(const char* from, char* out, i64 bytes) {
  letNextStart();
  awaitEarlier();
  const i64 first = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const i64 stride = (i64)gridDim.x * blockDim.x;
  const i64 vectors = bytes / 16;
  for (i64 i = first; i < vectors; i += stride) ((uint4*)out)[i] = ((const uint4*)from)[i];
  for (i64 i = vectors * 16 + first; i < bytes; i += stride) out[i] = from[i];
}

/** Each rank reads what the others have. */
extern "C" __global__ void all_reduce_pull(PARAMETER Parts inputs, PARAMETER Mailboxes boxes,
                                           bf16* out, i64 elements, u64 lawNs, int rank,
                                           int adds) {
  letNextStart();
  awaitEarlier();
  meet(boxes, rank);
  sumAll(inputs, RANKS, out, elements, adds != 0);
  // Nobody writes to an input that another still reads.
  meet(boxes, rank);
  takeTime(lawNs);
}

/**
 * Each rank sums a part of it, then reads the sums of the others: fewer bytes on the links than
 * everything from everyone, from four ranks on. Whole vectors only.
 */
extern "C" __global__ void all_reduce_scatter(PARAMETER Parts inputs, PARAMETER Parts outs,
                                              PARAMETER Mailboxes boxes, i64 elements, u64 lawNs,
                                              int rank, int adds) {
  letNextStart();
  awaitEarlier();
  const i64 vectors = elements / 8;
  const i64 share = (vectors + RANKS - 1) / RANKS;
  const i64 first = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  const i64 stride = (i64)gridDim.x * blockDim.x;
  bf16* own = (bf16*)outs.at[rank];
  meet(boxes, rank);
  sumVectors(inputs, RANKS, own, share * rank, min(share * (rank + 1), vectors), first,
                    stride, adds != 0);
  meet(boxes, rank);
  for (int step = 1; step < RANKS; step++) {
    // Not all from the same one at once.
    const int peer = (rank + step) % RANKS;
    const i64 end = min(share * (peer + 1), vectors);
    for (i64 i = share * peer + first; i < end; i += stride) {
      ((uint4*)own)[i] = ((const uint4*)outs.at[peer])[i];
    }
  }
  meet(boxes, rank);
  takeTime(lawNs);
}

/**
 * Small ones: each rank writes what it has to the others, every word with its turn beside it, so
 * that whoever sees the turn sees the word: one way over the links and no meeting. Always launched
 * with the same grid: every block counts every push. A half of the inbox is written again two
 * pushes later: by then its owner has pushed once more, and so has read it. Whole entries only.
 */
extern "C" __global__ void all_reduce_push(const bf16* input, PARAMETER Mailboxes boxes, bf16* out,
                                           i64 elements, u64 lawNs, int rank, int adds) {
  letNextStart();
  awaitEarlier();
  Mailbox* own = boxes.at[rank];
  const u32 turn = own->pushes[blockIdx.x] + 1;
  const int half = turn % 2;
  const int entries = (int)(elements / 4);
  const int first = blockIdx.x * blockDim.x + threadIdx.x;
  const int stride = gridDim.x * blockDim.x;
  for (int i = first; i < entries; i += stride) {
    const uint2 words = ((const uint2*)input)[i];
#pragma unroll
    for (int step = 1; step < RANKS; step++) {
      uint4* entry = &boxes.at[(rank + step) % RANKS]->inbox[half][rank][i];
      asm volatile("st.volatile.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(entry), "r"(words.x),
                   "r"(turn), "r"(words.y), "r"(turn)
                   : "memory");
    }
  }
  Patience patience;
  for (int i = first; i < entries; i += stride) {
    float sums[4] = {};
    uint2 before = make_uint2(0, 0);
    if (adds) before = ((const uint2*)out)[i];
#pragma unroll
    for (int part = 0; part < RANKS; part++) {
      uint2 words;
      if (part == rank) {
        words = ((const uint2*)input)[i];
      } else {
        const uint4* entry = &own->inbox[half][part][i];
        for (;;) {
          uint4 seen;
          asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                       : "=r"(seen.x), "=r"(seen.y), "=r"(seen.z), "=r"(seen.w)
                       : "l"(entry)
                       : "memory");
          if (seen.y == turn && seen.w == turn) {
            words = make_uint2(seen.x, seen.z);
            break;
          }
          patience.spin();
        }
      }
      sums[0] += widenLow(words.x);
      sums[1] += widenHigh(words.x);
      sums[2] += widenLow(words.y);
      sums[3] += widenHigh(words.y);
    }
    if (adds) {
      sums[0] += widenLow(before.x);
      sums[1] += widenHigh(before.x);
      sums[2] += widenLow(before.y);
      sums[3] += widenHigh(before.y);
    }
    ((uint2*)out)[i] = make_uint2(narrowPair(sums[0], sums[1]), narrowPair(sums[2], sums[3]));
  }
  __syncthreads();
  if (threadIdx.x == 0) own->pushes[blockIdx.x] = turn;
  takeTime(lawNs);
}

extern "C" __global__ void all_gather_pull(PARAMETER Parts inputs, PARAMETER Mailboxes boxes,
                                           float* out, u64 lawNs, int lines, int width,
                                           int rank) {
  letNextStart();
  awaitEarlier();
  meet(boxes, rank);
  gatherAll(inputs, RANKS, out, lines, width);
  meet(boxes, rank);
  takeTime(lawNs);
}
