// MODEL as a command names it: a folder, a file of weights, a config.json, or a tree as JSON.

#include <simdjson.h>

#include <algorithm>
#include <future>
#include <system_error>

#include "berth/error.h"
#include "berth/planner.h"
#include "planner/base/input_file.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/open/folder_files.h"
#include "planner/checkpoint/open/model_path.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "planner/checkpoint/open/weight_formats.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/open/formats.h"
#include "planner/model/open/pipeline.h"
#include "planner/model/open/prediction.h"
#include "planner/model/open/tree_json.h"
#include "planner/model/quant/quantize_config.h"
#include "planner/model/tree/config.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// True for a JSON file with the key `root` at the top: a module tree, not a config. The on-demand
// parser of simdjson stops at that key; JsonDocument would parse all of a tree, which is then
// parsed again by its reader. What is no JSON is left to the reader of configs, which says what is
// wrong.
bool is_tree_json(const fs::path& path) {
  const simdjson::padded_string text(read_text_file(path, 512u << 20));
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  simdjson::ondemand::object object;
  if (parser.iterate(text).get(document) || document.get_object().get(object)) return false;
  simdjson::ondemand::value root;
  return !object.find_field_unordered("root").get(root);
}

// ", of 'org/name'": the model that an adapter was made for; empty if nothing says which.
std::string adapted_model(const fs::path& folder) {
  try {
    const auto config = ModelConfig::read(folder / "adapter_config.json");
    const auto base = config.text("base_model_name_or_path");
    return base && !base->empty() ? " of " + quote(*base) : "";
  } catch (const Error&) {
    return "";
  }
}

// Guesses from the size of the index, whose entries take about a hundred bytes each. Rather guesses
// too many.
std::size_t expected_tensors(const fs::path& folder) {
  for (const WeightFormat& format : weight_formats()) {
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(folder / format.index, error);
    if (!error) return static_cast<std::size_t>(std::min<std::uintmax_t>(bytes / 80, kMaxTensors));
  }
  return 0;
}

// Joins what a config.json says, where there is one, with a checkpoint, where there is one.
void join_with_config(Model& model, const std::string& name, Skeleton skeleton,
                      std::optional<DType> dtype, Dequantize dequantize) {
  model.config = skeleton.config;
  model.tree = join_model_tree(std::move(skeleton), name,
                               model.checkpoint ? &*model.checkpoint : nullptr, dtype, dequantize);
}

Model open_whole_model(const WholeFile& whole, const std::string& name,
                       std::optional<DType> dtype) {
  WholeModel opened = whole.format->open(whole.file);
  Model model;
  model.checkpoint = std::move(opened.checkpoint);
  std::vector<std::string>& notes = model.checkpoint->notes;
  notes.insert(notes.begin(), whole.notes.begin(), whole.notes.end());
  if (opened.tree) {
    model.tree = opened.tree(*model.checkpoint, dtype);
    model.tree.name = name;
    model.tree.quantization = whole.format->name;
    return model;
  }
  join_with_config(model, name,
                   build_skeleton(ModelConfig::parse(opened.config_json, whole.file.string()),
                                  dtype, model.checkpoint->tensors.size() + 16),
                   dtype, Dequantize::kNo);
  model.tree.quantization = whole.format->name;
  return model;
}

// A config.json, with what stands in quantize_config.json beside it. Sets `note` to what a user
// should know of the two, or "".
ModelConfig read_config(const fs::path& file, std::string& note) {
  ModelConfig config = ModelConfig::read(file);
  note = add_quantize_config(config, file.parent_path());
  return config;
}

void add_note(ModelTree& tree, std::string note) {
  if (!note.empty()) tree.notes.push_back(std::move(note));
}

// Whether config.json in their folder describes these weights.
WeightsKind kind_of(const Checkpoint& checkpoint) {
  return weights_kind(checkpoint.shards[0].path);
}

