// Single timed operations on GPUs, behind an interface: CUDA's are here, and tests make some up.
// The caller (runtime/calibrate) decides how often they run and what follows from their times.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace berth {

struct GpuIdentity {
  std::string name;        // "NVIDIA H200"
  std::string uuid;        // "GPU-5f1c...", as NVML writes it
  std::uint64_t free = 0;  // bytes of device memory
};

// How long one operation took, in seconds, by two clocks.
struct GpuTime {
  double device = 0;  // between an event before and one after it: for bandwidth
  double host = 0;    // from the call until the host knows it is done: for latency
};

// For use by one thread. Every call may throw Error; the object stays usable after that.
class GpuBench {
 public:
  virtual ~GpuBench() = default;

  virtual int count() const = 0;
  virtual GpuIdentity identity(int device) = 0;
  // Makes buffers for the operations on `device`: one of `bytes` bytes (a multiple of 16) in its
  // memory, and one of at least `host_bytes` bytes in pinned host memory, which all devices share.
  virtual void prepare(int device, std::size_t bytes, std::size_t host_bytes) = 0;
  // Frees what prepare() made on `device`.
  virtual void release(int device) noexcept = 0;

  // One copy between pinned host memory and the device, either way.
  virtual GpuTime copy_to_device(int device, std::size_t bytes) = 0;
  virtual GpuTime copy_to_host(int device, std::size_t bytes) = 0;
  // Reads `bytes` bytes of device memory once, with a kernel.
  virtual GpuTime read_memory(int device, std::size_t bytes) = 0;
  // One copy from GPU to GPU; both must be prepared. Returns nothing where they cannot access each
  // other's memory.
  virtual std::optional<GpuTime> copy_between(int from, int to, std::size_t bytes) = 0;
};

// The operations by CUDA. Without a driver or GPU, and in a build without CUDA, count() is 0.
std::unique_ptr<GpuBench> make_gpu_bench();

}  // namespace berth
