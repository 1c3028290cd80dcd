#include "planner/model/tree/layer_keys.h"

#include <algorithm>
#include <optional>

#include "planner/model/tree/checked_lists.h"

namespace berth {
namespace {

using Value = ModelConfig::Value;

constexpr std::uint64_t kMostLayers = 65'536;

std::string number(std::uint64_t value) { return std::to_string(value); }

// Puts together what the keys of one config say of each layer.
class LayerKeys {
 public:
  LayerKeys(const TextKeys& keys, std::size_t count)
      : keys_(keys), lists_(keys, count), count_(count) {}

  LayersSaid read() {
    said_.layers.resize(count_);
    if (!read_words() && !read_letters() && !read_numbers() && !read_blocks() && !read_indices()) {
      read_intervals();
    }
    read_chunks();
    read_windows();
    read_shared();
    return std::move(said_);
  }

 private:
  void set(std::size_t layer, LayerKind kind) { said_.layers[layer].kind = kind; }

  bool take(const std::vector<LayerKind>& kinds) {
    for (std::size_t i = 0; !kinds.empty() && i < count_; ++i) set(i, kinds[i % kinds.size()]);
    return !kinds.empty();
  }

  bool read_words() {
    for (const WordList& list : kWordLists) {
      if (!take(lists_.words(list))) continue;
      // "attention" alone does not say whether there is a window.
      const auto& values = *keys_.list(list.key);
      windows_said_ = std::ranges::find(values, Value("attention")) == values.end();
      return true;
    }
    return false;
  }

  bool read_letters() {
    return take(lists_.letters("hybrid_override_pattern", kHybridLetters, false)) ||
           take(lists_.letters("sliding_window_pattern", kWindowLetters, true));
  }

  bool read_numbers() {
    for (const NumberList& list : kNumberLists) {
      const auto* values = keys_.list(list.key);
      if (values == nullptr || values->empty()) continue;
      lists_.check_length(list.key);
      for (std::size_t i = 0; i < count_; ++i) {
        const auto value = whole_value((*values)[i]);
        if (!value) lists_.fail_at(list.key, i, "not an integer");
        set(i, *value == 0 ? list.zero : list.other);
      }
      return true;
    }
    return false;
  }

  bool read_blocks() {
    if (lists_.block_count() == 0) return false;
    for (std::size_t i = 0; i < count_; ++i) {
      const std::string attention = "block_configs." + number(i) + ".attention.";
      const bool none = keys_.flag(attention + "no_op").value_or(false) ||
                        keys_.flag(attention + "replace_with_linear").value_or(false);
      const auto window = keys_.whole(attention + "window_length");
      windows_said_ = true;
      set(i, none ? LayerKind::kNoAttention : window ? LayerKind::kSliding : LayerKind::kFull);
      if (window) said_.layers[i].window = *window;
    }
    return true;
  }

  bool read_indices() {
    for (const IndexList& list : kIndexLists) {
      const std::vector<bool> listed = lists_.indices(list.key, list.first);
      if (listed.empty()) continue;
      for (std::size_t i = 0; i < count_; ++i) set(i, listed[i] ? list.listed : list.others);
      return true;
    }
    return false;
  }

  void read_intervals() {
    for (const Interval& row : kIntervals) {
      const auto every = lists_.interval(row.key);
      if (!every) continue;
      const std::int64_t rest = lists_.rest_of(row, *every);
      for (std::size_t i = 0; i < count_; ++i) {
        const bool full = static_cast<std::int64_t>(i) % *every == rest;
        set(i, full ? LayerKind::kFull : row.others);
      }
      if (row.read_otherwise && *every > 1) {
        said_.guesses.push_back(std::string(row.key) +
                                " does not say which layer of each stretch attends to all "
                                "positions: counted as the first");
      }
      return;
    }
  }

