#include "planner/model/tree/config.h"

#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "berth/error.h"
#include "planner/base/input_file.h"
#include "planner/base/quote.h"

namespace berth {

namespace ondemand = simdjson::ondemand;

namespace {

constexpr std::uint64_t kFileLimit = 16u << 20;  // the largest real ones have a few hundred KB
constexpr int kDepthLimit = 32;

}  // namespace

// Flattens the document into dotted keys, then unifies the spellings. It reads with simdjson's
// on-demand parser and not by JsonValue, so that an error of syntax, or a number that is out of
// range, is told with its key; JsonValue's parser refuses the document as a whole.
class ConfigReader {
 public:
  explicit ConfigReader(const std::string& source) { config_.source_ = source; }

  ModelConfig read(std::string_view json) {
    const simdjson::padded_string padded(json);
    ondemand::parser parser;
    ondemand::document document;
    ondemand::object object;
    if (auto error = parser.iterate(padded).get(document)) fail("", error);
    if (document.get_object().get(object)) fail("not a JSON object");
    read_object(object, "", 0);
    if (document.current_location().error() != simdjson::OUT_OF_BOUNDS) {
      fail("the file goes on after its closing '}'");
    }
    forget_outer_sizes();
    promote("text_config.", "");
    settle_rope();
    expand_attention_types();
    rename("torch_dtype", "dtype");
    config_.model_type_ = config_.text("model_type").value_or("");
    return std::move(config_);
  }

 private:
  using Value = ModelConfig::Value;

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(config_.source_ + ": " + what);
  }
  [[noreturn]] void fail(const std::string& key, simdjson::error_code error) const {
    fail((key.empty() ? "" : quote(key) + ": ") +
         "not valid JSON: " + simdjson::error_message(error));
  }

  void read_object(ondemand::object object, const std::string& prefix, int depth) {
    if (depth > kDepthLimit) {
      fail(quote(prefix) + ": nested deeper than " + std::to_string(kDepthLimit));
    }
    std::set<std::string, std::less<>> seen;
    for (auto result : object) {
      ondemand::field field;
      std::string_view key;
      if (auto error = std::move(result).get(field)) fail(prefix, error);
      if (auto error = field.unescaped_key().get(key)) fail(prefix, error);
      // Of a key that comes twice, Python takes the last.
      if (!seen.emplace(key).second) forget(prefix + std::string(key));
      read_value(field.value(), prefix + std::string(key), depth);
    }
    if (seen.empty() && !prefix.empty()) {
      config_.lists_.insert_or_assign(prefix.substr(0, prefix.size() - 1), std::vector<Value>());
    }
  }

  void forget(const std::string& key) {
    const auto below = [&](const auto& entry) {
      return entry.first == key || entry.first.starts_with(key + ".");
    };
    std::erase_if(config_.values_, below);
    std::erase_if(config_.lists_, below);
  }

