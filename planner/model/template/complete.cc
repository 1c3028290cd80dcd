#include "planner/model/template/complete.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"

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
  bool has(std::string_view name) override { return config_.has(name); }

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

// A null stands for "none" only where the family can do without a value.
void check_null(const ModelConfig& config, const Architecture& architecture,
                const std::string& key) {
  const auto& nullable = architecture.nullable;
  if (config.has(key) || std::ranges::find(nullable, key) != nullable.end()) return;
  fail_null(config, architecture, key);
}

void set_value(ModelConfig& config, const std::string& key, const ExprValue& value) {
  std::visit(
      [&config, &key](const auto& held) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(held)>, Null>) config.set(key, held);
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

// The kinds of layers that transformers 5.24 knows (configuration_utils.py, with their older
// names).
constexpr std::string_view kLayerTypes[] = {"full_attention",
                                            "sliding_attention",
                                            "chunked_attention",
                                            "window_attention",
                                            "indexed_attention",
                                            "compressed_sparse_attention",
                                            "heavily_compressed_attention",
                                            "minimax_m3_sparse",
                                            "conv",
                                            "moe",
                                            "hybrid",
                                            "hybrid_sliding",
                                            "reference_sliding_attention",
                                            "linear_attention",
                                            "mamba",
                                            "attention",
                                            "deepseek_sparse_attention",
                                            "qwen_sparse_attention"};
constexpr std::string_view kMlpTypes[] = {"sparse", "dense"};

void check_kinds(const ModelConfig& config, const std::string& key,
                 std::span<const std::string_view> known) {
  const auto* kinds = config.find_list(key);
  if (kinds == nullptr) return;
  for (std::size_t i = 0; i < kinds->size(); ++i) {
    const auto* kind = std::get_if<std::string>(&(*kinds)[i]);
    if (kind != nullptr && std::ranges::find(known, *kind) != known.end()) continue;
    throw Error(config.source() + ": " + key + "[" + std::to_string(i) +
                "]: " + (kind == nullptr ? "not a string" : quote(*kind) + " is no kind of layer"));
  }
  const auto layers = config.integer("num_hidden_layers");
  if (!layers || static_cast<std::int64_t>(kinds->size()) == *layers) return;
  throw Error(config.source() + ": " + key + ": " + std::to_string(kinds->size()) +
              " entries for num_hidden_layers " + std::to_string(*layers));
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
  follow_aliases(config, architecture);
  fill_defaults(config, architecture);
  name_aliases(config, architecture);
  settle_rope(config, architecture);
  check_kinds(config, "layer_types", kLayerTypes);
  check_kinds(config, "mlp_layer_types", kMlpTypes);
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
