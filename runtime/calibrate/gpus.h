// How fast GPUs exchange bytes with the host and each other, and read their own memory.
//
// Bandwidths are medians of single copies between pinned memory and the device, timed by events on
// the device; latencies medians of 4 KiB copies, timed by the host from the call to the known end.
// Device memory is read by a kernel that takes every byte once, since weights are read, over a
// buffer larger than any cache. Arithmetic is not measured: an honest rate needs the matrix library
// that will run, and published figures stand in for it.
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
  std::uint64_t copy_bytes = 0;    // of a copy
  std::uint64_t memory_bytes = 0;  // of a read
};

struct MeasuredPair {
  int from = 0;
  int to = 0;
  MeasuredLink link;
};

struct MeasuredGpus {
  std::vector<MeasuredGpu> gpus;    // those that could be measured
  std::vector<MeasuredPair> peers;  // pairs that reach each other's memory, one direction each
  std::vector<std::string> notes;   // what could not be measured, and why
};

// A GPU or a pair that fails is a note, and the others go on. Throws Error when cancelled.
MeasuredGpus measure_gpus(GpuBench& bench, const GpuOptions& options);

}  // namespace berth
