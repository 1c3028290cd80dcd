// Zero points of quantised weights: from how each format stores them to a table of floats.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "cuda/dequant.h"
#include "planner/model/tree/quant_format.h"
#include "runtime/quant/read_part.h"

namespace berth {

// How the zero points of a weight agree with what the files that describe the model say of them.
enum class ZeroPointFinding : std::uint8_t {
  kAsSaid,
  kByValues,  // GPTQ, symmetric: the stored values mean 2^(bits-1), though files say otherwise
  kUneven,    // GPTQ: files say symmetric, the values are not all 2^(bits-1), and they were used
};

// Fills `to` with the zero point for each of the weight's scales. Which stored number belongs to
// which scale follows from the layout. Throws Error naming the part where it holds too few numbers,
// and where neither the files nor the values tell what they mean.
ZeroPointFinding read_zero_points(const QuantScheme& scheme, const QuantLayout& layout,
                                  const ReadPart& zeros, std::span<float> to);

// Gathers findings about many weights, and makes one note of those that are alike. Not thread-safe.
class ZeroPointNotes {
 public:
  // `tensor` is the name of the stored zero points.
  void add(const QuantScheme& scheme, ZeroPointFinding finding, std::string_view tensor);
  std::vector<std::string> lines() const;

 private:
  struct Weights {
    std::uint64_t count = 0;
    std::string first;  // by name, because weights come in any order
  };
  std::map<std::tuple<ZeroPointFinding, unsigned, ZeroPoints>, Weights> found_;
};

}  // namespace berth