// What weights are that no config.json describes, and how to make a model of them.
std::string describe(const Checkpoint& checkpoint) {
  const std::string file = quote(checkpoint.shards[0].path.filename().string());
  switch (kind_of(checkpoint)) {
    case WeightsKind::kAdapter:
      return file + " is an adapter" + adapted_model(checkpoint.folder) +
             ", not a whole model: PEFT merges it into one (merge_and_unload())";
    case WeightsKind::kOriginal:
      return file +
             " holds weights in their maker's own form, which go by the names in it; to run the "
             "model, fetch it in Hugging Face's form (config.json and model*.safetensors)";
    default:
      return checkpoint.folder.string() +
             ": holds no config.json, so the model goes by the names of its tensors; put the "
             "model's config.json there to plan it as what it is, and to run it";
  }
}

// Weights that go by the names of their tensors alone.
Model open_by_names(Model model, const std::string& name, std::optional<DType> dtype,
                    Dequantize dequantize) {
  model.config = nullptr;
  model.tree = build_model_tree(name, nullptr, &*model.checkpoint, dtype, dequantize);
  return model;
}

// One component of a diffusers pipeline, whose config.json does not say which tensors it has.
Model open_component(Model model, const std::string& name, const Skeleton& skeleton,
                     std::optional<DType> dtype) {
  model.config = skeleton.config;
  model.tree = build_component_tree(*model.checkpoint, *skeleton.config, dtype);
  model.tree.name = name;
  return model;
}

// A config or a module tree as JSON.
Model open_json(const fs::path& path, std::optional<DType> dtype, Dequantize dequantize) {
  Model model;
  if (is_tree_json(path)) {
    model.tree = read_tree_json(path, dtype);
    return model;
  }
  std::string note;
  ModelConfig config = read_config(path, note);
  if (is_component(config)) {
    throw Error(path.string() + ": the config of " + config.text("_class_name").value_or("") +
                ", a component of a diffusers pipeline, does not say which tensors it has: name "
                "the folder that holds its weights");
  }
  if (config.model_type().empty()) {
    throw Error(path.string() +
                ": neither a config ('model_type' is missing) nor a module tree "
                "('root' is missing)");
  }
  join_with_config(model, folder_name(path.parent_path()), build_skeleton(std::move(config), dtype),
                   dtype, dequantize);
  add_note(model.tree, std::move(note));
  return model;
}

Model open_folder(const ModelPath& at, std::optional<DType> dtype, Dequantize dequantize) {
  std::error_code ignored;
  const fs::path config = at.path / "config.json";
  const std::string name = folder_name(at.path);
  const bool has_config = fs::exists(config, ignored);
  // As the config alone is planned: its weights may not have been downloaded yet.
  if (has_config && !holds_weights(at.path)) return open_json(config, dtype, dequantize);
  Model model;
  if (!has_config) {
    model.checkpoint = open_checkpoint(at);
    model.checkpoint->notes.push_back(describe(*model.checkpoint));
    return open_by_names(std::move(model), name, dtype, dequantize);
  }
  std::string note;
  ModelConfig read = read_config(config, note);
  // What the config says and what the shards hold are found out side by side, then compared: for a
  // model of tens of thousands of tensors either takes as long. The tree is made here, because all
  // that follows walks it, and its memory should be near this core. The future joins its thread.
  std::future<Checkpoint> checkpoint = std::async([&] { return open_checkpoint(at); });
  std::future<Skeleton> skeleton = std::async(std::launch::deferred, [&] {
    return build_skeleton(std::move(read), dtype, expected_tensors(at.path));
  });
  skeleton.wait();
  // Its error is thrown first, because nothing fits a broken checkpoint.
  model.checkpoint = checkpoint.get();
  if (kind_of(*model.checkpoint) != WeightsKind::kModel) {
    model.checkpoint->notes.push_back(describe(*model.checkpoint));
    return open_by_names(std::move(model), name, dtype, dequantize);
  }
  Skeleton built = skeleton.get();
  if (is_component(*built.config)) return open_component(std::move(model), name, built, dtype);
  join_with_config(model, name, std::move(built), dtype, dequantize);
  add_note(model.tree, std::move(note));
  return model;
}

