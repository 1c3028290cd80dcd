// The processor and the disk of this machine, as far as they can be known without measuring.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace berth {

struct CpuReport {
  std::string model;            // "AMD EPYC 9654 96-Core Processor", "" where unknown
  unsigned cores = 1;           // physical cores' worth of the `threads` below
  double memory_bandwidth = 0;  // bytes/s
  double flops = 0;             // FLOP/s
};

// An estimate that stands until measured: 12 GB/s a core up to 200 GB/s a socket, and 2.5 GHz times
// the f32 operations that a core does a cycle (64 with AVX-512, 32 with AVX2, else 16), since
// 16-bit weights are widened to f32 to be multiplied. `threads` is how many this process may run
// on. Reads proc/cpuinfo below `root`; never throws.
CpuReport read_cpu(unsigned threads, const std::filesystem::path& root = "/");

struct DiskReport {
  std::uint64_t total = 0;
  std::uint64_t free = 0;      // to this user
  std::filesystem::path path;  // the folder that was asked
};

// The file system that `folder` is on, or would be once made: its nearest parent that exists.
std::optional<DiskReport> read_disk(const std::filesystem::path& folder);

}  // namespace berth
