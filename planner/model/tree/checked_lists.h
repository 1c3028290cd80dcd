// The keys of a config.json that hold something for each layer, or for every so many: read one by
// one, and refused where they contradict the number of layers. What they mean together is read by
// layer_keys.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "planner/model/tree/layer_kinds.h"
#include "planner/model/tree/text_keys.h"

namespace berth {

// All methods throw Error "config.json: key: ..." for a key that contradicts the model's `count` of
// layers. `keys` must outlive this.
class CheckedLists {
 public:
  CheckedLists(const TextKeys& keys, std::size_t count);

  // All keys that the tables of layer_kinds.h name.
  void check_all() const;

  // The list has one entry for each layer, or is absent. An entry more for each layer of
  // multi-token prediction is no contradiction.
  void check_length(std::string_view key) const;
  // The kinds that a list of words names; empty where there is none. transformers lets no other
  // words stand in `layer_types` than those marked so.
  std::vector<LayerKind> words(const WordList& list) const;
  void check_words(std::string_view key, std::initializer_list<std::string_view> known) const;
  // The same of a text of letters, which may be a shorter one that `repeats`.
  std::vector<LayerKind> letters(std::string_view key, std::span<const KindLetter> known,
                                 bool repeats) const;
  // Whether each layer is in a list of numbers of layers; empty where there is no such list.
  std::vector<bool> indices(std::string_view key, std::int64_t first) const;
  std::optional<std::int64_t> interval(std::string_view key) const;
  // What the number of a layer that attends to everything leaves.
  std::int64_t rest_of(const Interval& row, std::int64_t every) const;
  // Entries of `block_configs`, of models whose layers were chosen one by one (DeciLM,
  // Llama-Nemotron); 0 where there are none.
  std::size_t block_count() const;
  // How many of the last layers share the cache of an earlier one.
  std::uint64_t shared() const;

  [[noreturn]] void fail(std::string_view key, const std::string& what) const;
  [[noreturn]] void fail_at(std::string_view key, std::size_t at, const std::string& what) const;

 private:
  std::string layers_key() const;
  const std::string& word(std::string_view key, const ModelConfig::Value& value,
                          std::size_t at) const;

  const TextKeys& keys_;
  std::size_t count_;
  std::uint64_t extra_;  // layers of multi-token prediction
};

}  // namespace berth
