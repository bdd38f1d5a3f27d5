// All-reduce of bf16 over two GPUs of one host, by the kernels of collective.cu and by NCCL, in one
// process: each kind captured as 20 in a row in one graph a GPU, launched again and again from one
// thread; microseconds an operation by the host's clock, the median of 7 repeats. Every kind's sums
// are compared with those made on the host first.
//
//   node -e "import('./packages/device/dist/cuda/kernels/kernel-source.js').then((m) =>
//     fs.writeFileSync('row-layout.h', m.rowLayoutHeader()))"
//   nvcc -O3 -arch=sm_90a -std=c++17 -DRANKS=2 -I . -I packages/device/kernels
//     -I <nccl>/include -o all-reduce docs/results/h200/all-reduce.cu -L <nccl>/lib -l:libnccl.so.2
//   NCCL_NVLS_ENABLE=0 ./all-reduce
#include "collective.cu"

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define CHECK(call)                                                          \
  do {                                                                       \
    cudaError_t error = (call);                                              \
    if (error != cudaSuccess) {                                              \
      printf("%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error));  \
      exit(1);                                                               \
    }                                                                        \
  } while (0)
#define CHECK_NCCL(call)                                                     \
  do {                                                                       \
    ncclResult_t error = (call);                                             \
    if (error != ncclSuccess) {                                              \
      printf("%s:%d: %s\n", __FILE__, __LINE__, ncclGetErrorString(error));  \
      exit(1);                                                               \
    }                                                                        \
  } while (0)

static_assert(RANKS == 2, "two GPUs");
constexpr int A_GRAPH = 20;
constexpr i64 MOST = 64 << 20;
enum Kind { PUSH, PULL, NCCL, KINDS };
const char* const NAMES[] = {"push", "pull", "nccl"};

struct Gpu {
  cudaStream_t stream;
  bf16 *input, *out;
  Mailbox* mailbox;
  ncclComm_t comm;
};
Gpu gpus[2];
Parts inputs = {};
Mailboxes boxes = {};

void launch(int rank, Kind kind, i64 bytes) {
  const i64 elements = bytes / 2;
  const Gpu& gpu = gpus[rank];
  if (kind == NCCL) {
    CHECK_NCCL(ncclAllReduce(gpu.input, gpu.out, elements, ncclBfloat16, ncclSum, gpu.comm,
                             gpu.stream));
    return;
  }
  cudaLaunchAttribute dependent = {};
  dependent.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  dependent.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  const i64 blocks = std::max<i64>(1, std::min<i64>(MEETING_BLOCKS, (elements / 8 + 511) / 512));
  config.gridDim = dim3(kind == PUSH ? MEETING_BLOCKS : blocks);
  config.blockDim = dim3(512);
  config.stream = gpu.stream;
  config.attrs = &dependent;
  config.numAttrs = 1;
  if (kind == PUSH) {
    CHECK(cudaLaunchKernelEx(&config, all_reduce_push, (const bf16*)gpu.input, boxes, gpu.out,
                             elements, (u64)0, rank, 0));
  } else {
    CHECK(cudaLaunchKernelEx(&config, all_reduce_pull, inputs, boxes, gpu.out, elements, (u64)0,
                             rank, 0));
  }
}

void both(Kind kind, i64 bytes) {
  if (kind == NCCL) CHECK_NCCL(ncclGroupStart());
  for (int rank = 0; rank < 2; rank++) {
    CHECK(cudaSetDevice(rank));
    launch(rank, kind, bytes);
  }
  if (kind == NCCL) CHECK_NCCL(ncclGroupEnd());
}

void waitAll() {
  for (int rank = 0; rank < 2; rank++) {
    CHECK(cudaSetDevice(rank));
    CHECK(cudaStreamSynchronize(gpus[rank].stream));
  }
}

float toFloat(unsigned short bits) {
  const unsigned wide = (unsigned)bits << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}

/** Values whose sums are exact in bf16. */
float valueAt(int rank, i64 i) { return (float)((i * 7 + rank * 13) % 64); }

i64 wrongAfter(Kind kind, i64 bytes) {
  std::vector<unsigned short> found(bytes / 2);
  i64 wrong = 0;
  for (int rank = 0; rank < 2; rank++) {
    CHECK(cudaSetDevice(rank));
    CHECK(cudaMemset(gpus[rank].out, 0xff, bytes));
    CHECK(cudaDeviceSynchronize());
  }
  both(kind, bytes);
  waitAll();
  for (int rank = 0; rank < 2; rank++) {
    CHECK(cudaSetDevice(rank));
    CHECK(cudaMemcpy(found.data(), gpus[rank].out, bytes, cudaMemcpyDeviceToHost));
    for (i64 i = 0; i < bytes / 2; i++) {
      if (toFloat(found[i]) != valueAt(0, i) + valueAt(1, i)) wrong++;
    }
  }
  return wrong;
}

double microseconds(Kind kind, i64 bytes) {
  cudaGraphExec_t graphs[2];
  if (kind == NCCL) {
    // Captured together, as one thread that has both must.
    for (const Gpu& gpu : gpus) {
      CHECK(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeRelaxed));
    }
    for (int i = 0; i < A_GRAPH; i++) both(kind, bytes);
    for (int rank = 0; rank < 2; rank++) {
      cudaGraph_t graph;
      CHECK(cudaSetDevice(rank));
      CHECK(cudaStreamEndCapture(gpus[rank].stream, &graph));
      CHECK(cudaGraphInstantiate(&graphs[rank], graph, 0));
    }
  } else {
    for (int rank = 0; rank < 2; rank++) {
      CHECK(cudaSetDevice(rank));
      cudaGraph_t graph;
      CHECK(cudaStreamBeginCapture(gpus[rank].stream, cudaStreamCaptureModeRelaxed));
      for (int i = 0; i < A_GRAPH; i++) launch(rank, kind, bytes);
      CHECK(cudaStreamEndCapture(gpus[rank].stream, &graph));
      CHECK(cudaGraphInstantiate(&graphs[rank], graph, 0));
    }
  }
  const int launches = bytes > (4 << 20) ? 4 : 40;
  std::vector<double> taken;
  for (int repeat = 0; repeat < 8; repeat++) {
    waitAll();
    const auto started = std::chrono::steady_clock::now();
    for (int i = 0; i < launches; i++) {
      for (int rank = 0; rank < 2; rank++) {
        CHECK(cudaSetDevice(rank));
        CHECK(cudaGraphLaunch(graphs[rank], gpus[rank].stream));
      }
    }
    waitAll();
    const std::chrono::duration<double, std::micro> us = std::chrono::steady_clock::now() - started;
    // The first one warms up.
    if (repeat > 0) taken.push_back(us.count() / launches / A_GRAPH);
  }
  std::sort(taken.begin(), taken.end());
  return taken[taken.size() / 2];
}

int main() {
  const int devices[] = {0, 1};
  ncclComm_t comms[2];
  CHECK_NCCL(ncclCommInitAll(comms, 2, devices));
  std::vector<unsigned short> values(MOST / 2);
  for (int rank = 0; rank < 2; rank++) {
    Gpu& gpu = gpus[rank];
    CHECK(cudaSetDevice(rank));
    CHECK(cudaDeviceEnablePeerAccess(1 - rank, 0));
    CHECK(cudaStreamCreate(&gpu.stream));
    CHECK(cudaMalloc(&gpu.input, MOST));
    CHECK(cudaMalloc(&gpu.out, MOST));
    CHECK(cudaMalloc(&gpu.mailbox, sizeof(Mailbox)));
    CHECK(cudaMemset(gpu.mailbox, 0, sizeof(Mailbox)));
    for (i64 i = 0; i < MOST / 2; i++) {
      const float value = valueAt(rank, i);
      unsigned bits;
      memcpy(&bits, &value, 4);
      values[i] = bits >> 16;
    }
    CHECK(cudaMemcpy(gpu.input, values.data(), MOST, cudaMemcpyHostToDevice));
    CHECK(cudaDeviceSynchronize());
    gpu.comm = comms[rank];
    inputs.at[rank] = gpu.input;
    boxes.at[rank] = gpu.mailbox;
  }
  int version;
  CHECK_NCCL(ncclGetVersion(&version));
  printf("{\"nccl\": %d, \"blocks\": %d, \"pushedBytesMax\": %d}\n", version, MEETING_BLOCKS,
         PUSH_BYTES);
  const i64 sizes[] = {4096,    8192,    16384,   32768,   65536,    131072,   262144, 327680,
                       524288,  1048576, 1310720, 1572864, 2097152,  4194304,  16777216, MOST};
  for (const i64 bytes : sizes) {
    printf("{\"bytes\": %lld", (long long)bytes);
    for (int kind = 0; kind < KINDS; kind++) {
      if (kind == PUSH && bytes > PUSH_BYTES) continue;
      const i64 wrong = wrongAfter((Kind)kind, bytes);
      printf(", \"%sWrong\": %lld, \"%sUs\": %.2f", NAMES[kind], (long long)wrong, NAMES[kind],
             microseconds((Kind)kind, bytes));
    }
    printf("}\n");
    fflush(stdout);
  }
  return 0;
}
