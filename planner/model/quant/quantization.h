// A model's quantisation: what `quantization_config` says, and which tree follows from it. Internal
// to planner/model.
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
#include "planner/model/tree/dequantization.h"
#include "planner/model/tree/quant_format.h"

namespace berth {

// A scheme, and the modules that it is for. Rules are tried in order; the first that fits decides.
struct QuantRule {
  QuantScheme scheme;
  ModulePatterns targets;   // empty: all modules that the three below allow
  bool linears = true;      // every module whose class is a Linear
  bool embeddings = false;  // every Embedding
  bool plain = false;       // no scheme: these modules stay as they are
};

// The `quantization_config` of a config.json, whichever tool wrote it.
struct Quantization {
  bool present = false;
  bool known = false;   // the rules tell how weights are stored
  std::string method;   // quant_method as written; "" where there is none
  std::string missing;  // a value that the method needs and that is absent
  // GPTQ: of every weight whose scheme is deduced from what is stored.
  ZeroPoints zeros = ZeroPoints::kLessOne;
  std::optional<bool> symmetric;
  std::string note;  // what a user should know of the settings; or ""
  // Why weights must not be dequantised although their names and shapes would allow it; or "".
  std::string undecodable;
  std::vector<QuantRule> rules;
  ModulePatterns skipped;                            // modules_to_not_convert, ignore, ...
  bool skips_head = false;                           // the output projection stays as it is
  bool blocks_only = false;                          // only what is inside the decoder's blocks
  bool conv1d = false;                               // GPT-2's Conv1D is converted too
  std::map<std::string, DType, std::less<>> dtypes;  // of other tensors, by last name
  std::optional<DType> plain_dtype;  // if set, weights are dequantised; the tree stays plain
  bool grouped = false;              // then: to grouped_dtype() where there is one
  // GPTQ: the files that describe the model say that inputs are in the order of their groups.
  bool in_order = false;
};

using DTypesByName = std::map<std::string, DType, std::less<>>;

// The scheme of a weight, or null if the weight stays as it is.
const QuantScheme* scheme_of(const Quantization& quantization, const ModelTree& tree,
                             const ModelTensor& tensor);

// The dtype of a weight that is made from what is stored: plain_dtype, or grouped_dtype() where
// that is asked for and possible. Its `stored` is the dtype of the packed values.
DType made_dtype(const Quantization& quantization, const QuantScheme& scheme,
                 const ModelTensor& weight, const Dequantization& made);

// Reads the config. `fp8_dtypes` are the family's own (Architecture::fp8_dtypes). Throws Error for
// values that the method cannot have. A method that is not known is not an error here.
Quantization read_quantization(const ModelConfig& config, const DTypesByName& fp8_dtypes);

// Turns the plain tree of a config into what a checkpoint with that quantisation stores. Throws
// Error if the method is not known, if sizes cannot be told without the checkpoint, and if they fit
// none of the weights. If they fit only some, a note of the tree says so.
void quantize_tree(ModelTree& tree, const Quantization& quantization, const ModelConfig& config,
                   std::optional<DType> dtype);

// Marks quantised weights in a tree that has no template: which tensors hold parameters, and which
// are scales. `config` may be null; its bits tell how many values a packed word holds.
void mark_quantized_names(ModelTree& tree, const ModelConfig* config);

// Caches quant_parts() by scheme and shape, because layers repeat. The schemes must stay at their
// addresses. Not thread-safe.
class QuantPartsCache {
 public:
  const std::vector<QuantPart>& find(const QuantScheme& scheme, const std::string& leaf,
                                     const TensorShape& shape, bool transposed);

 private:
  using Key = std::tuple<const QuantScheme*, std::string, TensorShape, bool>;
  std::map<Key, std::vector<QuantPart>> known_;
};

// How many parameters are stored under which label, and the text that is made of it for
// ModelTree::quantization: the labels, the largest share first.
using LabelShares = std::map<std::string, std::uint64_t>;
std::string join_labels(const LabelShares& shares);

// The last component of a tensor's name.
std::string_view leaf_of(std::string_view name);

// The tensors that take the place of one tensor.
struct Replacement {
  TensorId weight = kNone;
  std::vector<ModelTensor> parts;  // at least one; all in the weight's module

  ModuleId module() const { return parts[0].module; }
};

// Puts the replacements into the tree, and `additions` at the end of their modules. Other tensors
// keep their order, but ids change. Whatever was tied to a replaced weight is tied to each of its
// parts.
void replace_tensors(ModelTree& tree, std::vector<Replacement> replacements,
                     std::vector<ModelTensor> additions);

// True if the module's weight is stored as [in, out].
bool is_transposed(const Module& module);

}  // namespace berth
