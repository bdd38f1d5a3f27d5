// What pinning a file's own pages would bring: threads map a piece, register it, copy from it to a
// GPU, and unregister it again; beside threads that read into pinned memory. Compare
// reading-limit.cu.
//
//   nvcc -O3 -arch=sm_90 registering.cu -o registering && ./registering <huge pages> <4 KiB pages>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cuda_runtime.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace std;
static const size_t MIB = 1ul << 20;

static double now() {
  return chrono::duration<double>(chrono::steady_clock::now().time_since_epoch()).count();
}

/** Seconds that a thread spent, by what it did. */
struct Spent {
  double seconds[5] = {};
  double from = now();
  void on(int what) {
    const double at = now();
    seconds[what] += at - from;
    from = at;
  }
};

/** way 0: all threads register; 1: none; 2: one in four; 3: every other. */
static bool registers(int way, int thread) {
  return way == 0 || (way == 2 && thread % 4 == 0) || (way == 3 && thread % 2 == 0);
}

static void measure(const char *pages, const char *name, int threads, size_t piece, int way) {
  const int file = open(name, O_RDONLY);
  struct stat status;
  fstat(file, &status);
  const size_t total = status.st_size / piece * piece;
  char *device;
  if (cudaMalloc(&device, piece * threads)) return;
  vector<char *> pinned(threads, nullptr);
  vector<cudaStream_t> streams(threads);
  for (int t = 0; t < threads; t++) {
    cudaStreamCreateWithFlags(&streams[t], cudaStreamNonBlocking);
    if (!registers(way, t)) cudaHostAlloc((void **)&pinned[t], piece, cudaHostAllocPortable);
  }
  atomic<size_t> next{0}, mapped{0};
  vector<Spent> spent(threads);
  vector<thread> running;
  const double from = now();
  for (int t = 0; t < threads; t++) running.emplace_back([&, t] {
    spent[t].from = now();
    for (size_t at = next.fetch_add(piece); at < total; at = next.fetch_add(piece)) {
      char *host = pinned[t];
      if (registers(way, t)) {
        host = (char *)mmap(0, piece, PROT_READ, MAP_SHARED | MAP_POPULATE, file, at);
        spent[t].on(0);
        const int flags = cudaHostRegisterReadOnly | cudaHostRegisterPortable;
        if (cudaHostRegister(host, piece, flags)) return;
        spent[t].on(1);
        mapped += piece;
      } else {
        for (size_t have = 0; have < piece;) {
          const ssize_t count = pread(file, host + have, piece - have, at + have);
          if (count <= 0) return;
          have += count;
        }
        spent[t].on(0);
      }
      cudaMemcpyAsync(device + t * piece, host, piece, cudaMemcpyHostToDevice, streams[t]);
      cudaStreamSynchronize(streams[t]);
      spent[t].on(2);
      if (!registers(way, t)) continue;
      cudaHostUnregister(host);
      spent[t].on(3);
      munmap(host, piece);
      spent[t].on(4);
    }
  });
  for (auto &each : running) each.join();
  const double seconds = now() - from;
  double sums[5] = {};
  for (auto &each : spent)
    for (int i = 0; i < 5; i++) sums[i] += each.seconds[i];
  printf("%s way %d T=%d piece %zuM: %.2f GB/s (mapped %.0f %%); thread-s map/read %.2f register "
         "%.2f copy %.2f unregister %.2f unmap %.2f of %.2f\n",
         pages, way, threads, piece / MIB, total / seconds / 1e9,
         100.0 * mapped / total, sums[0], sums[1], sums[2], sums[3], sums[4], seconds * threads);
  for (int t = 0; t < threads; t++) {
    if (pinned[t]) cudaFreeHost(pinned[t]);
    cudaStreamDestroy(streams[t]);
  }
  cudaFree(device);
  close(file);
}

int main(int count, char **arguments) {
  cudaFree(0);
  for (int i = 1; i < count; i++) {
    const char *pages = i == 1 ? "huge" : "4k";
    for (size_t piece : {16 * MIB, 64 * MIB})
      for (int threads : {1, 4, 12}) measure(pages, arguments[i], threads, piece, 0);
    measure(pages, arguments[i], 15, 16 * MIB, 1);
    measure(pages, arguments[i], 15, 8 * MIB, 1);
    measure(pages, arguments[i], 16, 16 * MIB, 2);
    measure(pages, arguments[i], 16, 16 * MIB, 3);
    measure(pages, arguments[i], 16, 64 * MIB, 3);
  }
}
