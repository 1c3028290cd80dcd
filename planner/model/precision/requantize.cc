#include "planner/model/precision/requantize.h"

#include <algorithm>
#include <string>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/precision/gguf_roles.h"
#include "planner/model/precision/matrices.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/tree/dequantization.h"

namespace berth {
namespace {

// The 16 bits of what is not quantised: those that the model has most of, else bfloat16.
DType sixteen_bits(const ModelTree& tree) {
  std::uint64_t halves = 0;
  std::uint64_t brains = 0;
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.buffer) continue;
    if (tensor.dtype == DType::kF16) halves += tensor.bytes();
    if (tensor.dtype == DType::kBF16) brains += tensor.bytes();
  }
  return halves > brains ? DType::kF16 : DType::kBF16;
}

// Whether the model's matrices are plain floats of more than 16 bits.
bool is_wide(const ModelTree& tree) {
  std::uint64_t wide = 0;
  std::uint64_t all = 0;
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.buffer || tensor.shape.size() < 2) continue;
    all += tensor.elements();
    if (dtype_bits(tensor.dtype) > 16 && is_convertible(tensor.dtype)) wide += tensor.elements();
  }
  return wide > all / 2;
}

// Any tensor that is stored in more parts than one, or in words, has a shape of its own.
void require_shapes(const ModelTree& tree) {
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.values == ModelTensor::kAsShaped) continue;
    throw Error(tree.name + ": its " + tree.quantization +
                " weights cannot be planned in another precision: which shapes they have is not "
                "known");
  }
}

void forget_checkpoint(ModelTree& tree) {
  for (ModelTensor& tensor : tree.tensors) {
    tensor.stored = tensor.dtype;
    tensor.source = kNone;
    tensor.dequantization = kNone;
    tensor.rearranged = false;
    tensor.tiled = false;
  }
  tree.quantized.reset();
  tree.ignored_bytes = 0;
}

// Whether the tools that write a scheme can store the matrix: they leave out what does not fill
// their words and groups.
bool takes(const QuantScheme& scheme, const Matrix& matrix) {
  switch (scheme.format) {
    case QuantFormat::kGptq:
      return matrix.out % 32 == 0 && matrix.in % 32 == 0;
    case QuantFormat::kAwq:
      return matrix.out % 8 == 0 && matrix.in % scheme.group == 0;
    case QuantFormat::kPacked:
    case QuantFormat::kPackedFloat:
      return matrix.in % scheme.group == 0;
    default:
      return true;
  }
}

class SchemeTree {
 public:
  SchemeTree(ModelTree tree, const QuantScheme& scheme)
      : tree_(std::move(tree)), scheme_(scheme), places_(tree_) {}

  ModelTree make() {
    const DType half = sixteen_bits(tree_);
    const bool wide = is_wide(tree_);
    for (TensorId id = 0; id < tree_.tensors.size(); ++id) {
      ModelTensor& tensor = tree_.tensors[id];
      if (const auto matrix = quantised(tensor)) {
        if (tensor.tied_to == kNone) replacements_.push_back({id, parts(tensor, *matrix)});
      } else if (tensor.persistent && !tensor.buffer) {
        const bool shrink = is_convertible(tensor.dtype) ? wide && dtype_bits(tensor.dtype) > 16
                                                         : true;  // blocks, and FP8 alone
        if (shrink) tensor.dtype = half;
      }
    }
    if (replacements_.empty()) {
      throw Error(tree_.name + ": no weight of a block can be stored as " + scheme_label(scheme_));
    }
    follow_ties(tree_);
    forget_checkpoint(tree_);
    replace_tensors(tree_, std::move(replacements_), {});
    tree_.quantization = scheme_label(scheme_);
    if (left_ > 0) {
      tree_.notes.push_back(std::to_string(left_) + (left_ == 1 ? " weight" : " weights") +
                            " of the blocks stay in 16 bits: " + scheme_label(scheme_) +
                            " has groups that do not fill them");
    }
    return std::move(tree_);
  }

