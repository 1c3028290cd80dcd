#include "planner/model/open/pipeline.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/join.h"
#include "planner/base/json_value.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/open/model_path.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "planner/model/open/names_tree.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostIndexBytes = 1u << 20;

// When a component runs: once for a prompt, at every step, or once for the image.
enum class Phase : std::uint8_t { kPrompt, kSteps, kImage };

// By how the name of a component begins. All others run at every step.
constexpr std::pair<std::string_view, Phase> kPhases[] = {
    {"text_encoder", Phase::kPrompt},
    {"image_encoder", Phase::kPrompt},
    {"vision_encoder", Phase::kPrompt},
    {"language_encoder", Phase::kPrompt},
    {"vae", Phase::kImage},
    {"vqvae", Phase::kImage},
    {"vqgan", Phase::kImage},
    {"movq", Phase::kImage},
    {"vocoder", Phase::kImage},
    {"safety_checker", Phase::kImage},
};

Phase phase_of(std::string_view name) {
  const auto* const row = std::ranges::find_if(
      kPhases, [&](const auto& entry) { return name.starts_with(entry.first); });
  return row == std::end(kPhases) ? Phase::kSteps : row->second;
}

// What a class without weights is called: SchedulerX, TokenizerX.
constexpr std::string_view kWithoutWeights[] = {"Scheduler", "Tokenizer", "TokenizerFast",
                                                "Processor", "FeatureExtractor"};

struct Component {
  std::string name;  // of its folder: "text_encoder_2"
  std::string cls;   // "T5EncoderModel"
};

struct PipelineIndex {
  std::string cls;                    // "FluxPipeline"
  std::vector<Component> components;  // those that have weights, in the order in which they run
};

// The text of a list's item; "" for a null, which stands for what a pipeline does without.
std::string text_or_null(const JsonValue& item) {
  return item.element().is_null() ? "" : std::string(item.text());
}

// A component as the index has it: [library, class]. Nothing for other settings, and for a
// component that the pipeline does without.
std::optional<Component> read_component(const JsonValue& value, const std::string& name) {
  if (name.starts_with("_") || !value.element().is_array()) return std::nullopt;
  const std::vector<JsonValue> pair = value.list();
  const bool texts = std::ranges::all_of(
      pair, [](const JsonValue& item) { return item.element().is_null() || item.is_text(); });
  if (!texts) return std::nullopt;  // a list of numbers
  if (pair.size() != 2) value.fail("a component is a list of a library and a class");
  const std::string cls = text_or_null(pair[1]);
  if (cls.empty()) return std::nullopt;
  if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos)
    value.fail(quote(name) + " is no name of a folder");
  const bool bare = std::ranges::any_of(
      kWithoutWeights, [&](std::string_view ending) { return cls.ends_with(ending); });
  if (bare) return std::nullopt;
  return Component{name, cls};
}

// Whether a component has weights: what has only settings, such as a guider, has no config.json.
bool has_weights(const fs::path& folder, const Component& component, const std::string& index) {
  std::error_code ignored;
  const fs::path at = folder / component.name;
  if (!fs::is_directory(at, ignored)) {
    throw Error(index + ": " + component.name + ": the component " + quote(component.cls) +
                " is missing: no folder " + quote(component.name) + " beside the file");
  }
  return fs::exists(at / "config.json", ignored);
}

PipelineIndex read_index(const fs::path& folder) {
  const fs::path file = folder / "model_index.json";
  const JsonDocument document(read_text_file(file, kMostIndexBytes), file.string());
  const JsonValue root = document.root();
  PipelineIndex index;
  index.cls = std::string(root.require("_class_name").text());
  for (const auto& [key, element] : root.object()) {
    const std::string name(key);
    const auto component = read_component(JsonValue(element, file.string(), root.path(name)), name);
    if (component && has_weights(folder, *component, file.string()))
      index.components.push_back(*component);
  }
  if (index.components.empty()) {
    throw Error(file.string() + ": names no component that has weights");
  }
  std::ranges::stable_sort(index.components, {}, [](const Component& component) {
    return static_cast<int>(phase_of(component.name));
  });
  return index;
}

