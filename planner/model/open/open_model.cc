// MODEL as a command names it: a folder, a file of weights, a config.json, or a tree as JSON.

#include <simdjson.h>

#include <algorithm>
#include <future>
#include <system_error>

#include "berth/error.h"
#include "berth/planner.h"
#include "planner/base/input_file.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "planner/checkpoint/open/weight_formats.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/open/formats.h"
#include "planner/model/open/tree_json.h"
#include "planner/model/quant/quantize_config.h"
#include "planner/model/tree/config.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// The last real component: "models/tiny/" and "." inside it are both called "tiny".
std::string folder_name(const fs::path& folder) {
  std::error_code ignored;
  fs::path whole = fs::weakly_canonical(fs::absolute(folder, ignored), ignored);
  if (whole.filename().empty()) whole = whole.parent_path();
  return whole.filename().string();
}

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
void describe(Model& model, const std::string& name, Skeleton skeleton, std::optional<DType> dtype,
              Dequantize dequantize) {
  model.config = skeleton.config;
  model.tree = join_model_tree(std::move(skeleton), name,
                               model.checkpoint ? &*model.checkpoint : nullptr, dtype, dequantize);
}

Model open_whole_model(const WholeFile& whole, const std::string& name,
                       std::optional<DType> dtype) {
  WholeModel opened = whole.format->open(whole.file);
  Model model;
  model.path = whole.file;
  model.checkpoint = std::move(opened.checkpoint);
  describe(model, name,
           build_skeleton(ModelConfig::parse(opened.config_json, whole.file.string()), dtype,
                          model.checkpoint->tensors.size() + 16),
           dtype, Dequantize::kNo);
  model.tree.quantization = whole.format->name;
  return model;
}

// A config.json, with what stands in quantize_config.json beside it. Sets `note` to what a user should
// know of the two, or "".
ModelConfig read_config(const fs::path& file, std::string& note) {
  ModelConfig config = ModelConfig::read(file);
  note = add_quantize_config(config, file.parent_path());
  return config;
}

void add_note(ModelTree& tree, std::string note) {
  if (!note.empty()) tree.notes.push_back(std::move(note));
}

Model open_folder(const fs::path& path, std::optional<DType> dtype, Dequantize dequantize) {
  std::error_code ignored;
  const fs::path config = path / "config.json";
  Model model;
  model.path = path;
  if (!fs::exists(config, ignored)) {
    // If the folder has no weights either, this throws, and its message says more.
    open_checkpoint(path);
    throw Error(path.string() + ": holds no config.json (name a file of weights to plan it alone)");
  }
  std::string note;
  ModelConfig read = read_config(config, note);
  // What the config says and what the shards hold are found out side by side, then compared: for a
  // model of tens of thousands of tensors either takes as long. The tree is made here, because all
  // that follows walks it, and its memory should be near this core. The future joins its thread.
  std::future<Checkpoint> checkpoint = std::async([&] { return open_checkpoint(path); });
  std::future<Skeleton> skeleton = std::async(std::launch::deferred, [&] {
    return build_skeleton(std::move(read), dtype, expected_tensors(path));
  });
  skeleton.wait();
  // Its error is thrown first, because nothing fits a broken checkpoint.
  model.checkpoint = checkpoint.get();
  describe(model, folder_name(path), skeleton.get(), dtype, dequantize);
  add_note(model.tree, std::move(note));
  return model;
}

Model open_weights(const fs::path& path, std::optional<DType> dtype, Dequantize dequantize) {
  std::error_code ignored;
  const fs::path config = path.parent_path() / "config.json";
  Model model;
  model.path = path;
  std::string note;
  std::optional<ModelConfig> read;
  if (fs::exists(config, ignored)) read = read_config(config, note);
  model.checkpoint = open_checkpoint(path);
  Skeleton skeleton;
  if (read) {
    skeleton = build_skeleton(std::move(*read), dtype, model.checkpoint->tensors.size() + 16);
  }
  describe(model, path.stem().string(), std::move(skeleton), dtype, dequantize);
  add_note(model.tree, std::move(note));
  return model;
}

}  // namespace

Model open_model(const fs::path& path, std::optional<DType> dtype, Dequantize dequantize) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) throw Error(path.string() + ": no such file or folder");
  const bool is_folder = fs::is_directory(status);
  if (const WholeFile whole = find_whole_file(path, is_folder); whole.format != nullptr) {
    return open_whole_model(whole, is_folder ? folder_name(path) : path.stem().string(), dtype);
  }
  if (is_folder) return open_folder(path, dtype, dequantize);
  if (weight_format_of(path) != nullptr) return open_weights(path, dtype, dequantize);
  const std::string extension = path.extension().string();
  if (extension != ".json") {
    throw Error(path.string() + ": " +
                (extension.empty() ? "a file without an extension" : quote(extension)) +
                " is not supported (a checkpoint folder, a " + weight_extensions() +
                " file, a config.json, or a module tree as .json)");
  }
  Model model;
  model.path = path;
  if (is_tree_json(path)) {
    model.tree = read_tree_json(path, dtype);
    return model;
  }
  std::string note;
  ModelConfig config = read_config(path, note);
  if (config.model_type().empty()) {
    throw Error(path.string() +
                ": neither a config ('model_type' is missing) nor a module tree "
                "('root' is missing)");
  }
  describe(model, folder_name(path.parent_path()), build_skeleton(std::move(config), dtype), dtype,
           dequantize);
  add_note(model.tree, std::move(note));
  return model;
}

}  // namespace berth
