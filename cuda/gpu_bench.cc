#include "cuda/gpu_bench.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

#include "berth/error.h"
#include "cuda/check.h"
#include "cuda/device.h"
#include "cuda/read_words.h"

namespace berth {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// "GPU-8a56a0d0-...", as NVML and CUDA_VISIBLE_DEVICES write it.
std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    std::array<char, 3> hex{};
    std::snprintf(hex.data(), hex.size(), "%02x",
                  static_cast<unsigned>(static_cast<unsigned char>(uuid.bytes[i])));
    text += hex.data();
  }
  return text;
}

// Buffers, stream and events for one device. They are freed with this object.
class Bench {
 public:
  Bench(int device, std::size_t bytes) : device_(device) {
    try {
      BERTH_CUDA_CHECK(cudaSetDevice(device), "selecting device " + std::to_string(device));
      BERTH_CUDA_CHECK(cudaMalloc(&data_, bytes), "allocating " + std::to_string(bytes) +
                                                      " bytes on device " + std::to_string(device));
      BERTH_CUDA_CHECK(cudaMalloc(&word_, sizeof(std::uint32_t)), "allocating a word");
      BERTH_CUDA_CHECK(cudaMemset(data_, 1, bytes), "filling device memory");
      BERTH_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                       "making a stream");
      BERTH_CUDA_CHECK(cudaEventCreate(&begin_), "making an event");
      BERTH_CUDA_CHECK(cudaEventCreate(&end_), "making an event");
      BERTH_CUDA_CHECK(cudaDeviceSynchronize(), "filling device memory");
    } catch (...) {
      free();
      throw;
    }
  }
  ~Bench() { free(); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void* data() const { return data_; }
  std::uint32_t* word() const { return static_cast<std::uint32_t*>(word_); }
  cudaStream_t stream() const { return stream_; }

  template <class Operation>
  GpuTime time(Operation operation) {
    const std::string doing = "measuring device " + std::to_string(device_);
    BERTH_CUDA_CHECK(cudaSetDevice(device_), doing);
    const double start = now();
    BERTH_CUDA_CHECK(cudaEventRecord(begin_, stream_), doing);
    operation();
    BERTH_CUDA_CHECK(cudaEventRecord(end_, stream_), doing);
    BERTH_CUDA_CHECK(cudaEventSynchronize(end_), doing);
    GpuTime time;
    time.host = now() - start;
    float milliseconds = 0;
    BERTH_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin_, end_), doing);
    time.device = static_cast<double>(milliseconds) / 1e3;
    return time;
  }

 private:
  void free() noexcept {
    cudaSetDevice(device_);
    if (end_) cudaEventDestroy(end_);
    if (begin_) cudaEventDestroy(begin_);
    if (stream_) cudaStreamDestroy(stream_);
    if (word_) cudaFree(word_);
    if (data_) cudaFree(data_);
    cudaGetLastError();
  }

  int device_;
  void* data_ = nullptr;
  void* word_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

class CudaGpuBench final : public GpuBench {
 public:
  ~CudaGpuBench() override {
    if (host_) cudaFreeHost(host_);
  }

  int count() const override { return cuda_device_count(); }

  GpuIdentity identity(int device) override {
    cudaDeviceProp properties{};
    BERTH_CUDA_CHECK(cudaGetDeviceProperties(&properties, device),
                     "asking for the name of device " + std::to_string(device));
    return {properties.name, uuid_text(properties.uuid), cuda_memory(device).free};
  }

  void prepare(int device, std::size_t bytes, std::size_t host_bytes) override {
    benches_.erase(device);
    benches_.try_emplace(device, device, bytes);
    if (host_bytes <= host_bytes_) return;
    if (host_) cudaFreeHost(std::exchange(host_, nullptr));
    host_bytes_ = 0;
    BERTH_CUDA_CHECK(cudaHostAlloc(&host_, host_bytes, cudaHostAllocPortable),
                     "page-locking " + std::to_string(host_bytes) + " bytes of host memory");
    std::memset(host_, 1, host_bytes);
    host_bytes_ = host_bytes;
  }

  void release(int device) noexcept override { benches_.erase(device); }

  GpuTime copy_to_device(int device, std::size_t bytes) override {
    Bench& bench = at(device);
    return bench.time([&] {
      BERTH_CUDA_CHECK(
          cudaMemcpyAsync(bench.data(), host_, bytes, cudaMemcpyHostToDevice, bench.stream()),
          "copying to device " + std::to_string(device));
    });
  }

  GpuTime copy_to_host(int device, std::size_t bytes) override {
    Bench& bench = at(device);
    return bench.time([&] {
      BERTH_CUDA_CHECK(
          cudaMemcpyAsync(host_, bench.data(), bytes, cudaMemcpyDeviceToHost, bench.stream()),
          "copying from device " + std::to_string(device));
    });
  }

  GpuTime read_memory(int device, std::size_t bytes) override {
    Bench& bench = at(device);
    return bench.time(
        [&] { xor_words_on_device(bench.data(), bytes, bench.word(), bench.stream()); });
  }

  std::optional<GpuTime> copy_between(int from, int to, std::size_t bytes) override {
    if (!reach(from, to)) return std::nullopt;
    Bench& bench = at(from);
    Bench& other = at(to);
    return bench.time([&] {
      BERTH_CUDA_CHECK(
          cudaMemcpyPeerAsync(other.data(), to, bench.data(), from, bytes, bench.stream()),
          "copying from device " + std::to_string(from) + " to " + std::to_string(to));
    });
  }

 private:
  Bench& at(int device) {
    const auto found = benches_.find(device);
    if (found == benches_.end()) {
      throw Error("device " + std::to_string(device) + " was not prepared for measuring");
    }
    return found->second;
  }

  // Lets the two GPUs access each other's memory. Returns false where the hardware cannot do that.
  static bool reach(int from, int to) {
    int can = 0;
    if (cudaDeviceCanAccessPeer(&can, from, to) != cudaSuccess || !can) {
      cudaGetLastError();
      return false;
    }
    BERTH_CUDA_CHECK(cudaSetDevice(from), "selecting device " + std::to_string(from));
    const cudaError_t status = cudaDeviceEnablePeerAccess(to, 0);
    const bool enabled = status == cudaSuccess || status == cudaErrorPeerAccessAlreadyEnabled;
    cudaGetLastError();
    return enabled;
  }

  std::map<int, Bench> benches_;
  void* host_ = nullptr;
  std::size_t host_bytes_ = 0;
};

}  // namespace

std::unique_ptr<GpuBench> make_gpu_bench() { return std::make_unique<CudaGpuBench>(); }

}  // namespace berth
