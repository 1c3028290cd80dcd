#include "planner/model/tree/checked_lists.h"

#include <algorithm>

#include "planner/base/quote.h"

namespace berth {
namespace {

using Value = ModelConfig::Value;

std::string number(std::uint64_t value) { return std::to_string(value); }

const std::string kBlocks = "block_configs.";

}  // namespace

CheckedLists::CheckedLists(const TextKeys& keys, std::size_t count)
    : keys_(keys), count_(count), extra_(keys.whole(keys::kMtpLayers).value_or(0)) {}

void CheckedLists::check_all() const {
  for (const std::string_view key : kOnePerLayer) check_length(key);
  for (const std::string_view key : kOtherIndexLists) indices(key, 0);
  for (const IndexList& list : kIndexLists) indices(list.key, list.first);
  for (const WordList& list : kWordLists) words(list);
  check_words("mlp_layer_types", {"sparse", "dense", "moe", "hash_moe"});
  letters("hybrid_override_pattern", kHybridLetters, false);
  letters("sliding_window_pattern", kWindowLetters, true);
  for (const Interval& row : kIntervals) {
    if (const auto every = interval(row.key)) rest_of(row, *every);
  }
  for (const std::string_view key : kOtherIntervals) interval(key);
  if (keys_.whole("num_experts").value_or(0) > 0) interval("decoder_sparse_step");
  shared();
  block_count();
}

void CheckedLists::fail(std::string_view key, const std::string& what) const {
  keys_.fail(keys_.find(key), what);
}

void CheckedLists::check_length(std::string_view key) const {
  const auto* list = keys_.list(key);
  if (list == nullptr || (list->empty() && key != "layer_types")) return;
  if (list->size() == count_ || list->size() == count_ + extra_) return;
  fail(key, number(list->size()) + " entries for " + layers_key() + " " + number(count_));
}

std::string CheckedLists::layers_key() const {
  const std::string key = keys_.find(keys::kLayers);
  return key.empty() ? "the layers," : key;
}

const std::string& CheckedLists::word(std::string_view key, const Value& value,
                                      std::size_t at) const {
  const auto* text = std::get_if<std::string>(&value);
  if (text == nullptr) fail_at(key, at, "not a string");
  return *text;
}
void CheckedLists::fail_at(std::string_view key, std::size_t at, const std::string& what) const {
  const std::string whole = keys_.find(key);
  keys_.fail(whole + "[" + number(at) + "]", what);
}

std::vector<LayerKind> CheckedLists::words(const WordList& list) const {
  std::vector<LayerKind> kinds;
  const auto* values = keys_.list(list.key);
  if (values == nullptr) return kinds;
  for (std::size_t i = 0; i < values->size(); ++i) {
    const std::string& text = word(list.key, (*values)[i], i);
    const auto* known = std::ranges::find(kKindWords, text, &KindWord::word);
    const bool odd = list.key == "layer_types";
    if (known == std::end(kKindWords) || (odd && !known->layer_type)) {
      fail_at(list.key, i, quote(text) + " is no kind of layer");
    }
    kinds.push_back(known->kind);
  }
  if (!list.repeats) check_length(list.key);
  return kinds;
}

void CheckedLists::check_words(std::string_view key,
                               std::initializer_list<std::string_view> known) const {
  const auto* values = keys_.list(key);
  for (std::size_t i = 0; values != nullptr && i < values->size(); ++i) {
    const std::string& text = word(key, (*values)[i], i);
    if (std::ranges::find(known, text) != known.end()) continue;
    fail_at(key, i, quote(text) + " is no kind of layer");
  }
}

std::vector<LayerKind> CheckedLists::letters(std::string_view key,
                                             std::span<const KindLetter> known,
                                             bool repeats) const {
  std::vector<LayerKind> kinds;
  for (const char letter : keys_.text(key)) {
    const auto found = std::ranges::find(known, letter, &KindLetter::letter);
    if (found == known.end()) {
      std::string all;
      for (const KindLetter& entry : known)
        all += std::string(all.empty() ? "" : ", ") + entry.letter;
      fail(key, quote(std::string(1, letter)) + " is none of " + all);
    }
    kinds.push_back(found->kind);
  }
  if (!kinds.empty() && !repeats && kinds.size() != count_ && kinds.size() != count_ + extra_) {
    fail(key, number(kinds.size()) + " letters for " + layers_key() + " " + number(count_));
  }
  return kinds;
}

std::size_t CheckedLists::block_count() const {
  std::size_t blocks = 0;
  const std::string whole = keys_.prefix() + "block_configs.";
  const auto has = [&](const std::string& prefix) {
    return !keys_.config().keys(prefix + number(blocks) + ".").empty();
  };
  const std::string& prefix = has(whole) ? whole : kBlocks;
  while (has(prefix)) ++blocks;
  if (blocks > 0 && blocks != count_) {
    keys_.fail("block_configs",
               number(blocks) + " entries for " + layers_key() + " " + number(count_));
  }
  return blocks;
}

std::vector<bool> CheckedLists::indices(std::string_view key, std::int64_t first) const {
  const auto* values = keys_.list(key);
  if (values == nullptr) return {};
  std::vector<bool> listed(count_, false);
  for (std::size_t i = 0; i < values->size(); ++i) {
    const auto value = whole_value((*values)[i]);
    if (!value) fail_at(key, i, "not the number of a layer");
    const std::int64_t layer = *value - first;
    if (layer < 0 || layer >= static_cast<std::int64_t>(count_ + extra_)) {
      fail_at(key, i, std::to_string(*value) + ", but there are " + number(count_) + " layers");
    }
    if (layer < static_cast<std::int64_t>(count_)) listed[static_cast<std::size_t>(layer)] = true;
  }
  return listed;
}

std::optional<std::int64_t> CheckedLists::interval(std::string_view key) const {
  const std::string whole = keys_.find(key);
  const Value* value = whole.empty() ? nullptr : keys_.config().find(whole);
  const auto every = value == nullptr ? std::nullopt : whole_value(*value);
  if (every && *every < 1) fail(key, std::to_string(*every) + ", but it counts layers from 1 on");
  return every;
}

std::int64_t CheckedLists::rest_of(const Interval& row, std::int64_t every) const {
  if (row.offset.empty()) return row.rest < 0 ? every - 1 : row.rest;
  const auto rest = static_cast<std::int64_t>(keys_.whole(row.offset).value_or(0));
  if (rest < every) return rest;
  fail(row.offset, std::to_string(rest) + " is not below " + std::string(row.key) + " " +
                       std::to_string(every));
}

std::uint64_t CheckedLists::shared() const {
  const std::uint64_t last = keys_.whole("num_kv_shared_layers").value_or(0);
  if (last > 0 && last >= count_) {
    fail("num_kv_shared_layers", number(last) + ", but there are " + number(count_) +
                                     " layers, and the first has no cache to share");
  }
  return last;
}

}  // namespace berth
