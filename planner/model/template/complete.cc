#include "planner/model/template/complete.h"

#include <algorithm>
#include <array>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/tree/layer_keys.h"

namespace berth {
namespace {

constexpr int kMostDefaults = 8;  // that follow from one another

// The keys of a config as names of expressions, with the defaults of those that are left out.
class ConfigScope : public Scope {
 public:
  ConfigScope(const ModelConfig& config, const Architecture& architecture)
      : config_(config), defaults_(architecture.defaults) {}

  ExprValue value_of(std::string_view name) override {
    const ModelConfig::Value* value = config_.find(name);
    if (value != nullptr) {
      return std::visit([](const auto& held) { return ExprValue(held); }, *value);
    }
    const auto found = defaults_.find(name);
    if (config_.is_null(name)) {
      saw_null_ = true;
    } else if (found != defaults_.end() && depth_ < kMostDefaults) {
      ++depth_;
      ExprValue made = found->second.evaluate(*this);
      --depth_;
      return made;
    }
    return Null{std::string(name)};
  }
  const std::vector<ExprValue>* list_of(std::string_view name) override {
    const auto* list = config_.find_list(name);
    list_.clear();
    if (list != nullptr) {
      for (const ModelConfig::Value& value : *list) {
        list_.push_back(std::visit([](const auto& held) { return ExprValue(held); }, value));
      }
      return &list_;
    }
    // Of a list of lists or objects only the length is known here.
    const std::string prefix = std::string(name) + ".";
    while (!config_.keys(prefix + std::to_string(list_.size()) + ".").empty()) {
      list_.emplace_back(Null{});
    }
    return list_.empty() ? nullptr : &list_;
  }
  bool has(std::string_view name) override {
    return config_.has(name) || !config_.keys(std::string(name) + ".").empty();
  }

  bool saw_null() const { return saw_null_; }

 private:
  const ModelConfig& config_;
  const std::map<std::string, Expression, std::less<>>& defaults_;
  std::vector<ExprValue> list_;  // what list_of() gave last
  bool saw_null_ = false;
  int depth_ = 0;
};

[[noreturn]] void fail_null(const ModelConfig& config, const Architecture& architecture,
                            const std::string& key) {
  throw Error(config.source() + ": " + key + ": null, but a " + architecture.model_type +
              " model needs a value (left out, it is transformers' default)");
}

// transformers sets the key for its alias after the key itself, so of both the alias counts.
void follow_aliases(ModelConfig& config, const Architecture& architecture) {
  for (const auto& [alias, key] : architecture.aliases) {
    if (config.is_null(alias)) fail_null(config, architecture, alias);
    if (const auto* value = config.find(alias)) config.set(key, *value);
  }
}

void name_aliases(ModelConfig& config, const Architecture& architecture) {
  for (const auto& [alias, key] : architecture.aliases) {
    if (const auto* value = config.find(key)) config.set(alias, *value);
  }
}

// A null stands for "none" only where the family can do without a value. Of a flag it is false, as
// for Python.
void check_null(ModelConfig& config, const Architecture& architecture, const std::string& key) {
  if (config.has(key)) return;
  const auto& nullable = architecture.nullable;
  if (std::ranges::find(nullable, key) == nullable.end()) fail_null(config, architecture, key);
  const std::string& value = architecture.defaults.find(key)->second.text();
  if (value == "true" || value == "false") config.set(key, false);
}

void set_value(ModelConfig& config, const std::string& key, const ExprValue& value) {
  std::visit(
      [&config, &key](const auto& held) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(held)>, Null>) {
          config.set_default(key, held);
        }
      },
      value);
}

void fill_defaults(ModelConfig& config, const Architecture& architecture) {
  for (const auto& [key, expression] : architecture.defaults) {
    if (!config.has(key) && !config.is_null(key)) {
      ConfigScope scope(config, architecture);
      const ExprValue value = expression.evaluate(scope);
      // A null where a key once stood is as good as one where it stands now.
      if (!scope.saw_null()) set_value(config, key, value);
    }
    check_null(config, architecture, key);
  }
}

