// What can be known about this machine's processor and disk without measuring.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace berth {

// What one core reads, and what a socket has at most, in bytes/s: estimates until they are
// measured.
inline constexpr double kCoreBandwidth = 12e9;
inline constexpr double kSocketBandwidth = 200e9;

struct CpuReport {
  std::string model;            // "AMD EPYC 9654 96-Core Processor"; "" if unknown
  unsigned cores = 1;           // how many physical cores the `threads` below amount to
  double memory_bandwidth = 0;  // bytes/s
  double flops = 0;             // FLOP/s
  double sockets = 1;
};

// The CPU, with speeds that are estimates until they are measured: 12 GB/s a core up to 200 GB/s a
// socket, and 2.5 GHz times the f32 operations that a core does in a cycle (64 with AVX-512, 32
// with AVX2, else 16); f32 because 16-bit weights are widened to it to be multiplied. `threads`:
// the CPUs that this process may run on. Reads proc/cpuinfo below `root`. Never throws.
CpuReport read_cpu(unsigned threads, const std::filesystem::path& root = "/");

struct DiskReport {
  std::uint64_t total = 0;     // bytes
  std::uint64_t free = 0;      // bytes that this user may fill
  std::filesystem::path path;  // the folder whose file system this is
};

// The file system that `folder` is on. If the folder does not exist, that of its nearest parent
// that does, where it would be made. Nothing if the system does not say.
std::optional<DiskReport> read_disk(const std::filesystem::path& folder);

}  // namespace berth
