// Measures how fast GPUs exchange bytes with the host and with each other, and how fast they read
// their own memory.
//
// A bandwidth is the median over single copies between pinned memory and the device, timed by
// events on the device. A latency is the median over copies of 4 KiB, timed by the host from the
// call until it knows that the copy is done. Device memory is read by a kernel that takes every
// byte of a buffer once, as weights are read; the buffer is larger than any cache. Arithmetic is
// not measured: an honest rate would need the matrix library that will run, so published figures
// are used instead.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "berth/error.h"
#include "cuda/gpu_bench.h"

namespace berth {

struct GpuOptions {
  double seconds = 12;  // to spend on all GPUs and pairs together
  const std::atomic<bool>* cancel = nullptr;
};

struct MeasuredLink {
  double bandwidth = 0;  // bytes/s
  double latency = 0;    // seconds
};

struct MeasuredGpu {
  int ordinal = 0;  // CUDA's
  std::string name;
  std::string uuid;
  double memory = 0;  // bytes/s read
  MeasuredLink to_device;
  MeasuredLink to_host;
  std::uint64_t copy_bytes = 0;    // that each copy moved
  std::uint64_t memory_bytes = 0;  // that each read of the memory took
};

struct MeasuredPair {
  int from = 0;
  int to = 0;
  MeasuredLink link;
};

struct MeasuredGpus {
  std::vector<MeasuredGpu> gpus;    // those that could be measured
  std::vector<MeasuredPair> peers;  // one entry a direction, for pairs that can access each other
  std::vector<std::string> notes;   // what could not be measured, and why
};

// Measures all GPUs of `bench`, then all pairs. Where one fails, a note says so, and the others are
// still measured. Throws Interrupted when cancelled.
MeasuredGpus measure_gpus(GpuBench& bench, const GpuOptions& options);

}  // namespace berth
