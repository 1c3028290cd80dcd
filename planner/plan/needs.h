// What a model needs, whatever the hardware: the bytes of its largest layer, of all its parameters
// and of its KV cache, for each dtype that it might be held in.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "berth/model.h"

namespace berth {

// The needs in one dtype. Counted are the bytes of parameters alone (no buffers), tied ones once,
// as `accelerate estimate-memory` counts them: parameters x width, whatever dtype they are stored
// in.
struct Need {
  std::string_view dtype;           // "float32", "bfloat16", "int8", "4-bit"
  unsigned bits = 0;                // of a parameter
  std::uint64_t largest_layer = 0;  // bytes of the largest no-split module, leaf or single tensor
  std::uint64_t total = 0;          // bytes of the model
  std::uint64_t kv_per_1000_tokens = 0;  // bytes of one sequence; 0: the model's facts are unknown
  unsigned kv_bits = 0;                  // of a cached element: 32 for float32, else 16
};

// One row each for float32, bfloat16, int8 and 4-bit, in this order. Pure.
std::vector<Need> model_needs(const ModelTree& tree);

}  // namespace berth
