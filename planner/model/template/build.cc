#include "planner/model/template/build.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

#include "berth/error.h"
#include "planner/base/huge_pages.h"
#include "planner/base/position.h"
#include "planner/base/quote.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {

namespace {

// Estimates of the bytes that a tensor takes together with the one or two modules above it. The
// first counts their names only; the second also counts the tables, the lists of tensors and
// children, and the index of names.
constexpr std::size_t kNameBytes = 96;
constexpr std::size_t kTensorBytes = kNameBytes + sizeof(ModelTensor) + 2 * sizeof(Module) + 160;

// Walks the specs and creates modules and tensors. It is also the scope of their expressions: a
// name is looked up among the loop indices, then in the template's `let`, then in the config.
class TemplateBuilder : public Scope {
 public:
  TemplateBuilder(const Architecture& architecture, const ModelConfig& config,
                  std::optional<DType> dtype)
      : architecture_(architecture), config_(config), wanted_(dtype) {
    // A config without a dtype means float32. gpt-oss's configs are an exception: they name none,
    // and its kernels want bfloat16.
    const bool mxfp4 = config.text("quantization_config.quant_method") == "mxfp4";
    const std::string name = config.text("dtype").value_or(mxfp4 ? "bfloat16" : "float32");
    const auto parsed = parse_torch_dtype(name);
    if (!parsed) throw Error(config.source() + ": dtype: unknown dtype " + quote(name));
    stored_ = *parsed;
  }

  BuiltTree build(std::size_t expected_tensors) {
    prefer_huge_heap(expected_tensors * kTensorBytes);
    tree_.tensors.reserve(expected_tensors);
    tree_.modules.reserve(expected_tensors * 2);  // space that stays empty is never touched
    tree_.names.reserve(expected_tensors * kNameBytes);
    tree_.model_type = architecture_.model_type;
    where_ = "model";
    with_position(*this, [&] {
      const ModuleId root = add_module(tree_, kNone, "", tree_.names.add(architecture_.cls));
      for (const TensorSpec& tensor : architecture_.tensors) build_tensor(tensor, root);
      for (const ModuleSpec& spec : architecture_.modules) build_module(spec, root, spec.name);
      check_total();
      tie_weights();
      fill_facts();
      for (const std::string& glob : architecture_.ignored) ignored_.push_back(filled(glob));
      for (const std::string& glob : architecture_.predicted) predicted_.push_back(filled(glob));
    });
    return {std::move(tree_), std::move(ignored_), std::move(predicted_), NameTable(0),
            std::move(fallbacks_)};
  }

  // Throws Error with the config's file, what is being built, and the template.
  [[noreturn]] void fail(const std::string& message) const {
    throw Error(config_.source() + ": " + message + " (for " + where_ + " of a " +
                architecture_.model_type + " model)");
  }

  ExprValue value_of(std::string_view name) override {
    for (auto loop = loops_.rbegin(); loop != loops_.rend(); ++loop) {
      if (loop->first != name) continue;
      touched_loop_ = true;
      return loop->second;
    }
    if (const auto let = architecture_.lets.find(name); let != architecture_.lets.end()) {
      // Inside its own definition, a name means the config's key.
      if (!open_lets_.contains(let->first)) return let_value(let->first, let->second);
    }
    const ModelConfig::Value* value = config_.find(name);
    return value != nullptr ? converted(*value) : ExprValue(Null{std::string(name)});
  }

  // A null counts as absent where nothing (0, false) takes its place. transformers refuses any
  // other.
  void fall_back(const std::string& name, const ExprValue& value) override {
    const auto* size = std::get_if<std::int64_t>(&value);
    if (size == nullptr ? value != ExprValue(true) : *size == 0) return;
    if (config_.is_null(name)) throw Error(name + ": null, but the model needs a value");
    if (size != nullptr) fallbacks_.emplace(name, *size);
  }

  bool has(std::string_view name) override {
    return config_.has(name) || !config_.keys(std::string(name) + ".").empty();
  }