// The keys that a rotary type cannot do without (transformers 5.24, modeling_rope_utils.py). All
// but the first two also want the length that was trained, which may be that of the model.
struct RopeNeeds {
  std::string_view type;
  std::array<std::string_view, 3> keys;
};
constexpr RopeNeeds kRopeNeeds[] = {
    {"linear", {"factor"}},
    {"dynamic", {"factor"}},
    {"yarn", {"factor"}},
    {"longrope", {"short_factor", "long_factor"}},
    {"llama3", {"factor", "low_freq_factor", "high_freq_factor"}},
};

void settle_rope(ModelConfig& config, const Architecture& architecture) {
  std::string type = config.text("rope_parameters.rope_type").value_or("default");
  if (const auto newer = architecture.rope_types.find(type);
      newer != architecture.rope_types.end()) {
    type = newer->second;
  }
  config.set("rope_parameters.rope_type", type);
  const auto* needs = std::ranges::find(kRopeNeeds, type, &RopeNeeds::type);
  if (needs == std::end(kRopeNeeds)) return;
  for (const std::string_view key : needs->keys) {
    const std::string whole = "rope_parameters." + std::string(key);
    if (key.empty() || config.has(whole)) continue;
    throw Error(config.source() + ": " + whole + ": missing, rope_type " + quote(type) +
                " needs it");
  }
  const std::string length = "rope_parameters.original_max_position_embeddings";
  if (config.has(length) || config.is_null(length)) return;
  if (const auto* value = config.find("max_position_embeddings")) config.set(length, *value);
}

// As many labels as there are names for them; without names, as many as there are said to be, or 2.
void count_labels(ModelConfig& config) {
  const std::size_t names = config.keys("id2label.").size();
  if (names > 0) config.set("num_labels", static_cast<std::int64_t>(names));
  if (!config.has("num_labels")) config.set("num_labels", std::int64_t{2});
}

// A model with towers has a nested config for each, and one for its text unless that stands at the
// top. transformers would make a model of its defaults where one is missing.
void check_nested(const ModelConfig& config, const Architecture& architecture) {
  bool nested = false;
  for (const auto& [key, unused] : architecture.defaults) {
    const std::size_t dot = key.find("_config.");
    if (dot == key.npos) continue;
    nested = true;
    const std::string name = key.substr(0, dot) + "_config";
    if (!config.keys(name + ".").empty() || config.has(name)) continue;
    throw Error(config.source() + ": " + name + ": missing, a " + architecture.model_type +
                " model has one");
  }
  if (!nested || config.has("num_hidden_layers") || config.has("hidden_size")) return;
  if (!config.keys("text_config.").empty()) return;
  throw Error(config.source() + ": text_config: missing, a " + architecture.model_type +
              " model has one");
}

void check_demands(const ModelConfig& config, const Architecture& architecture) {
  ConfigScope scope(config, architecture);
  for (const Expression& demand : architecture.demands) {
    bool holds = false;
    try {
      holds = demand.boolean(scope);
    } catch (const Error& error) {
      throw Error(config.source() + ": " + error.what());
    }
    if (holds) continue;
    throw Error(config.source() + ": transformers refuses a " + architecture.model_type +
                " model for which this is not so: " + demand.text());
  }
}

}  // namespace

ModelConfig complete_config(ModelConfig config, const Architecture& architecture) {
  check_nested(config, architecture);
  follow_aliases(config, architecture);
  fill_defaults(config, architecture);
  name_aliases(config, architecture);
  settle_rope(config, architecture);
  // Where the class has no number of layers, its lists count them (Nemotron-H).
  const bool counted = architecture.defaults.contains("num_hidden_layers");
  check_layer_keys(TextKeys(config), counted ? LayerLists::kChecked : LayerLists::kCount);
  count_labels(config);
  check_demands(config, architecture);
  return config;
}

ModelConfig complete_config(ModelConfig config) {
  const auto architecture = find_architecture(config.model_type(), "",
                                              config.text("text_config.model_type").value_or(""));
  return architecture ? complete_config(std::move(config), *architecture) : std::move(config);
}

std::vector<std::string> unused_settings(const ModelConfig& config,
                                         const Architecture& architecture) {
  std::vector<std::string> notes;
  ConfigScope scope(config, architecture);
  for (const auto& [key, when] : architecture.unused) {
    if (!when.boolean(scope)) continue;
    notes.push_back(config.source() + ": " + key + " has no effect on a " +
                    architecture.model_type + " model, as in transformers");
  }
  return notes;
}

}  // namespace berth
