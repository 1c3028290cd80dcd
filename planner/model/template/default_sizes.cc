#include "planner/model/template/default_sizes.h"

#include <algorithm>
#include <string_view>

#include "planner/base/digits.h"
#include "planner/model/tree/text_keys.h"

namespace berth {
namespace {

// How keys of sizes end, besides those of text_keys.h. What they count is part of the shapes of
// tensors, or of how many there are.
constexpr std::string_view kEndings[] = {"_size",   "_dim",     "_heads",        "_rank",
                                         "_layers", "_experts", "depth",         "_inner",
                                         "_input",  "size_mlp", "conv_channels", "d_state"};
// Those that end like a size and are none.
constexpr std::string_view kNoSizes[] = {"max_window_layers", "num_kv_shared_layers",
                                         "chunk_size",        "attention_chunk_size",
                                         "mamba_chunk_size",  "global_attn_every_n_layers"};

bool is_size(std::string_view key) {
  static constexpr KeyNames kSizes[] = {keys::kLayers,       keys::kDecoderLayers, keys::kHidden,
                                        keys::kIntermediate, keys::kVocabulary,    keys::kHeads,
                                        keys::kKvHeads,      keys::kHeadDim};
  const std::string_view last = key.substr(key.rfind('.') + 1);  // npos + 1 is 0
  if (std::ranges::find(kNoSizes, last) != std::end(kNoSizes)) return false;
  return std::ranges::any_of(kEndings, [last](auto end) { return last.ends_with(end); }) ||
         std::ranges::any_of(kSizes, [last](KeyNames names) {
           return std::ranges::find(names, last) != names.end();
         });
}

}  // namespace

std::string default_sizes(const ModelConfig& config, const Architecture& architecture,
                          const Fallbacks& fallbacks) {
  Fallbacks taken;
  for (const auto& [key, value] : fallbacks) {
    if (is_size(key) && !config.has(key)) taken.emplace(key, value);
  }
  for (const auto& [key, expression] : architecture.defaults) {
    const ModelConfig::Value* value = config.find(key);
    if (value == nullptr || !config.is_default(key) || !is_size(key)) continue;
    const auto size = whole_value(*value);
    if (size && is_number(expression.text())) taken.emplace(key, *size);
  }
  if (taken.empty()) return "";
  std::string listed;
  for (const auto& [key, size] : taken) {
    if (!listed.empty()) listed += ", ";
    listed += key + " " + std::to_string(size);
  }
  return config.source() + ": sizes that it leaves out are transformers' defaults for a " +
         architecture.model_type + " model: " + listed;
}

}  // namespace berth
