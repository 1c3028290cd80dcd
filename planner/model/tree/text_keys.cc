#include "planner/model/tree/text_keys.h"

#include <algorithm>
#include <cmath>

#include "berth/error.h"

namespace berth {
namespace {

constexpr std::uint64_t kMostWhole = std::uint64_t{1} << 40;  // far above any size of a model

// What nested configs are called that describe something else than the language model, and what
// those are called that describe it.
constexpr std::string_view kOther[] = {"vision", "visual",  "audio",    "image",       "speech",
                                       "video",  "encoder", "tower",    "projector",   "code2wav",
                                       "talker", "draft",   "backbone", "perceiver",   "resampler",
                                       "depth",  "mtp",     "vq",       "quantization"};
constexpr std::string_view kLanguage[] = {"text", "llm", "language", "lm_", "decoder", "thinker"};

bool has_any(std::string_view text, std::span<const std::string_view> words) {
  return std::ranges::any_of(words,
                             [&](std::string_view word) { return text.find(word) != text.npos; });
}

// The prefix of the nested config that has a number of layers and is no tower's; "" for none. A
// name that says so wins over any other, and a shorter path over a longer one.
std::string nested_language_model(const ModelConfig& config) {
  std::vector<std::string> found;
  for (const std::string& key : config.keys("")) {
    const std::size_t dot = key.rfind('.');
    if (dot == key.npos ||
        std::ranges::find(keys::kLayers, key.substr(dot + 1)) == std::end(keys::kLayers)) {
      continue;
    }
    std::string prefix = key.substr(0, dot + 1);
    if (has_any(prefix, kOther) || std::ranges::find(found, prefix) != found.end()) continue;
    found.push_back(std::move(prefix));
  }
  const auto rank = [](const std::string& prefix) {
    return std::pair(!has_any(prefix, kLanguage), std::ranges::count(prefix, '.'));
  };
  std::ranges::stable_sort(found, {}, rank);
  if (found.empty()) return "";
  const bool outside =
      std::ranges::any_of(keys::kLayers, [&](auto key) { return config.has(key); });
  return outside && !has_any(found[0], kLanguage) ? "" : found[0];
}

}  // namespace

std::optional<std::int64_t> whole_value(const ModelConfig::Value& value) {
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return *whole;
  const auto* real = std::get_if<double>(&value);
  if (real == nullptr || std::abs(*real) >= 9e15 || std::floor(*real) != *real) return std::nullopt;
  return static_cast<std::int64_t>(*real);
}

TextKeys::TextKeys(const ModelConfig& config)
    : config_(&config), prefix_(nested_language_model(config)) {}

std::string TextKeys::find(std::string_view key) const {
  if (!prefix_.empty()) {
    std::string inner = prefix_ + std::string(key);
    if (config_->has(inner)) return inner;
    if (config_->is_null(inner)) return "";
  }
  return config_->has(key) ? std::string(key) : "";
}

std::string TextKeys::find(KeyNames names) const {
  for (const std::string_view name : names) {
    if (std::string key = find(name); !key.empty()) return key;
  }
  return "";
}

void TextKeys::fail(const std::string& key, const std::string& what) const {
  throw Error(config_->position_of(key) + ": " + what);
}

std::optional<std::uint64_t> TextKeys::whole_at(const std::string& key) const {
  std::optional<std::int64_t> most;
  if (const ModelConfig::Value* value = config_->find(key)) {
    most = whole_value(*value);
    if (!most && !std::holds_alternative<bool>(*value)) fail(key, "not an integer");
  } else if (const auto* values = config_->find_list(key)) {
    for (const ModelConfig::Value& entry : *values) {
      const auto whole = whole_value(entry);
      if (whole && *whole < 0) fail(key, std::to_string(*whole) + " is negative");
      if (whole && (!most || *whole > *most)) most = whole;
    }
  }
  if (!most) return std::nullopt;
  if (*most < 0) fail(key, std::to_string(*most) + " is negative");
  const auto size = static_cast<std::uint64_t>(*most);
  if (size > kMostWhole) fail(key, std::to_string(size) + " is more than any model has");
  return size;
}

std::optional<std::uint64_t> TextKeys::whole(KeyNames names) const {
  for (const std::string_view name : names) {
    const std::string key = find(name);
    if (key.empty()) continue;
    if (const auto value = whole_at(key)) return value;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> TextKeys::whole(std::string_view key) const {
  return whole(KeyNames(&key, 1));
}

std::optional<std::uint64_t> TextKeys::count(KeyNames names) const {
  const auto value = whole(names);
  if (value && *value == 0) fail(find(names), "0, but a model has at least one");
  return value;
}

std::optional<std::uint64_t> TextKeys::of_layer(KeyNames names, std::size_t layer,
                                                std::size_t layers) const {
  const std::string key = find(names);
  const auto* values = key.empty() ? nullptr : config_->find_list(key);
  if (values == nullptr) return whole(names);
  if (values->size() != layers || layer >= layers) return whole(names);
  const auto value = whole_value((*values)[layer]);
  if (value && *value < 0) fail(key, std::to_string(*value) + " is negative");
  return value ? std::optional(static_cast<std::uint64_t>(*value)) : std::nullopt;
}

std::optional<bool> TextKeys::flag(std::string_view key) const {
  const std::string whole = find(key);
  const ModelConfig::Value* value = whole.empty() ? nullptr : config_->find(whole);
  const auto* held = value == nullptr ? nullptr : std::get_if<bool>(value);
  return held == nullptr ? std::nullopt : std::optional(*held);
}

std::string TextKeys::text(std::string_view key) const {
  const std::string whole = find(key);
  const ModelConfig::Value* value = whole.empty() ? nullptr : config_->find(whole);
  const auto* held = value == nullptr ? nullptr : std::get_if<std::string>(value);
  return held == nullptr ? "" : *held;
}

const std::vector<ModelConfig::Value>* TextKeys::list(std::string_view key) const {
  const std::string whole = find(key);
  return whole.empty() ? nullptr : config_->find_list(whole);
}

bool TextKeys::null(std::string_view key) const {
  return (!prefix_.empty() && config_->is_null(prefix_ + std::string(key))) ||
         (find(key).empty() && config_->is_null(key));
}

}  // namespace berth
