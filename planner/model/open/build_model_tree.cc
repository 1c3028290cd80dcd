#include "planner/model/open/build_model_tree.h"

#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/open/match.h"
#include "planner/model/open/names_tree.h"
#include "planner/model/open/unstored.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/tree/dequantization.h"

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

// The dtype that quantised weights are dequantised to: the one asked for, else the one that the
// config names, else bfloat16.
DType plain_dtype(const ModelConfig* config, std::optional<DType> wanted) {
  if (wanted) return *wanted;
  const auto named =
      config == nullptr ? std::nullopt : parse_torch_dtype(config->text("dtype").value_or(""));
  return named && is_convertible(*named) ? *named : DType::kBF16;
}

}  // namespace

ModelTree join_model_tree(Skeleton skeleton, const std::string& name, const Checkpoint* checkpoint,
                          std::optional<DType> dtype, Dequantize dequantize) {
  const ModelConfig* config = skeleton.config.get();
  ModelTree tree;
  const bool plain = dequantize == Dequantize::kYes;
  if (skeleton.architecture) {
    const Architecture& architecture = *skeleton.architecture;
    Quantization quantization = read_quantization(*config, architecture.fp8_dtypes);
    if (plain) quantization.plain_dtype = plain_dtype(config, dtype);
    if (checkpoint) {
      match_checkpoint(skeleton.built, architecture, *config, quantization, *checkpoint, dtype);
    } else {
      quantize_tree(skeleton.built.tree, quantization, *config, dtype);
    }
    tree = std::move(skeleton.built.tree);
    if (!quantization.note.empty()) tree.notes.push_back(std::move(quantization.note));
  } else if (checkpoint) {
    tree = build_from_names(*checkpoint, config, dtype);
    tree.from_names = true;
    if (config) add_unstored(tree, *config);
    if (plain && !tree.quantization.empty()) {
      throw Error(name + ": its " + tree.quantization +
                  " weights cannot be dequantised: no template in configs/architectures says " +
                  "which shapes they have");
    }
  } else {
    throw Error(config->source() + ": model_type " + quote(config->model_type()) +
                " has no template in configs/architectures, and there is no checkpoint whose "
                "names could spell the model");
  }
  if (plain && checkpoint) dequantize_plain_fp8(tree, *checkpoint, plain_dtype(config, dtype));
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
