#include "planner/model/open/build_model_tree.h"

#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/open/estimate.h"
#include "planner/model/open/match.h"
#include "planner/model/open/names_tree.h"
#include "planner/model/open/nearest_family.h"
#include "planner/model/open/prediction.h"
#include "planner/model/open/unstored.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/template/default_sizes.h"
#include "planner/model/tree/dequantization.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {

namespace {

// The class that config.json names first, such as LlamaForCausalLM; "" where it names none.
std::string class_of(const ModelConfig& config) {
  const auto* classes = config.find_list("architectures");
  if (classes == nullptr || classes->empty()) return "";
  const auto* name = std::get_if<std::string>(&classes->front());
  return name == nullptr ? "" : *name;
}

}  // namespace

Skeleton build_skeleton(ModelConfig config, std::optional<DType> dtype,
                        std::size_t expected_tensors) {
  Skeleton skeleton;
  skeleton.architecture = find_architecture(config.model_type(), class_of(config),
                                            config.text("text_config.model_type").value_or(""));
  if (skeleton.architecture) config = complete_config(std::move(config), *skeleton.architecture);
  skeleton.config = std::make_shared<const ModelConfig>(std::move(config));
  if (skeleton.architecture) {
    skeleton.built =
        build_from_template(*skeleton.architecture, *skeleton.config, dtype, expected_tensors);
    skeleton.built.tree.notes = unused_settings(*skeleton.config, *skeleton.architecture);
    const std::string named = class_of(*skeleton.config);
    if (!named.empty() && named != skeleton.architecture->cls) {
      skeleton.built.tree.notes.push_back(
          skeleton.config->source() + ": architectures: the template of " +
          skeleton.config->model_type() + " models does not know " + quote(named) +
          "; planned as " + skeleton.architecture->cls);
    }
    if (expected_tensors > 0) index_names(skeleton.built);
  }
  return skeleton;
}

namespace {

std::string last_part(Name name) {
  return std::string(std::string_view(name).substr(name.rfind('.') + 1));
}

// What a template calls its towers: "vision_tower", "multi_modal_projector".
std::set<std::string> towers_of(const ModelTree& tree) {
  std::set<std::string> names;
  for (const Module& module : tree.modules) {
    if (module.prompt_only && !tree.modules[module.parent].prompt_only) {
      names.insert(last_part(module.name));
    }
  }
  return names;
}

// No token runs what is called so, nor what is below it.
void mark_towers(ModelTree& tree, const std::set<std::string>& names) {
  for (ModuleId id = 1; id < tree.modules.size(); ++id) {  // parents come first
    Module& module = tree.modules[id];
    module.prompt_only = module.prompt_only || tree.modules[module.parent].prompt_only ||
                         names.contains(last_part(module.name));
  }
}

// The dtype that quantised weights are dequantised to: the one asked for, else the one that the
// config names, else bfloat16.
DType plain_dtype(const ModelConfig* config, std::optional<DType> wanted) {
  if (wanted) return *wanted;
  const auto named =
      config == nullptr ? std::nullopt : parse_torch_dtype(config->text("dtype").value_or(""));
  return named && is_convertible(*named) ? *named : DType::kBF16;
}

// The tree of a config alone whose family has no template.
ModelTree estimated_tree(const ModelConfig& config, std::optional<DType> dtype) {
  EstimatedTensors estimate = estimate_tensors(config);
  if (!estimate.refused.empty()) {
    const std::string near = nearest_family(config);
    throw Error(
        config.source() + ": model_type " + quote(config.model_type()) +
        " has no template in configs/architectures, and for an estimate the config " +
        estimate.refused + ". " +
        (near.empty() ? "" : "The nearest family with a template is " + quote(near) + ". ") +
        "To go on, name the folder of its checkpoint, or write a template (`extends: " +
        (near.empty() ? "llama" : near) + "`, see configs/architectures/README.md)");
  }
  ModelTree tree = build_from_names(estimate.checkpoint, &config, dtype);
  tree.estimated = true;
  if (estimate.tied) {
    tie(tree,
        {tree.modules[tree.facts.embedding].tensors[0], tree.modules[tree.facts.head].tensors[0]});
  }
  for (ModelTensor& tensor : tree.tensors) tensor.source = kNone;
  tree.guesses.insert(tree.guesses.begin(), estimate.guesses.begin(), estimate.guesses.end());
  std::vector<std::string> notes;
  for (const std::string& guess : estimate.guesses) notes.push_back("guessed: " + guess);
  tree.notes.insert(tree.notes.begin(), notes.begin(), notes.end());
  return tree;
}

}  // namespace

ModelTree join_model_tree(Skeleton skeleton, const std::string& name, const Checkpoint* checkpoint,
                          std::optional<DType> dtype, Dequantize dequantize) {
  const ModelConfig* config = skeleton.config.get();
  ModelTree tree;
  const bool plain = dequantize != Dequantize::kNo;
  const bool grouped = dequantize == Dequantize::kPacked;
  if (skeleton.architecture) {
    const Architecture& architecture = *skeleton.architecture;
    Quantization quantization = read_quantization(*config, architecture.fp8_dtypes);
    if (plain) quantization.plain_dtype = plain_dtype(config, dtype);
    quantization.grouped = grouped;
    if (checkpoint) {
      try {
        match_checkpoint(skeleton.built, architecture, *config, quantization, *checkpoint, dtype);
      } catch (const OtherVariant& other) {
        const std::set<std::string> towers = towers_of(skeleton.built.tree);
        skeleton.architecture.reset();
        ModelTree spelled =
            join_model_tree(std::move(skeleton), name, checkpoint, dtype, dequantize);
        mark_towers(spelled, towers);
        spelled.notes.push_back(std::string(other.what()) +
                                ": planned by the names of its tensors, not by a template");
        return spelled;
      }
    } else {
      quantize_tree(skeleton.built.tree, quantization, *config, dtype);
      std::string sizes = default_sizes(*config, architecture, skeleton.built.fallbacks);
      if (!sizes.empty()) skeleton.built.tree.notes.push_back(std::move(sizes));
    }
    tree = std::move(skeleton.built.tree);
    if (!quantization.note.empty()) tree.notes.push_back(std::move(quantization.note));
  } else if (checkpoint) {
    tree = build_from_names_alone(*checkpoint, config, dtype);
    tree.from_names = true;
    if (config) add_unstored(tree, *config);
    if (plain && !tree.quantization.empty()) {
      throw Error(name + ": its " + tree.quantization +
                  " weights cannot be dequantised: no template in configs/architectures says " +
                  "which shapes they have");
    }
  } else {
    tree = estimated_tree(*config, dtype);
  }
  if (plain && checkpoint) {
    dequantize_plain_fp8(tree, *checkpoint, plain_dtype(config, dtype), grouped);
  }
  tree.name = name;
  return tree;
}

ModelTree build_model_tree(const std::string& name, const ModelConfig* config,
                           const Checkpoint* checkpoint, std::optional<DType> dtype,
                           Dequantize dequantize) {
  if (config == nullptr && checkpoint == nullptr) {
    throw Error(name + ": neither a config nor a checkpoint");
  }
  Skeleton skeleton;
  if (config) {
    skeleton = build_skeleton(*config, dtype, checkpoint ? checkpoint->tensors.size() + 16 : 0);
  }
  return join_model_tree(std::move(skeleton), name, checkpoint, dtype, dequantize);
}

}  // namespace berth