  // The numbers that Python writes and reads though JSON has no such: NaN, Infinity, -Infinity.
  static std::optional<double> no_json_number(ondemand::value& value) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    std::string_view token = value.raw_json_token();  // reaches to the next one
    token = token.substr(0, token.find_first_of(" \t\r\n,]}"));
    if (token == "NaN") return std::numeric_limits<double>::quiet_NaN();
    if (token == "Infinity") return kInfinity;
    if (token == "-Infinity") return -kInfinity;
    return std::nullopt;
  }

  void read_value(ondemand::value value, const std::string& key, int depth) {
    if (const auto number = no_json_number(value)) {
      config_.values_.insert_or_assign(key, Value(*number));
      return;
    }
    ondemand::json_type type;
    if (auto error = value.type().get(type)) fail(key, error);
    if (type == ondemand::json_type::object) {
      ondemand::object object;
      if (auto error = value.get_object().get(object)) fail(key, error);
      read_object(object, key + ".", depth + 1);
    } else if (type == ondemand::json_type::array) {
      read_array(value, key, depth);
    } else if (auto scalar = read_scalar(value, type, key)) {
      config_.values_.insert_or_assign(key, std::move(*scalar));
    } else {
      config_.nulls_.insert(key);
    }
  }

  // If a list holds anything but scalars, its syntax is checked and its elements are kept one by
  // one ("key.0.name"). So an index never points at another element than in the file.
  void read_array(ondemand::value value, const std::string& key, int depth) {
    if (depth > kDepthLimit) {
      fail(quote(key) + ": nested deeper than " + std::to_string(kDepthLimit));
    }
    ondemand::array array;
    if (auto error = value.get_array().get(array)) fail(key, error);
    std::vector<Value> list;
    std::vector<std::string> keys;  // of the scalars
    bool scalars = true;
    std::size_t number = 0;
    for (auto result : array) {
      const std::string element_key = key + "." + std::to_string(number++);
      ondemand::value element;
      ondemand::json_type type;
      if (auto error = result.get(element)) fail(element_key, error);
      if (const auto no_json = no_json_number(element)) {
        list.emplace_back(*no_json);
        keys.push_back(element_key);
        continue;
      }
      if (auto error = element.type().get(type)) fail(element_key, error);
      if (type == ondemand::json_type::object || type == ondemand::json_type::array) {
        scalars = false;
        read_value(element, element_key, depth + 1);
      } else if (auto scalar = read_scalar(element, type, element_key)) {
        list.push_back(std::move(*scalar));
        keys.push_back(element_key);
      } else {
        scalars = false;
      }
    }
    if (scalars) {
      config_.lists_.insert_or_assign(key, std::move(list));
      return;
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
      config_.values_.insert_or_assign(keys[i], std::move(list[i]));
    }
  }

  // GPT-Neo's [[["global", "local"], 12]]: kinds of layers, and how often they come one after
  // another. `attention_types.layers` becomes the kind of each layer.
  void expand_attention_types() {
    constexpr std::int64_t kMostLayers = 100'000;
    std::vector<Value> layers;
    for (std::size_t i = 0;; ++i) {
      const std::string entry = "attention_types." + std::to_string(i);
      const std::vector<Value>* kinds = config_.find_list(entry + ".0");
      const std::optional<std::int64_t> times = config_.integer(entry + ".1");
      if (kinds == nullptr || !times) break;
      if (*times < 0 || *times > kMostLayers / std::max<std::int64_t>(1, std::ssize(*kinds))) {
        fail(entry + ": " + std::to_string(*times) + " times is no number of layers");
      }
      for (std::int64_t n = 0; n < *times; ++n) {
        layers.insert(layers.end(), kinds->begin(), kinds->end());
      }
    }
    if (!layers.empty())
      config_.lists_.insert_or_assign("attention_types.layers", std::move(layers));
  }

  std::optional<Value> read_scalar(ondemand::value& value, ondemand::json_type type,
                                   const std::string& key) {
    if (type == ondemand::json_type::string) {
      std::string_view text;
      if (auto error = value.get_string().get(text)) fail(key, error);
      return Value(std::string(text));
    }
    if (type == ondemand::json_type::boolean) {
      bool flag = false;
      if (auto error = value.get_bool().get(flag)) fail(key, error);
      return Value(flag);
    }
    if (type == ondemand::json_type::number) {
      ondemand::number number;
      if (value.get_number().get(number)) fail(quote(key) + ": not a number, or one out of range");
      if (number.is_int64()) return Value(number.get_int64());
      return Value(number.as_double());  // fractions, and integers over 2^63
    }
    bool null = false;
    if (value.is_null().get(null) || !null) fail(quote(key) + ": not a JSON value");
    return std::nullopt;
  }

  // Whether a key of the text model may stand for the whole. Not that of tied weights: transformers
  // 5.24 asks the outer config alone, whatever the inner one says (modeling_utils.py, tie_weights).
  static bool is_shared(std::string_view key) { return key != "text_config.tie_word_embeddings"; }

  bool says(const std::string& key) const { return config_.has(key) || config_.is_null(key); }

  // The keys that begin with `prefix`, nulls included.
  std::vector<std::string> keys_below(const std::string& prefix) const {
    std::vector<std::string> keys = config_.keys(prefix);
    for (auto it = config_.nulls_.lower_bound(prefix); it != config_.nulls_.end(); ++it) {
      if (!it->starts_with(prefix)) break;
      keys.push_back(*it);
    }
    return keys;
  }

  void copy(const std::string& from, const std::string& to) {
    erase(to);
    if (const auto value = config_.values_.find(from); value != config_.values_.end()) {
      config_.values_.emplace(to, value->second);
    }
    if (const auto list = config_.lists_.find(from); list != config_.lists_.end()) {
      config_.lists_.emplace(to, list->second);
    }
    if (config_.is_null(from)) config_.nulls_.insert(to);
  }

  void erase(const std::string& key) {
    config_.values_.erase(key);
    config_.lists_.erase(key);
    config_.nulls_.erase(key);
  }

  // Copies every key `from`* to `to`*, unless that is there already.
  void promote(const std::string& from, const std::string& to) {
    for (const std::string& key : keys_below(from)) {
      if (is_shared(key)) rename(key, to + key.substr(from.size()));
    }
  }

  // transformers hands the nested config to the text model, so its sizes and its class's defaults
  // count, and not what some configs say beside it (PaliGemma's).
  void forget_outer_sizes() {
    static constexpr const char* kSizes[] = {
        "hidden_size",         "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim",          "vocab_size"};
    const auto nested = [this](const char* key) { return says(std::string("text_config.") + key); };
    if (std::ranges::none_of(kSizes, nested)) return;
    for (const char* key : kSizes) erase(key);
  }

  void rename(const std::string& from, const std::string& to) {
    if (says(from) && !says(to)) copy(from, to);
  }

  // As convert_rope_params_to_dict() and standardize_rope_params() of transformers 5.24
  // (modeling_rope_utils.py) leave `rope_parameters`.
  void settle_rope() {
    const std::vector<std::string> scaling = keys_below("rope_scaling.");
    if (!scaling.empty()) {
      for (const std::string& key : keys_below("rope_parameters.")) erase(key);
    }
    promote("rope_scaling.", "rope_parameters.");
    rename("rope_parameters.type", "rope_parameters.rope_type");
    rename("rope_theta", "rope_parameters.rope_theta");
    rename("partial_rotary_factor", "rope_parameters.partial_rotary_factor");
    const std::string length = "original_max_position_embeddings";
    if (says(length)) copy(length, "rope_parameters." + length);
  }

  ModelConfig config_;
};

