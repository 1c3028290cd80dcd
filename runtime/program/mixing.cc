#include "runtime/program/mixing.h"

#include <cmath>
#include <string>

#include "berth/error.h"

namespace berth {
namespace {

std::int64_t require_size(const ModelConfig& config, std::string_view key) {
  const std::int64_t size = config.require_integer(key);
  if (size > 0) return size;
  throw Error(config.source() + ": " + std::string(key) + ": must be positive, not " +
              std::to_string(size));
}

// As many dimensions of keys must rotate as rotary embedding is made for: the template knows which
// setting decides that.
void check_rotary(const ModelConfig& config, const ModelTree& tree, std::int64_t rotary) {
  for (const ModelTensor& tensor : tree.tensors) {
    if (!tensor.name.ends_with(".rotary_emb.inv_freq") || tensor.shape.size() != 1) continue;
    const auto dimensions = static_cast<std::int64_t>(2 * tensor.shape[0]);
    if (dimensions == rotary) return;
    throw Error(config.source() + ": qk_rope_head_dim: " + std::to_string(rotary) +
                " cannot be run: by head_dim or partial_rotary_factor, " +
                std::to_string(dimensions) + " dimensions rotate");
  }
}

// What yarn multiplies scores with: transformers' yarn_apply_mscale().
double yarn_scale(const ModelConfig& config) {
  const auto type = config.text("rope_parameters.rope_type").value_or("default");
  const double all = config.number("rope_parameters.mscale_all_dim").value_or(0);
  if (type == "default" || all == 0) return 1;
  const double factor = config.require_number("rope_parameters.factor");
  const double scale = factor <= 1 ? 1 : 0.1 * all * std::log(factor) + 1;
  return scale * scale;
}

}  // namespace

LatentSizes read_latent_sizes(const ModelConfig& config, const ModelTree& tree) {
  LatentSizes sizes;
  sizes.heads = require_size(config, "num_attention_heads");
  sizes.rank = require_size(config, "kv_lora_rank");
  sizes.plain = require_size(config, "qk_nope_head_dim");
  sizes.rotary = require_size(config, "qk_rope_head_dim");
  sizes.value = require_size(config, "v_head_dim");
  // Transformers repeats keys and values of fewer heads, although there are as many as queries.
  const std::int64_t keys = config.integer("num_key_value_heads").value_or(sizes.heads);
  if (keys != sizes.heads) {
    throw Error(config.source() + ": num_key_value_heads: " + std::to_string(keys) +
                " cannot be run: latent attention has a key for each of the " +
                std::to_string(sizes.heads) + " heads");
  }
  check_rotary(config, tree, sizes.rotary);
  sizes.scale = yarn_scale(config) / std::sqrt(static_cast<double>(sizes.query()));
  return sizes;
}

LinearSizes read_linear_sizes(const ModelConfig& config) {
  LinearSizes sizes;
  sizes.key_heads = require_size(config, "linear_num_key_heads");
  sizes.value_heads = require_size(config, "linear_num_value_heads");
  sizes.key_dim = require_size(config, "linear_key_head_dim");
  sizes.value_dim = require_size(config, "linear_value_head_dim");
  sizes.kernel = require_size(config, "linear_conv_kernel_dim");
  if (sizes.value_heads % sizes.key_heads != 0) {
    throw Error(config.source() + ": linear_num_key_heads: " + std::to_string(sizes.key_heads) +
                " does not divide " + std::to_string(sizes.value_heads) + " value heads");
  }
  return sizes;
}

}  // namespace berth