 private:
  std::optional<Matrix> quantised(const ModelTensor& tensor) {
    if (!places_.in_block(tensor.module) || places_.in_tower(tensor.module)) return std::nullopt;
    const auto matrix = matrix_of(tree_, tensor);
    if (!matrix) return std::nullopt;
    const Module& module = tree_.modules[tensor.module];
    const bool linear = module.cls.ends_with("Linear") || is_transposed(module);
    if (matrix->count == 1 && tensor.shape.size() == 2 && !linear) return std::nullopt;
    if (takes(scheme_, *matrix)) return matrix;
    // A gate of one row is not worth a note.
    if (matrix->out > 1 && tensor.tied_to == kNone) ++left_;
    return std::nullopt;
  }

  // What is stored of one matrix, or of as many as a tensor holds.
  std::vector<ModelTensor> parts(const ModelTensor& weight, const Matrix& matrix) {
    const bool stack = weight.shape.size() == 3;
    const TensorShape shape = matrix.transposed && !stack ? TensorShape{matrix.in, matrix.out}
                                                          : TensorShape{matrix.out, matrix.in};
    std::vector<ModelTensor> out;
    for (const QuantPart& part : cache_.find(scheme_, std::string(leaf_of(weight.name)), shape,
                                             matrix.transposed && !stack)) {
      if (part.presence == Presence::kPossible) continue;
      ModelTensor& tensor = out.emplace_back();
      tensor.name = tree_.names.join(tree_.modules[weight.module].name, part.name);
      tensor.stored = tensor.dtype = part.dtype;
      if (stack) tensor.shape.push_back(matrix.count);
      for (const std::uint64_t size : part.shape) tensor.shape.push_back(size);
      tensor.module = weight.module;
      tensor.values = part.values * matrix.count;
    }
    return out;
  }

  ModelTree tree_;
  const QuantScheme& scheme_;
  ModulePlaces places_;
  QuantPartsCache cache_;
  std::vector<Replacement> replacements_;
  std::uint64_t left_ = 0;
};

class MixTree {
 public:
  MixTree(ModelTree tree, const GgufMix& mix, const ModelConfig* config)
      : tree_(std::move(tree)),
        mix_(mix),
        model_(gguf_model(tree_, config)),
        places_(tree_),
        half_(sixteen_bits(tree_)),
        tied_(has_tied_head(tree_)) {
    if (config != nullptr) read_latent(*config);
  }

  ModelTree make() {
    std::vector<std::uint64_t> values(tree_.facts.layers.size() + 1, 0);
    for (const ModelTensor& tensor : tree_.tensors) count_value(tensor, values);
    std::uint64_t number = 0;
    for (std::uint64_t& count : values) number += std::exchange(count, number);
    values_ = number;
    first_value_ = std::move(values);
    for (TensorId id = 0; id < tree_.tensors.size(); ++id) set_type(id);
    if (quantised_ == 0) {
      throw Error(tree_.name + ": no weight can be stored as " + std::string(mix_.name));
    }
    follow_ties(tree_);
    forget_checkpoint(tree_);
    if (!replacements_.empty()) replace_tensors(tree_, std::move(replacements_), {});
    tree_.quantization = "GGUF";
    return std::move(tree_);
  }

 private:
  // Of latent attention, whose kv_b_proj becomes two tensors: keys, transposed, and values.
  void read_latent(const ModelConfig& config) {
    const auto size = [&](const char* key) -> std::uint64_t {
      const ModelConfig::Value* value = config.find(key);
      const auto* whole = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
      return whole == nullptr || *whole < 0 ? 0 : static_cast<std::uint64_t>(*whole);
    };
    latent_key_ = size("qk_nope_head_dim");
    latent_value_ = size("v_head_dim");
  }

  bool splits(const ModelTensor& tensor, const Matrix& matrix) const {
    return tensor.name.ends_with("kv_b_proj.weight") && tree_.model_type != "minicpm3" &&
           latent_key_ > 0 && latent_value_ > 0 && matrix.out % (latent_key_ + latent_value_) == 0;
  }

  void count_value(const ModelTensor& tensor, std::vector<std::uint64_t>& values) const {
    const auto matrix = matrix_of(tree_, tensor);
    if (!matrix || tensor.tied_to != kNone || places_.in_tower(tensor.module)) return;
    if (splits(tensor, *matrix) || gguf_role(tree_, tensor, tied_) != GgufRole::kValue) return;
    const std::uint32_t layer = places_.layer(tensor.module);
    ++values[layer == kNone ? tree_.facts.layers.size() : layer];
  }

