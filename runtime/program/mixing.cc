#include "runtime/program/mixing.h"

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

}  // namespace

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