Model open_weights(const ModelPath& at, std::optional<DType> dtype, Dequantize dequantize) {
  std::error_code ignored;
  const fs::path config = at.path.parent_path() / "config.json";
  const std::string name = at.path.stem().string() + (at.part.empty() ? "" : "@" + at.part);
  Model model;
  std::string note;
  std::optional<ModelConfig> read;
  if (weights_kind(at.path) == WeightsKind::kModel && fs::exists(config, ignored)) {
    read = read_config(config, note);
  }
  model.checkpoint = open_checkpoint(at);
  Skeleton skeleton;
  if (read) {
    skeleton = build_skeleton(std::move(*read), dtype, model.checkpoint->tensors.size() + 16);
    if (is_component(*skeleton.config))
      return open_component(std::move(model), name, skeleton, dtype);
  }
  join_with_config(model, name, std::move(skeleton), dtype, dequantize);
  add_note(model.tree, std::move(note));
  return model;
}

// By its name, or by its first brace where the name says nothing.
bool is_json(const fs::path& file) {
  if (file.extension() == ".json") return true;
  if (!file.extension().empty()) return false;
  const std::string head = head_of(file);
  const std::size_t first = head.find_first_not_of(" \t\r\n");
  return first != head.npos && head[first] == '{';
}

Model open_any(const ModelPath& at, std::optional<DType> dtype, Dequantize dequantize) {
  std::error_code error;
  const fs::file_status status = fs::status(at.path, error);
  if (!fs::exists(status)) throw Error(at.path.string() + ": no such file or folder");
  const bool is_folder = fs::is_directory(status);
  if (is_folder && is_pipeline(at.path)) return open_pipeline(at.path, dtype);
  if (const WholeFile whole = find_whole_file(at.path, is_folder); whole.format != nullptr) {
    return open_whole_model(whole, is_folder ? folder_name(at.path) : at.path.stem().string(),
                            dtype);
  }
  if (is_folder) return open_folder(at, dtype, dequantize);
  if (weight_format_of(at.path) != nullptr) return open_weights(at, dtype, dequantize);
  if (is_json(at.path)) return open_json(at.path, dtype, dequantize);
  const std::string extension = at.path.extension().string();
  throw Error(at.path.string() + ": " +
              (extension.empty() ? "a file without an extension" : quote(extension)) +
              " is not supported (a checkpoint folder, a " + weight_extensions() +
              " file, a config.json, or a module tree as .json)");
}

// Says what the checkpoint stores for multi-token prediction, and adds it where that is asked for.
void settle_prediction(Model& model, std::optional<DType> dtype, Prediction prediction) {
  ModelTree& tree = model.tree;
  if (!model.checkpoint && prediction == Prediction::kLoaded) {
    throw Error(model.path.string() +
                ": which weights there are for multi-token prediction is known from a checkpoint "
                "only");
  }
  if (tree.predicted.empty()) {
    if (prediction == Prediction::kLoaded) {
      tree.notes.emplace_back("the checkpoint stores no weights for multi-token prediction");
    }
    return;
  }
  const std::uint64_t bytes = stored_bytes(*model.checkpoint, tree.predicted);
  tree.notes.push_back(prediction_note(bytes, prediction));
  if (prediction == Prediction::kLeftOut) return;
  add_prediction(tree, *model.checkpoint, model.config.get(), tree.predicted, dtype);
  tree.ignored_bytes -= bytes;
  tree.predicted.clear();
}

}  // namespace

Model open_model(const fs::path& path, std::optional<DType> dtype, Dequantize dequantize,
                 Prediction prediction) {
  Model model = open_any(resolve_model(path), dtype, dequantize);
  model.path = path;
  settle_prediction(model, dtype, prediction);
  if (model.checkpoint) {
    const std::vector<std::string>& notes = model.checkpoint->notes;
    model.tree.notes.insert(model.tree.notes.begin(), notes.begin(), notes.end());
  }
  return model;
}

}  // namespace berth