  GgufPlace place_of(const ModelTensor& tensor, GgufRole role) {
    GgufPlace place{role, places_.routed(tensor.module), 0, tree_.facts.layers.size()};
    const std::uint32_t layer = places_.layer(tensor.module);
    const std::size_t at = layer == kNone ? tree_.facts.layers.size() : layer;
    place.layer = at;
    if (role == GgufRole::kValue) {
      place.layer = first_value_[at]++;
      place.layers = values_;
    } else if (role == GgufRole::kDown && model_.experts <= 1) {
      place.layer = downs_++;
    }
    return place;
  }

  void set_type(TensorId id) {
    ModelTensor& tensor = tree_.tensors[id];
    if (!tensor.persistent || tensor.tied_to != kNone) return;
    const auto matrix = matrix_of(tree_, tensor);
    if (places_.in_tower(tensor.module)) {  // a file of its own, which is not quantised
      if (is_wide_float(tensor)) tensor.dtype = half_;
      return;
    }
    const GgufFloat floating = gguf_float(tensor, matrix);
    if (floating != GgufFloat::kNotFloat) {
      tensor.dtype = floating == GgufFloat::kWide ? DType::kF32 : half_;
      return;
    }
    ++quantised_;
    if (splits(tensor, *matrix)) {
      split(id, *matrix);
      return;
    }
    tensor.dtype =
        gguf_type(mix_, model_, place_of(tensor, gguf_role(tree_, tensor, tied_)), matrix->in);
    if (matrix->transposed)
      std::swap(tensor.shape[tensor.shape.size() - 1], tensor.shape[tensor.shape.size() - 2]);
  }

  static bool is_wide_float(const ModelTensor& tensor) {
    return is_convertible(tensor.dtype) && dtype_bits(tensor.dtype) > 16 && !tensor.buffer;
  }

  void split(TensorId id, const Matrix& matrix) {
    const ModelTensor& weight = tree_.tensors[id];
    const std::uint64_t heads = matrix.out / (latent_key_ + latent_value_);
    const GgufPlace place = place_of(weight, GgufRole::kOther);
    std::vector<ModelTensor> parts;
    const auto add = [&](std::string_view name, std::uint64_t rows, std::uint64_t row) {
      ModelTensor& part = parts.emplace_back();
      part.name = tree_.names.join(tree_.modules[weight.module].name, name);
      part.stored = part.dtype = gguf_type(mix_, model_, place, row);
      part.shape = Shape{heads, rows, row};
      part.module = weight.module;
    };
    add("k_b.weight", matrix.in, latent_key_);
    add("v_b.weight", latent_value_, matrix.in);
    replacements_.push_back({id, std::move(parts)});
  }

  ModelTree tree_;
  const GgufMix& mix_;
  GgufModel model_;
  ModulePlaces places_;
  DType half_;
  bool tied_;
  std::uint64_t latent_key_ = 0;
  std::uint64_t latent_value_ = 0;
  std::vector<std::uint64_t> first_value_;  // by layer: the number of its next tensor of values
  std::uint64_t values_ = 0;
  std::uint64_t downs_ = 0;
  std::uint64_t quantised_ = 0;
  std::vector<Replacement> replacements_;
};

}  // namespace

ModelTree requantize(const ModelTree& tree, const Precision& precision, const ModelConfig* config) {
  require_shapes(tree);
  ModelTree made = precision.kind == Precision::Kind::kMix
                       ? MixTree(tree, *precision.mix, config).make()
                       : SchemeTree(tree, precision.scheme).make();
  made.notes.push_back("planned as if its weights were stored as " + std::string(precision.name) +
                       " (" + precision.maker + "), which Berth does not make");
  return made;
}

bool is_quantized(const ModelTree& tree) {
  return std::ranges::any_of(tree.tensors, [](const ModelTensor& tensor) {
    if (!tensor.persistent || tensor.buffer) return false;
    return tensor.values != ModelTensor::kAsShaped ||
           (!is_convertible(tensor.dtype) && tensor.shape.size() >= 2);
  });
}

}  // namespace berth