  const std::vector<ExprValue>* list_of(std::string_view name) override {
    if (const auto known = lists_.find(name); known != lists_.end()) return &known->second;
    std::vector<ExprValue> values;
    if (const auto* list = config_.find_list(name)) {
      for (const ModelConfig::Value& value : *list) values.push_back(converted(value));
    } else {
      // Of a list of lists or objects only the length is known here.
      const std::string prefix = std::string(name) + ".";
      while (has(prefix + std::to_string(values.size()))) values.emplace_back(Null{});
      if (values.empty()) return nullptr;
    }
    return &lists_.emplace(name, std::move(values)).first->second;
  }

 private:
  static ExprValue converted(const ModelConfig::Value& value) {
    return std::visit([](const auto& held) { return ExprValue(held); }, value);
  }

  // Values that do not depend on a loop index are computed only once.
  ExprValue let_value(const std::string& name, const Expression& expression) {
    if (const auto known = let_values_.find(name); known != let_values_.end()) {
      return known->second;
    }
    const bool outer = std::exchange(touched_loop_, false);
    open_lets_.insert(name);
    ExprValue value = expression.evaluate(*this);
    open_lets_.erase(name);
    if (!touched_loop_) let_values_.emplace(name, value);
    touched_loop_ = touched_loop_ || outer;
    return value;
  }

  // What all modules of a spec have in common.
  struct Class {
    Name name;
    bool no_split = false;
  };

  const Class& class_of(const ModuleSpec& spec) {
    const auto [known, fresh] = classes_.try_emplace(&spec);
    if (fresh) {
      const auto& whole = architecture_.no_split;
      known->second = {tree_.names.add(spec.cls),
                       std::ranges::find(whole, spec.cls) != whole.end()};
    }
    return known->second;
  }

  void build_module(const ModuleSpec& spec, ModuleId parent, std::string_view name) {
    if (spec.when && !condition(*spec.when, parent, name)) return;
    const Class& cls = class_of(spec);
    const ModuleId id = add_module(tree_, parent, name, cls.name);
    Module& module = tree_.modules[id];
    const Module& above = tree_.modules[parent];
    module.expert = spec.expert;
    module.stage = spec.stage != 0 ? static_cast<std::int8_t>(spec.stage) : above.stage;
    module.prompt_only = spec.prompt_only || above.prompt_only;
    module.no_split = cls.no_split;
    for (const TensorSpec& tensor : spec.tensors) build_tensor(tensor, id);
    if (!spec.repeat) {
      tree_.modules[id].children.reserve(spec.modules.size());
      for (const ModuleSpec& child : spec.modules) build_module(child, id, child.name);
      return;
    }
    where_ = quote(tree_.modules[id].name);
    const std::int64_t count = spec.repeat->integer(*this);
    if (count < 1 || count > kMaxRepeat) {
      throw Error(spec.repeat->text() + " is " + std::to_string(count) + ", not in 1.." +
                  std::to_string(kMaxRepeat));
    }
    tree_.modules[id].children.reserve(static_cast<std::size_t>(count));
    loops_.emplace_back(spec.index, 0);
    for (std::int64_t i = 0; i < count; ++i) {
      loops_.back().second = i;
      build_item(spec, id, std::to_string(i));
    }
    loops_.pop_back();
  }

  // One item of a repetition: the first kind of it whose condition holds.
  void build_item(const ModuleSpec& spec, ModuleId parent, const std::string& name) {
    for (const ModuleSpec& kind : spec.modules) {
      if (kind.when && !condition(*kind.when, parent, name)) continue;
      build_module(kind, parent, name);
      return;
    }
  }

  bool condition(const Expression& when, ModuleId parent, std::string_view name) {
    where_ = quote(join_names(tree_.modules[parent].name, name));
    return when.boolean(*this);
  }

  struct Resolved {
    bool present = true;
    Shape shape;
  };

