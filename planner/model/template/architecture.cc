#include "planner/model/template/architecture.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>

#include "berth/configs.h"
#include "berth/error.h"
#include "planner/base/position.h"
#include "planner/base/quote.h"
#include "planner/base/yaml.h"
#include "planner/model/template/template_keys.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr int kNestingLimit = 16;  // of `extends` and of `use`

// Each family has a configuration class of its own: nothing of these comes from what is extended.
constexpr const char* kClassKeys[] = {"aliases", "defaults", "nullable", "rope_types", "demands"};

void read_ties(const YamlValue& value, Architecture& out) {
  out.ties.clear();
  for (const YamlValue& entry : one_or_more(value)) {
    YamlMap map(entry);
    out.ties.push_back({expression(map.require("when")), texts(map.require("tensors"))});
    map.finish();
  }
}

// What the configuration class says (kClassKeys).
void read_class(YamlMap& map, Architecture& out) {
  if (const auto value = map.get("aliases")) read_names(*value, out.aliases);
  if (const auto value = map.get("rope_types")) read_names(*value, out.rope_types);
  if (const auto value = map.get("defaults")) read_expressions(*value, out.defaults);
  if (const auto value = map.get("nullable"))
    std::ranges::move(texts(*value), std::back_inserter(out.nullable));
  if (const auto value = map.get("demands"))
    std::ranges::move(expressions(*value), std::back_inserter(out.demands));
}

void read_checkpoint(const YamlValue& value, Architecture& out) {
  YamlMap map(value);
  if (const auto prefixes = map.get("prefixes")) out.prefixes = texts(*prefixes);
  if (const auto renames = map.get("rename")) {
    YamlMap pairs(*renames);
    for (const std::string& from : pairs.keys()) {
      const bool at_start = from.starts_with('^');
      out.renames.push_back(
          {from.substr(at_start ? 1 : 0), pairs.require(from).as_text(), at_start});
    }
  }
  if (const auto ignored = map.get("ignore")) {
    for (std::string& glob : texts(*ignored)) out.ignored.push_back(std::move(glob));
  }
  if (const auto predicted = map.get("mtp")) {
    for (std::string& glob : texts(*predicted)) out.predicted.push_back(std::move(glob));
  }
  if (const auto dtypes = map.get("fp8")) {
    YamlMap pairs(*dtypes);
    for (const std::string& name : pairs.keys()) {
      const YamlValue entry = pairs.require(name);
      const auto dtype = parse_dtype(entry.as_text());
      if (!dtype) entry.fail("unknown dtype");
      out.fp8_dtypes.insert_or_assign(name, *dtype);
    }
  }
  map.finish();
}

void read_facts(const YamlValue& value, Architecture& out) {
  YamlMap map(value);
  if (const auto name = map.get("embedding")) out.embedding = name->as_text();
  if (const auto name = map.get("head")) out.head = name->as_text();
  if (const auto name = map.get("layers")) out.layers = name->as_text();
  for (const char* key : {"hidden", "intermediate", "vocabulary", "heads", "max_positions",
                          "kv_elements", "window", "shares_cache", "cross_elements",
                          "state_elements", "state_bytes", "experts", "experts_per_token"}) {
    if (const auto fact = map.get(key)) out.facts.insert_or_assign(key, expression(*fact));
  }
  map.finish();
}

// Merges a chain of `extends`, beginning with the base, then compiles the result.
class ArchitectureReader {
 public:
  ArchitectureReader(fs::path folder, std::string_view inner)
      : folder_(std::move(folder)), inner_(inner) {}

  std::unique_ptr<Architecture> read(std::string_view model_type, std::string_view cls) {
    auto out = std::make_unique<Architecture>();
    out->model_type = model_type;
    out->file = std::string(model_type) + ".yaml";
    gather(std::string(model_type), 0, *out);
    if (!modules_) throw Error((folder_ / out->file).string() + ": modules: missing");
    out->cls = class_name(cls_);
    std::ranges::move(text_no_split_, std::back_inserter(no_split_));
    for (auto& name : no_split_) out->no_split.push_back(class_name(name));
    ModuleSpec root;
    if (buffers_) compile_tensors(*buffers_, true, root);
    out->tensors = std::move(root.tensors);
    for (const YamlValue& entry : modules_->as_list()) {
      out->modules.push_back(compile_module(entry, 0));
    }
    if (cls != out->cls) choose_head(cls, *out);
    return out;
  }

