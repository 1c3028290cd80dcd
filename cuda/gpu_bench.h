// Single timed operations on GPUs, behind an interface: CUDA here, a made-up one in tests. How
// often they run and what is made of their times is the caller's (runtime/calibrate).
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

// Seconds of one operation, by two clocks.
struct GpuTime {
  double device = 0;  // between two events around it: what bandwidth is made of
  double host = 0;    // from the call to its known end: what a small hop costs
};

// Used by one thread. Every call may throw Error; the object stays usable.
class GpuBench {
 public:
  virtual ~GpuBench() = default;

  virtual int count() const = 0;
  virtual GpuIdentity identity(int device) = 0;
  // Makes buffers for the operations on `device`: of `bytes` (a multiple of 16) there, and of
  // `host_bytes` at most in pinned host memory.
  virtual void prepare(int device, std::size_t bytes, std::size_t host_bytes) = 0;
  // Frees what prepare() made on it. Never throws.
  virtual void release(int device) noexcept = 0;

  // One copy between pinned host memory and the device, either way.
  virtual GpuTime copy_to_device(int device, std::size_t bytes) = 0;
  virtual GpuTime copy_to_host(int device, std::size_t bytes) = 0;
  // Device memory read once by a kernel.
  virtual GpuTime read_memory(int device, std::size_t bytes) = 0;
  // One copy from GPU to GPU, both prepared; nullopt where they cannot reach each other's memory.
  virtual std::optional<GpuTime> copy_between(int from, int to, std::size_t bytes) = 0;
};

// CUDA's. Without a driver or GPU, and in a build without CUDA, one whose count() is 0.
std::unique_ptr<GpuBench> make_gpu_bench();

}  // namespace berth