// Appends the checkpoint of a component, its tensors under its name.
void append(Checkpoint&& part, const std::string& component, Checkpoint& whole) {
  const auto shards = static_cast<std::uint32_t>(whole.shards.size());
  const auto forms = static_cast<std::uint32_t>(whole.forms.size());
  for (TensorInfo& tensor : part.tensors) {
    tensor.name = component + "." + tensor.name;
    tensor.shard += shards;
    if (tensor.form != 0) tensor.form += forms;
    whole.tensors.push_back(std::move(tensor));
  }
  std::ranges::move(part.shards, std::back_inserter(whole.shards));
  std::ranges::move(part.forms, std::back_inserter(whole.forms));
  std::ranges::move(part.notes, std::back_inserter(whole.notes));
  if (part.format != CheckpointFormat::kSafetensors) whole.format = part.format;
}

Checkpoint open_all(const fs::path& folder, const PipelineIndex& index) {
  Checkpoint whole;
  whole.folder = folder;
  for (const Component& component : index.components) {
    append(open_checkpoint(ModelPath{folder / component.name, "", ""}), component.name, whole);
  }
  return whole;
}

// A module of the tree to be, by what stands between the dots of tensor names.
struct Node {
  std::map<std::string, Node, std::less<>> children;
  std::vector<std::uint32_t> tensors;  // indices into the checkpoint
};

void insert(Node& root, std::string_view name, std::uint32_t index) {
  Node* node = &root;
  for (auto dot = name.find('.'); dot != name.npos; dot = name.find('.')) {
    node = &node->children[std::string(name.substr(0, dot))];
    name.remove_prefix(dot + 1);
  }
  node->tensors.push_back(index);
}

class PipelineTree {
 public:
  PipelineTree(const PipelineIndex& index, const Checkpoint& checkpoint, std::optional<DType> dtype)
      : index_(index), checkpoint_(checkpoint), wanted_(dtype) {}

  ModelTree build() {
    Node root;
    for (std::uint32_t i = 0; i < checkpoint_.tensors.size(); ++i)
      insert(root, checkpoint_.tensors[i].name, i);
    const ModuleId top = add_module(tree_, kNone, "", tree_.names.add(index_.cls));
    for (const Component& component : index_.components) {
      const auto found = root.children.find(component.name);
      if (found == root.children.end()) continue;  // a checkpoint without tensors
      const ModuleId id = add_module(tree_, top, component.name, tree_.names.add(component.cls));
      const Phase phase = phase_of(component.name);
      tree_.modules[id].no_split = true;
      tree_.modules[id].prompt_only = phase != Phase::kSteps;
      fill(found->second, id);
    }
    tree_.model_type = index_.cls;
    return std::move(tree_);
  }

 private:
  void fill(const Node& node, ModuleId id) {
    for (const std::uint32_t index : node.tensors) {
      ModelTensor tensor;
      tensor.name = tree_.names.add(checkpoint_.tensors[index].name);
      tensor.shape = checkpoint_.tensors[index].shape;
      tensor.module = id;
      adopt_stored(tensor, checkpoint_, index, wanted_);
      add_tensor(tree_, std::move(tensor));
    }
    for (const auto& [name, child] : node.children) {
      fill(child, add_module(tree_, id, name, "Module"));
    }
  }

  const PipelineIndex& index_;
  const Checkpoint& checkpoint_;
  std::optional<DType> wanted_;
  ModelTree tree_;
};

// Bytes in memory, by module, of the module and all below it.
std::vector<std::uint64_t> bytes_below(const ModelTree& tree) {
  std::vector<std::uint64_t> bytes(tree.modules.size(), 0);
  for (const ModelTensor& tensor : tree.tensors) bytes[tensor.module] += tensor.bytes();
  for (auto m = static_cast<ModuleId>(tree.modules.size()); m-- > 1;)  // parents come first
    bytes[tree.modules[m].parent] += bytes[m];
  return bytes;
}

