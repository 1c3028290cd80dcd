// Measures how much the CPU computes in a second with the library that runs models here: torch's
// linear layer, for each dtype, with one row (as in decoding a token) and with many (as for a
// prompt).
//
// This header does not include torch.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace berth {

struct ComputeOptions {
  double seconds = 15;        // to spend
  std::uint64_t weights = 0;  // bytes of weights that one pass reads: about four times all caches
  const std::atomic<bool>* cancel = nullptr;
};

struct ComputeRates {
  // By torch dtype name: bytes of weights per second of linear(x [1, 4096], weight [4096, 4096]),
  // over so many different weights that none is still in a cache when its turn comes again.
  std::map<std::string, double, std::less<>> matvec;
  // Likewise: FLOP/s of linear(x [512, 4096], weight [4096, 4096]), which takes 2 x 512 x 4096 x
  // 4096 operations. With fewer rows, but at least 16, where a dtype is so slow that 512 would take
  // too long.
  std::map<std::string, double, std::less<>> matmul;
  int threads = 0;                 // how many torch computes with
  std::vector<std::string> notes;  // which dtypes could not be measured, and why
};

// Measures all dtypes; figures are medians of several passes. Throws Interrupted when cancelled.
ComputeRates measure_compute(const ComputeOptions& options);

}  // namespace berth