  // Llama 4: without `layer_types`, the layers that rotate are those with chunks.
  void read_chunks() {
    const std::string key = keys_.find(kChunkKeys);
    const auto size = keys_.whole(kChunkKeys);
    const bool any_said = any(LayerKind::kChunked);
    if (!size || *size == 0) {
      if (any_said) {
        said_.guesses.push_back(
            "layers are said to attend in chunks, but nothing says how long "
            "these are: all positions are counted");
      }
      return;
    }
    if (!any_said && all(LayerKind::kUnsaid)) chunk_by_rotation(key, *size);
    for (LayerSaid& layer : said_.layers) {
      if (layer.kind == LayerKind::kChunked) layer.window = *size;
    }
  }

  void chunk_by_rotation(const std::string& key, std::uint64_t size) {
    const auto* rotates = keys_.list("no_rope_layers");
    const auto every = lists_.interval("no_rope_layer_interval");
    if (rotates != nullptr && !rotates->empty()) {
      lists_.check_length("no_rope_layers");
      for (std::size_t i = 0; i < count_; ++i) {
        const bool whole = whole_value((*rotates)[i]).value_or(0) == 0;
        set(i, whole ? LayerKind::kFull : LayerKind::kChunked);
      }
    } else if (every) {
      for (std::size_t i = 0; i < count_; ++i) {
        const bool whole = (static_cast<std::int64_t>(i) + 1) % *every == 0;
        set(i, whole ? LayerKind::kFull : LayerKind::kChunked);
      }
    } else {
      said_.guesses.push_back(key + " is " + number(size) +
                              ", but nothing says which layers attend in chunks: all positions "
                              "are counted in each");
    }
  }

  bool any(LayerKind kind) const {
    return std::ranges::find(said_.layers, kind, &LayerSaid::kind) != said_.layers.end();
  }
  bool all(LayerKind kind) const {
    return std::ranges::all_of(said_.layers, [&](const auto& layer) { return layer.kind == kind; });
  }

  // The window of one layer; 0: none. A list has one for each.
  std::uint64_t window_of(const std::string& key, std::size_t layer) const {
    const auto* values = keys_.config().find_list(key);
    if (values == nullptr) return keys_.whole(kWindowKeys).value_or(0);
    const auto value = layer < values->size() ? whole_value((*values)[layer]) : std::nullopt;
    return value && *value > 0 ? static_cast<std::uint64_t>(*value) : 0;
  }

  void read_windows() {
    if (keys_.flag("use_sliding_window") == false) return;
    const std::string key = keys_.find(kWindowKeys);
    if (!key.empty() && keys_.config().find_list(key) != nullptr) {
      lists_.check_length(key.substr(key.rfind('.') + 1));
      for (std::size_t i = 0; i < count_; ++i) {
        const std::uint64_t window = window_of(key, i);
        if (window > 0 && said_.layers[i].kind == LayerKind::kUnsaid) set(i, LayerKind::kSliding);
      }
    }
    const bool none = key.empty() || keys_.whole(kWindowKeys).value_or(0) == 0;
    if (any(LayerKind::kSliding) && none && !windows_known()) {
      said_.guesses.push_back(
          "layers are said to have a sliding window, but nothing says how wide "
          "it is: all positions are counted");
      return;
    }
    if (!none && !any(LayerKind::kSliding)) guess_windows(key);
    for (std::size_t i = 0; i < count_ && !none; ++i) {
      LayerSaid& layer = said_.layers[i];
      if (layer.kind == LayerKind::kSliding && layer.window == 0) layer.window = window_of(key, i);
    }
  }

  bool windows_known() const {
    return std::ranges::all_of(said_.layers, [](const LayerSaid& layer) {
      return layer.kind != LayerKind::kSliding || layer.window > 0;
    });
  }

  // There is a window, but no key gives it to single layers.
  void guess_windows(const std::string& key) {
    const std::string is = key + " is " + number(keys_.whole(kWindowKeys).value_or(0));
    const auto from = keys_.whole("max_window_layers");
    if (keys_.flag("use_sliding_window") == true && from && all(LayerKind::kUnsaid)) {
      for (std::size_t i = *from; i < count_; ++i) set(i, LayerKind::kSliding);
      if (*from >= count_) return;
      said_.guesses.push_back(is + ": taken for that of the layers from max_window_layers " +
                              number(*from) + " on, as in Qwen2");
      return;
    }
    const bool open = any(LayerKind::kUnsaid) || any(LayerKind::kHybrid);
    if (!open && (windows_said_ || !any(LayerKind::kFull))) return;
    said_.guesses.push_back(is +
                            ", but nothing says which layers slide: all positions are "
                            "counted in each");
  }

