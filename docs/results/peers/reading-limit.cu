// How fast threads can read files and copy them to a GPU on this machine: the plainest program.
// Each thread takes chunks of 16 MiB in order, reads them piece by piece into pinned buffers of its
// own, and copies each piece while it reads the next. Nothing is placed, nothing is checked.
//
//   nvcc -O3 -std=c++17 -arch=sm_90 reading-limit.cu -o reading-limit && ./reading-limit <files>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cuda_runtime.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace std;
static const size_t CHUNK = 16ul << 20;

static double now() {
  return chrono::duration<double>(chrono::steady_clock::now().time_since_epoch()).count();
}

static void measure(int files, char **names, int threads, size_t piece, int buffers, bool copies) {
  vector<int> open_files(files);
  vector<size_t> sizes(files);
  vector<pair<int, size_t>> chunks;
  size_t total = 0;
  for (int i = 0; i < files; i++) {
    open_files[i] = open(names[i], O_RDONLY);
    struct stat status;
    fstat(open_files[i], &status);
    sizes[i] = status.st_size;
    total += sizes[i];
    for (size_t at = 0; at < sizes[i]; at += CHUNK) chunks.push_back({i, at});
  }
  char *device, *pinned;
  if (cudaMalloc(&device, CHUNK * threads)) return;
  const double pinning_from = now();
  if (cudaHostAlloc((void **)&pinned, piece * buffers * threads, cudaHostAllocPortable)) return;
  const double pinning = now() - pinning_from;
  vector<cudaStream_t> streams(threads);
  for (auto &stream : streams) cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  atomic<size_t> next{0};
  vector<double> reading(threads, 0.0), waiting(threads, 0.0);
  vector<thread> running;
  const double from = now();
  for (int t = 0; t < threads; t++) running.emplace_back([&, t] {
    vector<cudaEvent_t> copied(buffers);
    for (auto &event : copied) cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    size_t turn = 0;
    for (size_t c = next++; c < chunks.size(); c = next++) {
      const auto [file, at] = chunks[c];
      const size_t length = min(CHUNK, sizes[file] - at);
      for (size_t done = 0; done < length; done += piece, turn++) {
        const size_t bytes = min(piece, length - done);
        const int buffer = turn % buffers;
        char *host = pinned + ((size_t)t * buffers + buffer) * piece;
        const double wait_from = now();
        if (copies && turn >= (size_t)buffers) cudaEventSynchronize(copied[buffer]);
        const double read_from = now();
        waiting[t] += read_from - wait_from;
        for (size_t have = 0; have < bytes;) {
          const ssize_t count =
              pread(open_files[file], host + have, bytes - have, at + done + have);
          if (count <= 0) return;
          have += count;
        }
        reading[t] += now() - read_from;
        if (!copies) continue;
        char *to = device + t * CHUNK + done;
        cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, streams[t]);
        cudaEventRecord(copied[buffer], streams[t]);
      }
    }
    cudaStreamSynchronize(streams[t]);
    for (auto &event : copied) cudaEventDestroy(event);
  });
  for (auto &each : running) each.join();
  const double seconds = now() - from;
  double read_sum = 0, wait_sum = 0;
  for (int t = 0; t < threads; t++) read_sum += reading[t], wait_sum += waiting[t];
  printf("%s T=%d piece %zuK bufs %d: %.1f GB/s %.3f s, read thread-s %.1f, wait %.1f of %.1f, "
         "pinning %.3f s\n",
         copies ? "read+copy" : "read", threads, piece >> 10, buffers, total / seconds / 1e9,
         seconds, read_sum, wait_sum, seconds * threads, pinning);
  for (auto &stream : streams) cudaStreamDestroy(stream);
  cudaFreeHost(pinned);
  cudaFree(device);
  for (int file : open_files) close(file);
}

int main(int count, char **arguments) {
  cudaFree(0);
  const auto run = [&](int threads, size_t kib, int buffers, bool copies) {
    measure(count - 1, arguments + 1, threads, kib << 10, buffers, copies);
  };
  run(15, 4096, 2, true);
  run(15, 4096, 2, true);
  run(15, 4096, 1, false);
  run(15, 2048, 2, true);
  run(12, 4096, 2, true);
  run(8, 4096, 2, true);
  run(8, 2048, 2, true);
  run(15, 1024, 4, true);
  run(8, 2048, 1, false);
}