 private:
  void gather(const std::string& name, int depth, Architecture& out) {
    const YamlValue document = read_yaml_file(folder_ / (name + ".yaml"));
    YamlMap map(document);
    const auto text = map.get("text");
    if (text && text_default_.empty()) text_default_ = YamlMap(*text).require("default").as_text();
    if (const auto bases = map.get("extends")) {
      if (depth > kNestingLimit) bases->fail("extends itself");
      for (const YamlValue& base : one_or_more(*bases)) gather(base.as_text(), depth + 1, out);
    }
    if (text && text_depth_ < 0) gather_text(*text, depth, out);
    if (const auto value = map.get("prefix")) prefix_ = value->as_text();
    if (const auto value = map.get("outer_prefix")) outer_prefix_ = value->as_text();
    if (const auto value = map.get("class")) cls_ = value->as_text();
    if (const auto value = map.get("base")) base_ = value->as_text();
    if (const auto value = map.get("heads")) read_heads(*value);
    if (const auto value = map.get("no_split")) no_split_ = texts(*value);
    if (const auto value = map.get("modules")) modules_ = *value;
    if (const auto value = map.get("buffers")) buffers_ = *value;
    if (const auto value = map.get("tie")) read_ties(*value, out);
    if (depth == 0 || depth == text_depth_) {
      read_class(map, out);
    } else {
      for (const char* key : kClassKeys) map.get(key);
    }
    if (const auto value = map.get("unused")) read_expressions(*value, out.unused);
    if (const auto value = map.get("let")) read_expressions(*value, out.lets);
    if (const auto value = map.get("blocks")) {
      YamlMap blocks(*value);
      for (const std::string& key : blocks.keys()) {
        blocks_.insert_or_assign(key, blocks.require(key));
      }
    }
    if (const auto value = map.get("checkpoint")) read_checkpoint(*value, out);
    if (const auto value = map.get("facts")) read_facts(*value, out);
    map.finish();
  }

  // Takes the template of the model in `text_config`, whatever family that is: what its
  // configuration class says; its base as the block `text`, which stands at `at` in this model; and
  // ties and facts, which name what is there.
  void gather_text(const YamlValue& value, int depth, Architecture& out) {
    YamlMap map(value);
    map.require("default");
    const std::string at = map.require("at").as_text();
    map.finish();
    const std::string name = inner_.empty() ? text_default_ : inner_;
    std::error_code ignored;
    if (!fs::exists(folder_ / (name + ".yaml"), ignored)) {
      throw Error("text_config.model_type: " + quote(name) + " has no template in " +
                  folder_.string());
    }
    text_depth_ = depth + 1;
    gather(name, depth + 1, out);
    text_depth_ = 0;  // done
    for (const YamlValue& module : modules_->as_list()) {
      YamlMap keys(module);
      if (keys.require("name").as_text() == base_) blocks_.insert_or_assign("text", module);
    }
    const std::string front = base_ + ".";
    const auto move = [&](std::string& moved) {
      if (moved.starts_with(front)) moved = at + moved.substr(base_.size());
    };
    for (Architecture::Tie& tie : out.ties) std::ranges::for_each(tie.tensors, move);
    move(out.embedding);
    move(out.layers);
    text_no_split_ = std::move(no_split_);
    no_split_.clear();
    out.prefixes.clear();
    heads_.clear();
  }

  void read_heads(const YamlValue& value) {
    YamlMap map(value);
    for (const std::string& cls : map.keys()) heads_.insert_or_assign(cls, map.require(cls));
  }

  // Makes the template that of the class `cls`, if that is the base alone or has another head.
  void choose_head(std::string_view cls, Architecture& out) {
    const auto base = std::ranges::find(out.modules, base_, &ModuleSpec::name);
    if (base == out.modules.end()) return;
    const auto other = std::ranges::find_if(
        heads_, [&](const auto& head) { return class_name(head.first) == cls; });
    if (base->cls != cls && other == heads_.end()) return;
    out.cls = cls;
    keep_ties_within(base_ + ".", out);
    out.head.clear();
    out.tensors.clear();
    for (const ModuleSpec& module : out.modules) {
      if (module.name != base_) out.ignored.push_back(module.name + ".*");
    }
    std::erase_if(out.modules, [&](const ModuleSpec& module) { return module.name != base_; });
    if (other == heads_.end()) {
      drop_head(out);
      return;
    }
    // A head that names the base, too, says where among its modules that is registered.
    std::vector<ModuleSpec> head;
    for (const YamlValue& entry : other->second.as_list()) {
      head.push_back(compile_module(entry, 0));
    }
    if (std::ranges::find(head, base_, &ModuleSpec::name) != head.end()) out.modules.clear();
    std::ranges::move(head, std::back_inserter(out.modules));
  }

