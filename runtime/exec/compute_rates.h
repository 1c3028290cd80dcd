// What the CPU computes a second with the libraries that run models here: torch's linear layer, by
// dtype, with one row (decoding a token) and with many (a prompt).
//
// Torch-free on the outside, as executor.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace berth {

struct ComputeOptions {
  double seconds = 15;        // to spend
  std::uint64_t weights = 0;  // bytes of weights for one pass: four times all caches, or so
  const std::atomic<bool>* cancel = nullptr;
};

struct ComputeRates {
  // Bytes of weights a second of linear(x [1, 4096], weight [4096, 4096]) over different weights,
  // so many that none is still in a cache when its turn comes again. By torch dtype name.
  std::map<std::string, double, std::less<>> matvec;
  // FLOP/s of linear(x [512, 4096], weight [4096, 4096]): 2 x 512 x 4096 x 4096 a call. Fewer rows,
  // 16 at least, where a dtype is so slow that 512 would not fit the time.
  std::map<std::string, double, std::less<>> matmul;
  int threads = 0;                 // that torch computes with
  std::vector<std::string> notes;  // what torch cannot do here
};

// Medians of several passes. Throws Error for lack of memory, and when cancelled.
ComputeRates measure_compute(const ComputeOptions& options);

}  // namespace berth