// "22.17 GiB", "160.1 MiB", "5.3 KiB".
std::string size_text(std::uint64_t bytes) {
  struct Unit {
    double bytes;
    int decimals;
    const char* name;
  };
  constexpr std::array<Unit, 3> kUnits = {
      {{1 << 30, 2, "GiB"}, {1 << 20, 1, "MiB"}, {1 << 10, 1, "KiB"}}};
  const auto size = static_cast<double>(bytes);
  const auto* unit = kUnits.data();
  while (unit != &kUnits.back() && size < unit->bytes) ++unit;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f %s", unit->decimals, size / unit->bytes,
                unit->name);
  return text.data();
}

// What a user should know: the components, when they run, what offloading them would need, and what
// is not counted.
void add_notes(ModelTree& tree) {
  const std::vector<std::uint64_t> bytes = bytes_below(tree);
  std::vector<std::string> sizes;
  std::vector<std::string> steps;
  ModuleId largest = tree.modules[0].children.front();
  for (const ModuleId id : tree.modules[0].children) {
    const std::string name(tree.modules[id].name);
    sizes.push_back(name + " " + size_text(bytes[id]));
    if (!tree.modules[id].prompt_only) steps.push_back(name);
    if (bytes[id] > bytes[largest]) largest = id;
  }
  std::uint64_t leaf = 0;  // the largest module's own tensors
  std::vector<std::uint64_t> own(tree.modules.size(), 0);
  for (const ModelTensor& tensor : tree.tensors) {
    own[tensor.module] += tensor.bytes();
    leaf = std::max(leaf, own[tensor.module]);
  }
  tree.notes.push_back("a pipeline of diffusers, each component whole on one device: " +
                       join(sizes, ", "));
  if (!steps.empty()) {
    tree.notes.push_back("each step runs " + join_in_words(steps, "and") +
                         "; the others run once an image, so they leave the gpus first");
  }
  tree.notes.push_back(
      "with enable_model_cpu_offload() one gpu holds one component at a time, the largest of which "
      "is " +
      std::string(tree.modules[largest].name) + " with " + size_text(bytes[largest]) +
      ", and host RAM all " + size_text(bytes[0]) +
      "; with enable_sequential_cpu_offload() the gpu holds one layer at a time, " +
      size_text(leaf) + " at most");
  tree.notes.push_back(
      "weights alone are counted: what images take while they are made (activations, which grow "
      "with width, height and frames) has to fit as well, so keep space free with --reserve; there "
      "is no estimate of time");
}

}  // namespace

bool is_pipeline(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "model_index.json", ignored);
}

Checkpoint open_pipeline_checkpoint(const fs::path& folder) {
  return open_all(folder, read_index(folder));
}

Model open_pipeline(const fs::path& folder, std::optional<DType> dtype) {
  const PipelineIndex index = read_index(folder);
  Model model;
  model.checkpoint = open_all(folder, index);
  model.tree = PipelineTree(index, *model.checkpoint, dtype).build();
  model.tree.name = folder_name(folder);
  if (model.tree.modules[0].children.empty())
    throw Error(folder.string() + ": its components hold no tensors");
  add_notes(model.tree);
  for (const Component& component : index.components) model.components.push_back(component.name);
  return model;
}

bool is_component(const ModelConfig& config) {
  return config.model_type().empty() && config.has("_class_name");
}

ModelTree build_component_tree(const Checkpoint& checkpoint, const ModelConfig& config,
                               std::optional<DType> dtype) {
  ModelTree tree = build_from_names(checkpoint, nullptr, dtype);
  tree.facts = {};
  tree.guesses.clear();
  tree.notes.clear();
  tree.model_type = config.text("_class_name").value_or("");
  tree.notes.push_back(
      "a component of a diffusers pipeline, whose layers go by the names of its tensors: weights "
      "alone are counted; what images take while they are made has to fit as well, so keep space "
      "free with --reserve");
  return tree;
}

}  // namespace berth
