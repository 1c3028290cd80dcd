// What layers do between positions where it is not plain attention: latent and linear attention.
#pragma once

#include <cstdint>
#include <string_view>

#include "planner/model/tree/config.h"

namespace berth {

/// What a layer does between positions.
enum class Mixing : std::uint8_t { kAttention, kLinear };

/// Linear attention by the gated delta rule, behind a short convolution: the sizes that config.json
/// gives it. Neighbouring value heads share a key head.
struct LinearSizes {
  std::int64_t key_heads = 0;
  std::int64_t value_heads = 0;
  std::int64_t key_dim = 0;  // of a head
  std::int64_t value_dim = 0;
  std::int64_t kernel = 0;  // positions that the convolution sees

  std::int64_t keys() const { return key_heads * key_dim; }
  std::int64_t values() const { return value_heads * value_dim; }
  std::int64_t channels() const { return 2 * keys() + values(); }  // of the convolution
};

/// Throws Error for sizes that nothing can be computed with.
LinearSizes read_linear_sizes(const ModelConfig& config);

/// The name of the modules of linear attention in a layer of any family that has it.
inline constexpr std::string_view kLinearBlock = "linear_attn";

}  // namespace berth
