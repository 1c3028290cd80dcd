// config.json of a Hugging Face model. Old and new spellings of a key give the same answers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "berth/error.h"

namespace berth {

// Does not change after reading, so its const methods may be called from many threads.
// A key may be dotted ("rope_parameters.rope_theta"). An absent key and a null are the same:
// nullopt. A value of another type than asked for throws Error "config.json: key: ...".
// Spellings are unified on reading, and of two places the one wins that wins in transformers.
// Rotary settings answer under "rope_parameters.*" wherever they stand: a `rope_scaling` with keys
// replaces `rope_parameters`; `rope_theta` and `partial_rotary_factor` beside it count where it has
// none; `original_max_position_embeddings` beside it wins; `rope_type` wins over the older `type`.
// `torch_dtype` answers under "dtype". The keys of a nested `text_config` also answer at the top if
// the top lacks them; its sizes do so in any case.
// What a family's configuration class adds to a config.json is filled in by complete_config().
class ModelConfig {
 public:
  using Value = std::variant<bool, std::int64_t, double, std::string>;

  static ModelConfig read(const std::filesystem::path& file);
  static ModelConfig parse(std::string_view json, const std::string& source);

  bool has(std::string_view key) const;
  bool is_null(std::string_view key) const;  // the file says null; a default does not replace it
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;  // integers too
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> text(std::string_view key) const;
  std::vector<Value> list(std::string_view key) const;  // empty where absent

  std::int64_t require_integer(std::string_view key) const;  // Error where absent
  double require_number(std::string_view key) const;         // likewise

  // The scalars under `key` if it is a list of nothing but scalars; else null.
  const std::vector<Value>* find_list(std::string_view key) const;
  const Value* find(std::string_view key) const;
  // All keys that begin with `prefix`, sorted: for objects whose keys are not known beforehand. An
  // object without keys counts as an empty list.
  std::vector<std::string> keys(std::string_view prefix) const;

  // For whoever completes a config before others read it.
  void set(std::string_view key, Value value);
  // The same for a key that the file leaves out, with what the family's configuration class has.
  void set_default(std::string_view key, Value value);
  bool is_default(std::string_view key) const;
  // Takes over all keys of `other`, each with `prefix` before it. What this has already stays.
  void adopt(const std::string& prefix, const ModelConfig& other);

  const std::string& model_type() const { return model_type_; }
  const std::string& source() const { return source_; }
  // The file that a key is from, and its name there: "quantize_config.json: bits".
  std::string position_of(std::string_view key) const;

 private:
  friend class ConfigReader;

  std::map<std::string, Value, std::less<>> values_;              // flattened, dotted keys
  std::map<std::string, std::vector<Value>, std::less<>> lists_;  // flattened, dotted keys
  std::set<std::string, std::less<>> nulls_;                      // flattened, dotted keys
  std::set<std::string, std::less<>> defaults_;                   // keys of set_default()
  std::string model_type_;
  std::string source_;
  std::map<std::string, std::string, std::less<>> adopted_;  // by prefix: the source of its keys
};

}  // namespace berth