  void read_shared() {
    for (std::size_t i = count_ - lists_.shared(); i < count_; ++i) said_.layers[i].shares = true;
  }

  const TextKeys& keys_;
  CheckedLists lists_;
  std::size_t count_;
  bool windows_said_ = false;  // the kinds that were read tell layers with a window from others
  LayersSaid said_;
};

void check_heads(const TextKeys& keys) {
  const auto heads = keys.count(keys::kHeads);
  const auto kv_heads = keys.count(keys::kKvHeads);
  const auto hidden = keys.count(keys::kHidden);
  keys.count(keys::kVocabulary);
  const auto head_dim = keys.count(keys::kHeadDim);
  const bool latent = keys.whole("kv_lora_rank").value_or(0) > 0;
  const bool lists =
      keys.list("num_attention_heads") != nullptr || keys.list("num_key_value_heads") != nullptr;
  if (!heads || lists || latent) return;
  if (hidden && !head_dim && *hidden % *heads != 0) {
    keys.fail(keys.find(keys::kHeads), number(*heads) + " does not divide " +
                                           keys.find(keys::kHidden) + " " + number(*hidden) +
                                           ", and there is no head_dim");
  }
  if (kv_heads && *heads % *kv_heads != 0) {
    keys.fail(keys.find(keys::kKvHeads), number(*kv_heads) + " does not divide " +
                                             keys.find(keys::kHeads) + " " + number(*heads));
  }
}

// A count of a nested config, such as a tower's, under a key that ends as `last` does.
std::optional<std::int64_t> nested_count(const TextKeys& keys, const std::string& prefix,
                                         std::string_view last) {
  const std::string key = prefix + std::string(last);
  const ModelConfig::Value* value = keys.config().find(key);
  const auto count = value == nullptr ? std::nullopt : whole_value(*value);
  if (count && *count < 1) keys.fail(key, std::to_string(*count) + ", but it counts from 1 on");
  return count;
}

// The same of the nested configs of towers.
void check_towers(const TextKeys& keys) {
  for (const std::string& key : keys.config().keys("")) {
    const std::size_t dot = key.rfind('.');
    if (dot == key.npos || key.substr(dot + 1) != "num_attention_heads") continue;
    const std::string prefix = key.substr(0, dot + 1);
    nested_count(keys, prefix, "num_hidden_layers");
    const auto heads = nested_count(keys, prefix, "num_attention_heads");
    const auto hidden = nested_count(keys, prefix, "hidden_size");
    if (!heads || !hidden || keys.config().has(prefix + "head_dim") ||
        keys.config().has(prefix + "kv_lora_rank") || *hidden % *heads == 0) {
      continue;
    }
    keys.fail(key, std::to_string(*heads) + " does not divide " + prefix + "hidden_size " +
                       std::to_string(*hidden) + ", and there is no head_dim");
  }
}

}  // namespace

LayersSaid read_layer_keys(const TextKeys& keys, std::size_t count) {
  if (count > kMostLayers) {
    keys.fail(keys.find(keys::kDecoderLayers), number(count) + " is more than any model has");
  }
  return LayerKeys(keys, count).read();
}

void check_layer_keys(const TextKeys& keys, LayerLists lists) {
  check_heads(keys);
  check_towers(keys);
  if (lists == LayerLists::kCount) return;
  const auto count = keys.count(keys::kLayers);
  if (count && *count > kMostLayers) {
    keys.fail(keys.find(keys::kLayers), std::to_string(*count) + " is more than any model has");
  }
  if (count) CheckedLists(keys, *count).check_all();
}

}  // namespace berth