  Resolved resolve(const TensorSpec& spec) {
    Resolved out;
    if (spec.when && !spec.when->boolean(*this)) {
      out.present = false;
      return out;
    }
    for (const Expression& size : spec.shape) {
      const std::int64_t value = size.integer(*this);
      if (value < 1) {
        throw Error(size.text() + " is " + std::to_string(value) + ", not a positive size");
      }
      out.shape.push_back(static_cast<std::uint64_t>(value));
    }
    return out;
  }

  void build_tensor(const TensorSpec& spec, ModuleId module) {
    auto known = resolved_.find(&spec);
    if (known == resolved_.end()) {
      where_ = quote(join_names(tree_.modules[module].name, spec.name));
      touched_loop_ = false;
      known = resolved_.emplace(&spec, resolve(spec)).first;
      if (touched_loop_) varying_.push_back(&spec);
    }
    if (known->second.present) {
      ModelTensor tensor;
      tensor.name = tree_.names.join(tree_.modules[module].name, spec.name);
      tensor.stored = spec.dtype.value_or(stored_);
      // A computed buffer keeps its dtype, because --dtype applies only to what is read.
      tensor.dtype = spec.persistent ? memory_dtype(tensor.stored, wanted_) : tensor.stored;
      tensor.shape = known->second.shape;
      tensor.module = module;
      tensor.buffer = spec.buffer;
      tensor.persistent = spec.persistent;
      add_tensor(tree_, std::move(tensor));
    }
    if (!varying_.empty() && varying_.back() == &spec) {
      varying_.pop_back();
      resolved_.erase(known);
    }
  }

  void check_total() const {
    std::uint64_t total = 0;
    for (const ModelTensor& tensor : tree_.tensors) {
      const std::uint64_t widest = *tensor_bytes(DType::kF64, tensor.shape);
      if (__builtin_add_overflow(total, widest, &total) || total >> 62 != 0) {
        throw Error("the sizes of all tensors together overflow");
      }
    }
  }

  TensorId find_tensor(std::string_view name) const {
    const auto found = std::ranges::find(tree_.tensors, name, &ModelTensor::name);
    if (found == tree_.tensors.end()) throw Error("no tensor is called " + quote(name));
    return static_cast<TensorId>(found - tree_.tensors.begin());
  }

  void tie_weights() {
    for (const Architecture::Tie& entry : architecture_.ties) {
      where_ = "the tied weights";
      if (entry.when.boolean(*this)) tie_group(entry.tensors);
    }
  }

  void tie_group(const std::vector<std::string>& names) {
    std::vector<TensorId> group;
    for (const std::string& name : names) group.push_back(find_tensor(name));
    for (const TensorId id : group) {
      if (tree_.tensors[id].shape != tree_.tensors[group[0]].shape) {
        throw Error("tensors " + quote(tree_.tensors[group[0]].name) + " and " +
                    quote(tree_.tensors[id].name) + " are tied but differ in shape");
      }
    }
    tie(tree_, std::move(group));
  }

  std::uint64_t fact(const char* key) {
    const auto found = architecture_.facts.find(key);
    if (found == architecture_.facts.end()) return 0;
    where_ = std::string("the fact ") + key;
    const std::int64_t value = found->second.integer(*this);
    if (value < 0) throw Error(found->second.text() + " is negative");
    return static_cast<std::uint64_t>(value);
  }

  bool holds(const char* key) {
    const auto found = architecture_.facts.find(key);
    where_ = std::string("the fact ") + key;
    return found != architecture_.facts.end() && found->second.boolean(*this);
  }

  // What a layer keeps of a sequence whatever its length: elements in the model's dtype, and bytes.
  std::uint64_t state_bytes() {
    const std::uint64_t elements = fact("state_elements");
    const auto bytes = tensor_bytes(memory_dtype(stored_, wanted_), Shape{elements});
    std::uint64_t total = fact("state_bytes");
    if (!bytes || __builtin_add_overflow(total, *bytes, &total)) {
      throw Error("the state of a layer overflows");
    }
    return total;
  }

