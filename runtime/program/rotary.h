// Rotary embedding: by which angles queries and keys turn.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/model/tree/config.h"
#include "runtime/program/family.h"

namespace berth {

// The angles of position p are p x inverse_frequency.
struct Rotary {
  std::vector<float> inverse_frequency;  // half as many as there are dimensions that rotate
};

// The rotary frequencies that `rope_parameters` asks for, of type default, linear or llama3;
// formulas are those of transformers (modeling_rope_utils.py). Throws Error for other types, and
// where transformers cannot compute with the settings either.
Rotary make_rotary(const ModelConfig& config, const Family& family, std::int64_t head_dim);

}  // namespace berth
