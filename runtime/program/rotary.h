// Rotary embedding: by which angles queries and keys turn (Su et al., "RoFormer", arXiv
// 2104.09864). Formulas of scaled frequencies are those of transformers (modeling_rope_utils.py).
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "planner/model/tree/config.h"
#include "runtime/program/family.h"

namespace berth {

/// The angles of position p are p x frequencies. Where a pass ends beyond `trained` positions, all
/// its positions turn by other frequencies than in a shorter pass, as in transformers.
struct Rotary {
  std::vector<float> inverse_frequency;  // half as many as there are dimensions that rotate
  double factor = 1;                     // of cosines and sines
  double long_factor = 0;                // the same beyond `trained`; 0: no other one
  bool neighbours = false;            // dimensions 2i and 2i + 1 make a pair; else i and i + half
  std::uint64_t trained = 0;          // 0: the length does not matter
  std::vector<float> long_frequency;  // beyond `trained`, of type longrope
  double base = 0, stretch = 0;       // beyond `trained`, of type dynamic
  double growth = 0, growth_length = 0;  // of queries; 0: none

  /// The frequencies of a pass that ends at position `length`, not included.
  std::vector<float> frequencies(std::uint64_t length) const;
  /// What a query is multiplied with at a position: 1 below `growth_length`, and then more (Meta,
  /// Llama 4's scaling of temperature).
  double query_scale(std::uint64_t position) const {
    if (growth == 0) return 1;
    return 1 + growth * std::log(1 + std::floor(static_cast<double>(position) / growth_length));
  }
  /// What scales cosines and sines in such a pass.
  double scale(std::uint64_t length) const {
    return long_factor != 0 && length > trained ? long_factor : factor;
  }
};

/// What `rope_parameters` asks for, of type default, linear, dynamic, yarn, longrope or llama3.
/// `layer_type` is the kind of layer that it is for, such as "sliding_attention", where the family
/// has settings for each; else it is empty. Throws Error for other types, and where transformers
/// cannot compute with the settings either.
Rotary make_rotary(const ModelConfig& config, const Family& family, std::int64_t head_dim,
                   std::string_view layer_type);

}  // namespace berth
