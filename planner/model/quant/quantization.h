// A model's quantisation: what `quantization_config` says, and the tree that follows from it.
// Internal to the room.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "berth/model.h"
#include "planner/model/quant/module_patterns.h"
#include "planner/model/tree/config.h"
#include "planner/model/tree/quant_format.h"

namespace berth {

// A scheme and the modules that it is for. Rules are tried in order; the first that fits decides.
struct QuantRule {
  QuantScheme scheme;
  ModulePatterns targets;   // empty: all that `classes` allows
  bool linears = true;      // every module whose class is a Linear
  bool embeddings = false;  // every Embedding
  bool plain = false;       // no scheme: these stay as they are
};

// The `quantization_config` of a config.json, whatever its dialect.
struct Quantization {
  bool present = false;
  bool known = false;   // rules tell how weights are stored
  std::string method;   // quant_method as written; "" where there is none
  std::string missing;  // a value that the method cannot do without, and that is not there
  std::vector<QuantRule> rules;
  ModulePatterns skipped;                            // modules_to_not_convert, ignore, ...
  bool skips_head = false;                           // the output projection stays as it is
  bool blocks_only = false;                          // only what is inside the decoder blocks
  bool conv1d = false;                               // GPT-2's Conv1D is converted too
  std::map<std::string, DType, std::less<>> dtypes;  // of other tensors, by last name
  std::optional<DType> plain_dtype;  // set: weights are dequantised to it, the tree stays plain
};

using DTypesByName = std::map<std::string, DType, std::less<>>;

// The scheme of a weight, or null where it stays as it is.
const QuantScheme* scheme_of(const Quantization& quantization, const ModelTree& tree,
                             const ModelTensor& tensor);

// Reads it; `fp8_dtypes` are the family's own (Architecture::fp8_dtypes).
// Throws Error for values that no such method has; a method that is not known is no error here.
Quantization read_quantization(const ModelConfig& config, const DTypesByName& fp8_dtypes);

// Turns the plain tree of a config into what a checkpoint of that quantisation stores.
// Throws Error for a method that is not known, whose sizes cannot be told without the checkpoint,
// and for sizes that fit no weight; where they fit some, a note of the tree says so.
void quantize_tree(ModelTree& tree, const Quantization& quantization, const ModelConfig& config,
                   std::optional<DType> dtype);

// Marks quantised weights in a tree that has no template: what holds parameters, what is a scale.
// `config` may be null; its bits tell how many values a packed word holds.
void mark_quantized_names(ModelTree& tree, const ModelConfig* config);

// quant_parts() by scheme and shape, each worked out once: layers repeat. Schemes must stay where
// they are. Not thread-safe.
class QuantPartsCache {
 public:
  const std::vector<QuantPart>& find(const QuantScheme& scheme, const std::string& leaf,
                                     const TensorShape& shape, bool transposed);

 private:
  using Key = std::tuple<const QuantScheme*, std::string, TensorShape, bool>;
  std::map<Key, std::vector<QuantPart>> known_;
};

// Parameters by the label of how they are stored, and the text for ModelTree::quantization: the
// labels by falling share.
using LabelShares = std::map<std::string, std::uint64_t>;
std::string join_labels(const LabelShares& shares);

// The last component of a tensor's name.
std::string_view leaf_of(std::string_view name);

// The tensors that take the place of one.
struct Replacement {
  TensorId weight = kNone;
  std::vector<ModelTensor> parts;  // at least one; all of the weight's module

  ModuleId module() const { return parts[0].module; }
};

// Puts them in, and `additions` at the end of their modules. Other tensors keep their order; ids
// change. What was tied to a replaced weight is tied part by part.
void replace_tensors(ModelTree& tree, std::vector<Replacement> replacements,
                     std::vector<ModelTensor> additions);

// True where the module's weight is stored [in, out].
bool is_transposed(const Module& module);

}  // namespace berth
