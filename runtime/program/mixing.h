// What layers do between positions where it is not plain attention: latent and linear attention,
// and short convolutions.
#pragma once

#include <cstdint>
#include <string_view>

#include "berth/model.h"
#include "planner/model/tree/config.h"

namespace berth {

/// What a layer does between positions.
enum class Mixing : std::uint8_t { kAttention, kLatent, kLinear, kConvolution };

/// Multi-head latent attention (DeepSeek-AI, "DeepSeek-V2", arXiv 2405.04434): the sizes that
/// config.json gives it. Keys and values of all heads are made of one latent a position, and a part
/// of each key, which all heads share, rotates.
struct LatentSizes {
  std::int64_t heads = 0;
  std::int64_t rank = 0;    // elements of the latent
  std::int64_t plain = 0;   // dimensions of a key that are made of the latent
  std::int64_t rotary = 0;  // those that rotate
  std::int64_t value = 0;   // dimensions of a value
  double scale = 1;         // of scores

  std::int64_t cached() const { return rank + rotary; }  // elements of a position in the cache
  std::int64_t query() const { return plain + rotary; }  // dimensions of a query
};

/// Throws Error for sizes that nothing can be computed with.
LatentSizes read_latent_sizes(const ModelConfig& config, const ModelTree& tree);

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

/// The names of the modules of latent attention in a layer of any family that has it. Its norms
/// have an epsilon of their own, which is no setting.
inline constexpr std::string_view kLatentBlock = "self_attn";
inline constexpr double kLatentEpsilon = 1e-6;

/// The name of the modules of linear attention in a layer of any family that has it.
inline constexpr std::string_view kLinearBlock = "linear_attn";

/// The name of the modules of a short convolution in a layer of any family that has it.
inline constexpr std::string_view kConvolutionBlock = "conv";

}  // namespace berth