ModelConfig ModelConfig::parse(std::string_view json, const std::string& source) {
  return ConfigReader(source).read(json);
}

ModelConfig ModelConfig::read(const std::filesystem::path& file) {
  return parse(read_text_file(file, kFileLimit), file.string());
}

void ModelConfig::adopt(const std::string& prefix, const ModelConfig& other) {
  for (const auto& [key, value] : other.values_) values_.emplace(prefix + key, value);
  for (const auto& [key, list] : other.lists_) lists_.emplace(prefix + key, list);
  adopted_.emplace(prefix, other.source_);
}

std::string ModelConfig::position_of(std::string_view key) const {
  for (const auto& [prefix, source] : adopted_) {
    if (key.starts_with(prefix)) return source + ": " + std::string(key.substr(prefix.size()));
  }
  return source_ + ": " + std::string(key);
}

const ModelConfig::Value* ModelConfig::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

std::vector<std::string> ModelConfig::keys(std::string_view prefix) const {
  std::set<std::string> found;
  const auto gather = [&](const auto& map) {
    for (auto it = map.lower_bound(prefix); it != map.end() && it->first.starts_with(prefix);
         ++it) {
      found.insert(it->first);
    }
  };
  gather(values_);
  gather(lists_);
  return {found.begin(), found.end()};
}

const std::vector<ModelConfig::Value>* ModelConfig::find_list(std::string_view key) const {
  const auto found = lists_.find(key);
  return found == lists_.end() ? nullptr : &found->second;
}

bool ModelConfig::has(std::string_view key) const {
  return find(key) != nullptr || find_list(key) != nullptr;
}

bool ModelConfig::is_null(std::string_view key) const { return nulls_.contains(key); }

void ModelConfig::set(std::string_view key, Value value) {
  values_.insert_or_assign(std::string(key), std::move(value));
}

std::optional<std::int64_t> ModelConfig::integer(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr && find_list(key) == nullptr) return std::nullopt;
  if (value != nullptr) {
    if (const auto* whole = std::get_if<std::int64_t>(value)) return *whole;
    // Some writers put 4096.0 for 4096.
    if (const auto* real = std::get_if<double>(value)) {
      if (std::abs(*real) < 9e15 && std::floor(*real) == *real) {
        return static_cast<std::int64_t>(*real);
      }
    }
  }
  throw Error(position_of(key) + ": not an integer");
}

std::optional<double> ModelConfig::number(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr && find_list(key) == nullptr) return std::nullopt;
  if (value != nullptr) {
    if (const auto* whole = std::get_if<std::int64_t>(value)) return static_cast<double>(*whole);
    if (const auto* real = std::get_if<double>(value)) return *real;
  }
  throw Error(position_of(key) + ": not a number");
}

std::optional<bool> ModelConfig::boolean(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr && find_list(key) == nullptr) return std::nullopt;
  if (value != nullptr && std::holds_alternative<bool>(*value)) return std::get<bool>(*value);
  throw Error(position_of(key) + ": neither true nor false");
}

std::optional<std::string> ModelConfig::text(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr && find_list(key) == nullptr) return std::nullopt;
  if (value != nullptr && std::holds_alternative<std::string>(*value)) {
    return std::get<std::string>(*value);
  }
  throw Error(position_of(key) + ": not a string");
}

std::vector<ModelConfig::Value> ModelConfig::list(std::string_view key) const {
  if (const auto* found = find_list(key)) return *found;
  if (find(key) != nullptr) throw Error(position_of(key) + ": not a list");
  return {};
}

void ModelConfig::set_default(std::string_view key, Value value) {
  set(key, std::move(value));
  defaults_.emplace(key);
}

bool ModelConfig::is_default(std::string_view key) const { return defaults_.contains(key); }

std::int64_t ModelConfig::require_integer(std::string_view key) const {
  if (const auto value = integer(key)) return *value;
  throw Error(source_ + ": " + std::string(key) + ": missing");
}

double ModelConfig::require_number(std::string_view key) const {
  if (const auto value = number(key)) return *value;
  throw Error(source_ + ": " + std::string(key) + ": missing");
}

}  // namespace berth