  // Without its head, only the tensors of the base are tied.
  static void keep_ties_within(const std::string& prefix, Architecture& out) {
    for (Architecture::Tie& tie : out.ties) {
      std::erase_if(tie.tensors, [&](const auto& name) { return !name.starts_with(prefix); });
    }
    std::erase_if(out.ties, [](const auto& tie) { return tie.tensors.size() < 2; });
  }

  // The base becomes the root, and its name goes from the front of all others.
  void drop_head(Architecture& out) const {
    const std::string prefix = base_ + ".";
    ModuleSpec base = std::move(out.modules[0]);
    out.modules = std::move(base.modules);
    out.tensors = std::move(base.tensors);
    for (Architecture::Tie& tie : out.ties) {
      for (std::string& name : tie.tensors) name.erase(0, prefix.size());
    }
    for (std::string* name : {&out.embedding, &out.layers}) {
      if (name->starts_with(prefix)) name->erase(0, prefix.size());
    }
    std::erase(out.prefixes, prefix);
    out.extra_prefixes.push_back(prefix);
    for (std::size_t i = 0, count = out.ignored.size(); i < count; ++i) {
      if (out.ignored[i].starts_with(prefix)) {
        out.ignored.push_back(out.ignored[i].substr(prefix.size()));
      }
    }
  }

  // Replaces the '$' of "$Attention" by the family's prefix: "LlamaAttention". "$$" stands for the
  // prefix of what is around a text model, where the two differ.
  std::string class_name(const std::string& text) const {
    if (text.starts_with("$$")) {
      return (outer_prefix_.empty() ? prefix_ : outer_prefix_) + text.substr(2);
    }
    return text.starts_with('$') ? prefix_ + text.substr(1) : text;
  }

  ModuleSpec compile_module(const YamlValue& value, int depth) {
    YamlMap map(value);
    ModuleSpec spec;
    spec.name = map.require("name").as_text();
    compile_body(map, spec, depth);
    return spec;
  }

  // Reads all keys but the name. `use` takes the body of a block, and the keys beside it are added.
  void compile_body(YamlMap& map, ModuleSpec& spec, int depth) {
    if (depth > kNestingLimit) map.value().fail("nested too deeply");
    if (const auto block = map.get("use")) {
      const auto found = blocks_.find(block->as_text());
      if (found == blocks_.end()) block->fail("no block of this name");
      YamlMap body(found->second);
      body.get("name");  // a module of another template has its own
      compile_body(body, spec, depth + 1);
    }
    if (const auto value = map.get("class")) spec.cls = class_name(value->as_text());
    if (const auto value = map.get("when")) spec.when = expression(*value);
    if (const auto value = map.get("expert")) spec.expert = value->as_boolean();
    if (const auto value = map.get("runs")) {
      const std::string when = value->as_text();
      if (when != "first" && when != "last" && when != "for_prompt") {
        value->fail("'first', 'last' or 'for_prompt' is expected");
      }
      spec.stage = when == "last" ? 1 : -1;
      spec.prompt_only = when == "for_prompt";
    }
    compile_shorthand(map, spec);
    if (const auto value = map.get("params")) compile_tensors(*value, false, spec);
    if (const auto value = map.get("buffers")) compile_tensors(*value, true, spec);
    if (const auto value = map.get("repeat")) {
      spec.repeat = expression(*value);
      spec.index = map.require("index").as_text();
      for (const YamlValue& kind : one_or_more(map.require("each"))) {
        YamlMap item(kind);
        compile_body(item, spec.modules.emplace_back(), depth + 1);
      }
      if (spec.cls.empty()) spec.cls = "ModuleList";
    }
    if (const auto value = map.get("modules")) {
      for (const YamlValue& entry : value->as_list()) {
        spec.modules.push_back(compile_module(entry, depth + 1));
      }
    }
    map.finish();
  }