  // The size of a head, by the name that templates have for it; 0 where a latent is kept instead.
  std::uint64_t head_size(std::uint64_t kv_elements) {
    if (kv_elements == 0) return 0;
    where_ = "the size of a head";
    const ExprValue value = value_of("head_dim");
    const auto* size = std::get_if<std::int64_t>(&value);
    if (size == nullptr || *size <= 0 || kv_elements % (2 * static_cast<std::uint64_t>(*size)) != 0)
      return 0;
    return config_.has("kv_lora_rank") ? 0 : static_cast<std::uint64_t>(*size);
  }

  ModuleId module_id(const std::string& name) const {
    const Module* module = name.empty() ? nullptr : tree_.find_module(name);
    return module == nullptr ? kNone : static_cast<ModuleId>(module - tree_.modules.data());
  }

  void fill_facts() {
    ModelFacts& facts = tree_.facts;
    facts.hidden = fact("hidden");
    facts.intermediate = fact("intermediate");
    facts.vocabulary = fact("vocabulary");
    facts.heads = fact("heads");
    facts.max_positions = fact("max_positions");
    facts.embedding = module_id(architecture_.embedding);
    facts.head = module_id(architecture_.head);
    const ModuleId layers = module_id(architecture_.layers);
    if (layers == kNone) return;
    loops_.emplace_back("layer", 0);
    for (const ModuleId block : tree_.modules[layers].children) {
      LayerFacts layer;
      layer.module = block;
      layer.kv_elements = fact("kv_elements");
      layer.window = fact("window");
      layer.shares_cache = holds("shares_cache");
      layer.cross_elements = fact("cross_elements");
      layer.state_bytes = state_bytes();
      layer.experts = fact("experts");
      layer.experts_per_token = layer.experts == 0 ? 0 : fact("experts_per_token");
      layer.head_size = head_size(layer.kv_elements);
      facts.layers.push_back(layer);
      ++loops_.back().second;
    }
    loops_.pop_back();
  }

  // Replaces the expression in "model.layers.{num_hidden_layers}.*" by its value.
  std::string filled(const std::string& glob) {
    where_ = "the ignored tensors";
    const std::size_t open = glob.find('{');
    const std::size_t close = glob.find('}', open);
    if (open == glob.npos || close == glob.npos) return glob;
    const Expression inner(glob.substr(open + 1, close - open - 1));
    return glob.substr(0, open) + std::to_string(inner.integer(*this)) + glob.substr(close + 1);
  }

  const Architecture& architecture_;
  const ModelConfig& config_;
  std::optional<DType> wanted_;
  DType stored_ = DType::kF32;
  ModelTree tree_;
  std::vector<std::string> ignored_;
  std::vector<std::string> predicted_;
  Fallbacks fallbacks_;
  std::string where_;  // what is being built, for messages

  std::vector<std::pair<std::string, std::int64_t>> loops_;
  bool touched_loop_ = false;
  std::set<std::string, std::less<>> open_lets_;
  std::map<std::string, ExprValue, std::less<>> let_values_;
  std::map<std::string, std::vector<ExprValue>, std::less<>> lists_;
  std::unordered_map<const ModuleSpec*, Class> classes_;
  std::unordered_map<const TensorSpec*, Resolved> resolved_;
  std::vector<const TensorSpec*> varying_;  // shape worked out for one loop index only
};

}  // namespace

void index_names(BuiltTree& built) {
  if (built.by_name.size() > 0) return;
  const TensorNames names{built.tree};
  built.by_name = NameTable(built.tree.tensors.size());
  for (TensorId id = 0; id < built.tree.tensors.size(); ++id) {
    const ModelTensor& tensor = built.tree.tensors[id];
    if (tensor.persistent) built.by_name.insert(tensor.name, id, names);
  }
}

BuiltTree build_from_template(const Architecture& architecture, const ModelConfig& config,
                              std::optional<DType> dtype, std::size_t expected_tensors) {
  return TemplateBuilder(architecture, config, dtype).build(expected_tensors);
}

}  // namespace berth
