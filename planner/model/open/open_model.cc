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

// True for a JSON file with the key `root` at the top: a module tree, not a config.
bool is_tree_json(const fs::path& path) {
  const simdjson::padded_string text(read_text_file(path, 512u << 20));
  simdjson::ondemand::parser parser;
  simdjson::ondemand::document document;
  simdjson::ondemand::object object;
  if (parser.iterate(text).get(document) || document.get_object().get(object)) return false;
  simdjson::ondemand::value root;
  return !object.find_field_unordered("root").get(root);
}

// A guess from the size of the index, rather too many: an entry takes some hundred bytes.
std::size_t expected_tensors(const fs::path& folder) {
  for (const WeightFormat& format : weight_formats()) {
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(folder / format.index, error);
    if (!error) return static_cast<std::size_t>(std::min<std::uintmax_t>(bytes / 80, kMaxTensors));
  }
  return 0;
}

Model open_whole_model(const WholeFile& whole, const std::string& name,
                       std::optional<DType> dtype) {
  WholeModel opened = whole.format->open(whole.file);
  Model model;
  model.path = whole.file;
  model.config = std::make_shared<const ModelConfig>(
      ModelConfig::parse(opened.config_json, whole.file.string()));
  model.checkpoint = std::move(opened.checkpoint);
  model.tree = build_model_tree(name, model.config.get(), &*model.checkpoint, dtype);
  model.tree.quantization = whole.format->name;
  return model;
}

// Reads config.json into the model, and what stands in quantize_config.json beside it. Returns a
// note, or "".
std::string read_config(Model& model, const fs::path& file) {
  ModelConfig config = ModelConfig::read(file);
  std::string note = add_quantize_config(config, file.parent_path());
  model.config = std::make_shared<const ModelConfig>(std::move(config));
  return note;
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
    // Said first where the folder holds nothing that could be read either way.
    open_checkpoint(path);
    throw Error(path.string() + ": holds no config.json (name a file of weights to plan it alone)");
  }
  std::string note = read_config(model, config);
  // What the config says and what the shards hold are found out side by side, then compared: for a
  // model of tens of thousands of tensors either takes as long. The tree is made here, because all
  // that follows walks it, and its memory should be near this core. The future joins its thread.
  std::future<Checkpoint> checkpoint = std::async([&] { return open_checkpoint(path); });
  std::future<Skeleton> skeleton = std::async(std::launch::deferred, [&] {
    return build_skeleton(*model.config, dtype, expected_tensors(path));
  });
  skeleton.wait();
  model.checkpoint = checkpoint.get();  // its error is told first: nothing fits a broken checkpoint
  model.tree = join_model_tree(skeleton.get(), folder_name(path), model.config.get(),
                               &*model.checkpoint, dtype, dequantize);
  add_note(model.tree, std::move(note));
  return model;
}

Model open_weights(const fs::path& path, std::optional<DType> dtype, Dequantize dequantize) {
  std::error_code ignored;
  const fs::path config = path.parent_path() / "config.json";
  Model model;
  model.path = path;
  std::string note = fs::exists(config, ignored) ? read_config(model, config) : "";
  model.checkpoint = open_checkpoint(path);
  model.tree = build_model_tree(path.stem().string(), model.config.get(), &*model.checkpoint, dtype,
                                dequantize);
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
  std::string note = read_config(model, path);
  if (model.config->model_type().empty()) {
    throw Error(path.string() +
                ": neither a config ('model_type' is missing) nor a module tree "
                "('root' is missing)");
  }
  model.tree = build_model_tree(folder_name(path.parent_path()), model.config.get(), nullptr, dtype,
                                dequantize);
  add_note(model.tree, std::move(note));
  return model;
}

}  // namespace berth
