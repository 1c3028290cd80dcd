// "What would this model need?", whatever the hardware: its largest layer, all of it, and its KV
// cache, by the dtype that it might be held in.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "berth/model.h"

namespace berth {

// One dtype. Bytes of parameters alone, tied ones once, counted as `accelerate estimate-memory`
// counts them: parameters x width, whatever they are stored in.
struct Need {
  std::string_view dtype;                // "float32", "bfloat16", "int8", "4-bit"
  unsigned bits = 0;                     // a parameter
  std::uint64_t largest_layer = 0;       // the largest no-split module, leaf or single tensor
  std::uint64_t total = 0;               // all of the model
  std::uint64_t kv_per_1000_tokens = 0;  // of one sequence; 0 where the model's facts are unknown
  unsigned kv_bits = 0;                  // a cached element: 32 for float32, else 16
};

// The rows float32, bfloat16, int8 and 4-bit.
std::vector<Need> model_needs(const ModelTree& tree);

}  // namespace berth