  // Reads `linear: [in, out]` and similar keys, which write PyTorch's own leaf modules in one line.
  void compile_shorthand(YamlMap& map, ModuleSpec& spec) {
    const auto leaf = [&](const char* cls, std::vector<Expression> weight) {
      spec.cls = cls;
      spec.tensors.push_back({"weight", std::move(weight), {}, {}, false, true});
    };
    const auto bias = [&](Expression size, std::optional<Expression> when) {
      spec.tensors.push_back({"bias", {std::move(size)}, std::move(when), {}, false, true});
    };
    std::optional<YamlValue> shape;
    if ((shape = map.get("linear")) || (shape = map.get("conv1d"))) {
      const bool linear = map.has("linear");
      auto sizes = expressions(*shape, 2);
      if (linear) std::swap(sizes[0], sizes[1]);  // Linear stores [out, in], Conv1D [in, out]
      Expression out_size = sizes[linear ? 0 : 1];
      leaf(linear ? "Linear" : "Conv1D", std::move(sizes));
      const auto has_bias = map.get("bias");
      if (!linear) {
        bias(std::move(out_size), std::nullopt);
      } else if (has_bias) {
        bias(std::move(out_size), expression(*has_bias));
      }
    } else if ((shape = map.get("embedding"))) {
      leaf("Embedding", expressions(*shape, 2));
    } else if ((shape = map.get("layer_norm"))) {
      const auto has_bias = map.get("bias");
      leaf("LayerNorm", {expression(*shape)});
      bias(expression(*shape), has_bias ? std::optional(expression(*has_bias)) : std::nullopt);
    } else if ((shape = map.get("norm"))) {
      leaf("", {expression(*shape)});
      spec.cls = class_name("$RMSNorm");
    }
    if (const auto value = map.get("class")) spec.cls = class_name(value->as_text());
  }

  // Reads `weight: [rows, columns]`, or `weight: {shape: [..], dtype: F32, persistent: false, when:
  // ..}`.
  static void compile_tensors(const YamlValue& value, bool buffer, ModuleSpec& spec) {
    YamlMap map(value);
    for (const std::string& name : map.keys()) {
      const YamlValue entry = map.require(name);
      TensorSpec tensor{name, {}, {}, {}, buffer, true};
      if (entry.is_list()) {
        tensor.shape = expressions(entry);
      } else {
        YamlMap keys(entry);
        tensor.shape = expressions(keys.require("shape"));
        if (const auto when = keys.get("when")) tensor.when = expression(*when);
        if (const auto persistent = keys.get("persistent")) {
          tensor.persistent = persistent->as_boolean();
        }
        if (const auto dtype = keys.get("dtype")) {
          tensor.dtype = parse_dtype(dtype->as_text());
          if (!tensor.dtype) dtype->fail("unknown dtype");
        }
        keys.finish();
      }
      spec.tensors.push_back(std::move(tensor));
    }
  }

  fs::path folder_;
  std::string inner_;         // the model_type of text_config
  std::string text_default_;  // what it is where the config does not say
  int text_depth_ = -1;       // how deep the template stands that `text` takes; 0: it was read
  std::string prefix_;
  std::string outer_prefix_;
  std::string cls_;
  std::string base_;                        // the module that is the model without its head
  std::map<std::string, YamlValue> heads_;  // by class: the modules in place of the head
  std::vector<std::string> no_split_;
  std::vector<std::string> text_no_split_;  // those of the template that `text` takes
  std::optional<YamlValue> modules_;
  std::optional<YamlValue> buffers_;  // of the root
  std::map<std::string, YamlValue> blocks_;
};

}  // namespace

std::unique_ptr<Architecture> find_architecture(std::string_view model_type, std::string_view cls,
                                                std::string_view inner) {
  // The names come from a config.json, so they must be plain words before they become file names.
  const auto plain = [](std::string_view name) {
    return !name.empty() && std::ranges::all_of(name, [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '_' || c == '-';
    });
  };
  if (!plain(model_type)) return nullptr;
  const fs::path folder = find_config_dir() / "architectures";
  std::vector<std::string> names{std::string(model_type)};
  for (const std::string_view part : {inner, cls}) {
    if (plain(part)) names.insert(names.begin(), std::string(model_type) + "+" + std::string(part));
  }
  for (const std::string& name : names) {
    std::error_code ignored;
    if (!fs::exists(folder / (name + ".yaml"), ignored)) continue;
    auto found = ArchitectureReader(folder, plain(inner) ? inner : "").read(name, cls);
    found->model_type = model_type;
    return found;
  }
  return nullptr;
}

}  // namespace berth
