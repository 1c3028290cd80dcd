// Quantised weights in a tree that was made from tensor names. There is no template to say how
// large a layer is, so the stored shapes and the config's bits have to.

#include <algorithm>
#include <string>

#include "planner/model/quant/deduce.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

// The stored tensors of one module, by their last names.
class NamedLayer {
 public:
  NamedLayer(ModelTree& tree, const Module& module, unsigned bits, std::uint64_t mlx_group,
             LabelShares& shares)
      : tree_(tree), module_(module), bits_(bits), mlx_group_(mlx_group), shares_(shares) {}

  void mark() {
    if (ModelTensor* packed = matrix("qweight")) {
      mark_words(*packed);
    } else if (ModelTensor* mlx = find("weight");
               mlx != nullptr && mlx->stored == DType::kU32 && find("scales") != nullptr) {
      mark_mlx(*mlx, *find("scales"));
    } else if (ModelTensor* words = matrix("weight_packed")) {
      const bool floats = words->stored == DType::kU8;
      const std::uint64_t a_word = floats ? 2 : 32 / bits_;
      note(*words, words->shape[0] * words->shape[1] * a_word,
           floats ? "FP4" : "compressed-tensors " + std::to_string(bits_) + "-bit");
    } else if (ModelTensor* weight = matrix("weight");
               weight != nullptr && is_eight_bits(*weight)) {
      mark_eight_bits(*weight);
    }
    mark_blocks();
  }

 private:
  ModelTensor* find(std::string_view leaf) const {
    const auto found = std::ranges::find_if(
        module_.tensors, [&](TensorId id) { return leaf_of(tree_.tensors[id].name) == leaf; });
    return found == module_.tensors.end() ? nullptr : &tree_.tensors[*found];
  }
  ModelTensor* matrix(std::string_view leaf) const {
    ModelTensor* tensor = find(leaf);
    return tensor != nullptr && tensor->shape.size() == 2 ? tensor : nullptr;
  }
  static bool is_eight_bits(const ModelTensor& tensor) { return dtype_bits(tensor.stored) == 8; }

  // The parameters are in `weight`. Everything else in the module but a bias helps to read them.
  void note(ModelTensor& weight, std::uint64_t values, const std::string& label) {
    for (const TensorId id : module_.tensors) {
      ModelTensor& tensor = tree_.tensors[id];
      if (leaf_of(tensor.name) != "bias") set(tensor, 0);
    }
    set(weight, values);
    shares_[label] += values;
  }
  static void set(ModelTensor& tensor, std::uint64_t values) {
    tensor.values = values;
    tensor.dtype = tensor.stored;
  }

  // GPTQ packs along the input, AWQ along the output. In both, scales are [groups, out].
  void mark_words(ModelTensor& packed) {
    const ModelTensor* scales = matrix("scales");
    if (scales == nullptr) return;
    const std::uint64_t out = scales->shape[1];
    const bool gptq = packed.shape[1] == out;
    const std::uint64_t in = gptq ? packed.shape[0] * 32 / bits_ : packed.shape[0];
    note(packed, in * out, (gptq ? "GPTQ " : "AWQ ") + std::to_string(bits_) + "-bit");
  }

  // MLX packs along the input; a group of inputs has a scale and a bias. Experts are stacked.
  void mark_mlx(ModelTensor& weight, const ModelTensor& scales) {
    std::uint64_t values = mlx_group_;
    for (const std::uint64_t size : scales.shape) {
      if (__builtin_mul_overflow(values, size, &values)) return;
    }
    const std::uint64_t bits = values > 0 ? weight.bytes() * 8 / values : 0;
    note(weight, values, "MLX " + std::to_string(bits) + "-bit");
  }

  // FP8, int8, and pairs of 4 bits in a U8.
  void mark_eight_bits(ModelTensor& weight) {
    const std::uint64_t stored = weight.shape[0] * weight.shape[1];
    const auto below = std::ranges::find_if(
        module_.children, [&](ModuleId child) { return tree_.modules[child].name == weight.name; });
    if (weight.stored == DType::kU8 && below != module_.children.end()) {
      note(weight, 2 * stored, "bitsandbytes 4-bit");  // "weight.absmax" and the like
      mark_scales(tree_.modules[*below]);
    } else if (find("SCB") != nullptr) {
      note(weight, stored, "bitsandbytes 8-bit");
    } else if (find("weight_scale_2") != nullptr && weight.stored == DType::kU8) {
      note(weight, 2 * stored, "NVFP4");
    } else if (find("weight_scale") != nullptr || find("weight_scale_inv") != nullptr) {
      note(weight, stored, weight.stored == DType::kI8 ? "INT8" : "FP8");
    }
  }

  void mark_scales(const Module& module) {
    for (const TensorId id : module.tensors) set(tree_.tensors[id], 0);
    for (const ModuleId child : module.children) mark_scales(tree_.modules[child]);
  }

  // MXFP4: "experts.up_proj_blocks" and "experts.up_proj_scales", pairs of 4 bits.
  void mark_blocks() {
    for (const TensorId id : module_.tensors) {
      ModelTensor& blocks = tree_.tensors[id];
      const std::string_view leaf = leaf_of(blocks.name);
      constexpr std::string_view kEnd = "_blocks";
      if (!leaf.ends_with(kEnd) || blocks.stored != DType::kU8) continue;
      const std::string front(leaf.substr(0, leaf.size() - kEnd.size()));
      ModelTensor* scales = find(front + "_scales");
      if (scales == nullptr) continue;
      set(*scales, 0);
      set(blocks, 2 * blocks.bytes());
      shares_["MXFP4"] += blocks.values;
    }
  }

  ModelTree& tree_;
  const Module& module_;
  unsigned bits_;
  std::uint64_t mlx_group_;
  LabelShares& shares_;
};

// What a config says about all layers, or about its first group of layers; 4 if it says nothing.
unsigned bits_of(const ModelConfig* config) {
  constexpr unsigned kUsual = 4;
  if (config == nullptr) return kUsual;
  for (const std::string& key : config->keys("quantization_config.")) {
    if (!key.ends_with("bits")) continue;
    const auto* bits =
        config->find(key) == nullptr ? nullptr : std::get_if<std::int64_t>(config->find(key));
    if (bits != nullptr && *bits >= 2 && *bits <= 8) return static_cast<unsigned>(*bits);
  }
  return kUsual;
}

std::uint64_t mlx_group_of(const ModelConfig* config) {
  constexpr std::int64_t kUsual = 64;
  constexpr std::int64_t kMost = 1 << 20;
  const std::int64_t group =
      config == nullptr ? kUsual : config->integer("quantization.group_size").value_or(kUsual);
  return static_cast<std::uint64_t>(group >= 1 && group <= kMost ? group : kUsual);
}

}  // namespace

void mark_quantized_names(ModelTree& tree, const ModelConfig* config) {
  const unsigned bits = bits_of(config);
  const std::uint64_t mlx_group = mlx_group_of(config);
  LabelShares shares;
  constexpr std::size_t kMostParts = 1024;  // far above any layer's: a flat file is not a layer
  for (const Module& module : tree.modules) {
    if (!module.tensors.empty() && module.tensors.size() <= kMostParts) {
      NamedLayer(tree, module, bits, mlx_group, shares).mark();
    }
  }
  tree.quantization = join_labels(shares);
}

}  // namespace berth
