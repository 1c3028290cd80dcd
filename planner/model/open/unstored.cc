#include "planner/model/open/unstored.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <variant>

#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

bool gives_tokens(const ModelConfig& config) {
  const auto* classes = config.find_list("architectures");
  if (classes == nullptr || classes->empty()) return false;
  const auto* name = std::get_if<std::string>(&classes->front());
  if (name == nullptr) return false;
  constexpr std::string_view kEnds[] = {"ForCausalLM", "LMHeadModel", "ForConditionalGeneration",
                                        "LMHeadCustomModel"};
  return std::any_of(std::begin(kEnds), std::end(kEnds),
                     [&](std::string_view end) { return name->ends_with(end); });
}

bool has_row_per_token(const ModelTree& tree, const ModelTensor& tensor) {
  return tensor.shape.size() == 2 && tensor.shape[0] == tree.facts.vocabulary &&
         tensor.values == ModelTensor::kAsShaped;
}

// The only matrix that has a row for each token, if it is the only tensor of the input embedding.
TensorId lone_embedding(const ModelTree& tree) {
  TensorId found = kNone;
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    if (!has_row_per_token(tree, tree.tensors[t])) continue;
    if (found != kNone) return kNone;
    found = t;
  }
  if (found == kNone) return kNone;
  const Module& module = tree.modules[tree.tensors[found].module];
  return module.cls == "Embedding" && module.tensors.size() == 1 ? found : kNone;
}

void add_tied_head(ModelTree& tree, const ModelConfig& config) {
  if (tree.facts.vocabulary == 0 || !gives_tokens(config)) return;
  const ModelConfig::Value* tie_said = config.find("tie_word_embeddings");
  const bool* ties = tie_said == nullptr ? nullptr : std::get_if<bool>(tie_said);
  if (ties != nullptr && !*ties) return;
  const TensorId embedding = lone_embedding(tree);
  if (embedding == kNone || tree.find_module("lm_head") != nullptr) return;
  tree.facts.embedding = tree.tensors[embedding].module;
  ModelTensor tensor = tree.tensors[embedding];
  tensor.module = add_module(tree, 0, "lm_head", "Linear");
  tensor.name = tree.names.add("lm_head.weight");
  tensor.source = kNone;
  tie(tree, {embedding, add_tensor(tree, tensor)});
  tree.facts.head = tensor.module;
}

void add_rotary(ModelTree& tree, const ModelConfig& config) {
  if (tree.facts.layers.empty() || config.keys("rope_parameters.").empty()) return;
  const ModuleId list = tree.modules[tree.facts.layers[0].module].parent;
  const ModuleId owner = list == kNone ? kNone : tree.modules[list].parent;
  if (owner == kNone) return;
  if (tree.find_module(join_names(tree.modules[owner].name, "rotary_emb")) != nullptr) return;
  add_module(tree, owner, "rotary_emb", "RotaryEmbedding");
}

}  // namespace

void add_unstored(ModelTree& tree, const ModelConfig& config) {
  add_rotary(tree, config);
  add_tied_head(tree, config);
}

}  // namespace berth
