// Frequencies are computed in float32, as in transformers.
#include "runtime/program/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

// What templates give as the type where a family's default is more than a type.
constexpr std::string_view kUnsaidType = "unsaid";

// The rotary settings of all layers, or those of one kind of layer. Where each kind has its own, an
// older config has those of layers that see all positions in `rope_scaling`.
class RopeSettings {
 public:
  RopeSettings(const ModelConfig& config, std::string_view layer_type) : config_(config) {
    if (layer_type.empty()) return;
    prefix_ += std::string(layer_type) + ".";
    if (layer_type == "full_attention") older_ = "rope_scaling.";
  }

  // The name of a setting in config.json.
  std::string key(std::string_view name) const {
    const std::string own = prefix_ + std::string(name);
    const std::string older = older_ + std::string(name);
    return !older_.empty() && !config_.has(own) && config_.has(older) ? older : own;
  }
  std::optional<double> number(std::string_view name) const { return config_.number(key(name)); }
  double require(std::string_view name) const { return config_.require_number(key(name)); }
  double require_positive(std::string_view name) const {
    const double value = require(name);
    if (!(value > 0)) fail(name, "must be positive");
    return value;
  }
  std::optional<bool> boolean(std::string_view name) const { return config_.boolean(key(name)); }
  std::string type() const {
    const auto older = config_.text(key("type"));
    return config_.text(key("rope_type")).value_or(older.value_or("default"));
  }
  // The length that was trained; that of the model where it is not said.
  double trained() const {
    const std::string_view name = "original_max_position_embeddings";
    if (config_.has(key(name))) return require_positive(name);
    return most_positions();
  }
  double most_positions() const {
    const double value = config_.require_number("max_position_embeddings");
    if (!(value > 0)) {
      throw Error(config_.source() + ": max_position_embeddings: must be positive");
    }
    return value;
  }
  // As many numbers as there are frequencies, none of them 0.
  std::vector<float> factors(std::string_view name, std::size_t count) const {
    std::vector<float> values;
    for (const auto& one : config_.list(key(name))) {
      const auto* real = std::get_if<double>(&one);
      const auto* whole = std::get_if<std::int64_t>(&one);
      if (real == nullptr && whole == nullptr) fail(name, "holds what is no number");
      values.push_back(static_cast<float>(real != nullptr ? *real : static_cast<double>(*whole)));
    }
    if (values.size() != count || std::ranges::count(values, 0.0F) > 0) {
      fail(name, "must be " + std::to_string(count) + " numbers other than 0, one for each pair " +
                     "of dimensions that rotates");
    }
    return values;
  }

  [[noreturn]] void fail(std::string_view name, const std::string& what) const {
    throw Error(config_.source() + ": " + key(name) + ": " + what);
  }

 private:
  const ModelConfig& config_;
  std::string prefix_ = "rope_parameters.";
  std::string older_;  // empty: none
};

std::vector<float> plain_frequencies(double base, std::int64_t dimensions) {
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < dimensions; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(dimensions);
    frequencies.push_back(1.0F / std::pow(static_cast<float>(base), exponent));
  }
  return frequencies;
}

// Llama 3.1: frequencies of long waves are divided by `factor`, those of short waves are kept, and
// those between are blended.
void scale_llama3(const RopeSettings& settings, std::vector<float>& frequencies) {
  const auto factor = static_cast<float>(settings.require_positive("factor"));
  const double low = settings.require("low_freq_factor");
  const double high = settings.require("high_freq_factor");
  const double context = settings.trained();
  if (high == low) settings.fail("low_freq_factor", "equals high_freq_factor");
  for (float& frequency : frequencies) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    if (wavelength > static_cast<float>(context / low)) {
      frequency /= factor;
    } else if (!(wavelength < static_cast<float>(context / high))) {
      const float smooth = (static_cast<float>(context) / wavelength - static_cast<float>(low)) /
                           static_cast<float>(high - low);
      frequency = (1 - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

// A setting that counts only if it is neither left out nor 0.
double other_than_zero(std::optional<double> value, double otherwise) {
  return value && *value != 0 ? *value : otherwise;
}

// How much scores grow with the context (Peng et al., "YaRN", arXiv 2309.00071, and DeepSeek's two
// settings of it).
double yarn_factor(const RopeSettings& settings, double factor) {
  if (const auto given = settings.number("attention_factor")) return *given;
  const auto grown = [&](double scale) {
    return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
  };
  const double scale = settings.number("mscale").value_or(0);
  const double all = settings.number("mscale_all_dim").value_or(0);
  return scale != 0 && all != 0 ? grown(scale) / grown(all) : grown(1);
}

// YaRN: dimensions that turn often within the trained length keep their frequencies, those that
// turn seldom are divided by `factor`, and between them is a ramp.
void scale_yarn(const RopeSettings& settings, double base, Rotary& rotary) {
  const double factor = settings.require_positive("factor");
  const double context = settings.trained();
  const auto dimensions = static_cast<double>(2 * rotary.inverse_frequency.size());
  const auto turning = [&](double rotations) {
    return dimensions * std::log(context / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(base));
  };
  double low = turning(other_than_zero(settings.number("beta_fast"), 32));
  double high = turning(other_than_zero(settings.number("beta_slow"), 1));
  if (settings.boolean("truncate").value_or(true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dimensions - 1);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < rotary.inverse_frequency.size(); ++i) {
    float& frequency = rotary.inverse_frequency[i];
    const float ramp =
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float divided = std::clamp(ramp, 0.0F, 1.0F);
    frequency = frequency / static_cast<float>(factor) * divided + frequency * (1 - divided);
  }
  rotary.factor = yarn_factor(settings, factor);
}

// LongRoPE: each pair of dimensions has factors of its own, for short passes and for long ones
// (Ding et al., "LongRoPE", arXiv 2402.13753).
void scale_longrope(const RopeSettings& settings, Rotary& rotary) {
  const std::size_t count = rotary.inverse_frequency.size();
  const std::vector<float> shorter = settings.factors("short_factor", count);
  const std::vector<float> longer = settings.factors("long_factor", count);
  const double context = settings.trained();
  rotary.trained = static_cast<std::uint64_t>(context);
  for (std::size_t i = 0; i < count; ++i) {
    rotary.long_frequency.push_back(rotary.inverse_frequency[i] / longer[i]);
    rotary.inverse_frequency[i] /= shorter[i];
  }
  const double factor = settings.number("factor").value_or(settings.most_positions() / context);
  rotary.factor =
      settings.number("attention_factor")
          .value_or(factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(context)));
}

// Phi-3.5-MoE, as transformers computes it: the length decides about the scale of cosines and
// sines, and not about frequencies.
void scale_by_length(const RopeSettings& settings, Rotary& rotary) {
  rotary.long_frequency = rotary.inverse_frequency;
  rotary.factor = settings.require_positive("short_mscale");
  rotary.long_factor = settings.require_positive("long_mscale");
}

// Throws Error if each type of layer has rotary settings of its own, which not all families read.
void refuse_nested(const ModelConfig& config) {
  for (const char* type : {"full_attention", "sliding_attention"}) {
    const std::string key = std::string("rope_parameters.") + type;
    if (config.has(key) || !config.keys(key + ".").empty()) {
      throw Error(config.source() + ": " + key +
                  ": rotary settings for each type of layer cannot be run for a " +
                  config.model_type() + " model, nor does transformers read them");
    }
  }
}

// How many dimensions of a head rotate. Where frequencies are scaled, transformers follows
// partial_rotary_factor in every family, but most cannot compute with what it then makes.
std::int64_t rotary_dimensions(const RopeSettings& settings, const Family& family,
                               std::int64_t head_dim, bool scaled) {
  const bool partly = family.rotary.partial;
  const double partial =
      scaled || partly ? settings.number("partial_rotary_factor").value_or(1.0) : 1.0;
  const auto dimensions = static_cast<std::int64_t>(static_cast<double>(head_dim) * partial);
  const bool fits = partly ? dimensions > 0 && dimensions <= head_dim : dimensions == head_dim;
  if (fits && dimensions % 2 == 0) return dimensions;
  settings.fail("partial_rotary_factor", std::to_string(dimensions) + " of " +
                                             std::to_string(head_dim) +
                                             " dimensions cannot be rotated in a " +
                                             std::string(family.model_type) + " model");
}

}  // namespace

std::vector<float> Rotary::frequencies(std::uint64_t length) const {
  if (trained == 0 || length <= trained) return inverse_frequency;
  if (!long_frequency.empty()) return long_frequency;
  const auto dimensions = static_cast<double>(2 * inverse_frequency.size());
  const double grown = stretch * static_cast<double>(length) / static_cast<double>(trained);
  return plain_frequencies(base * std::pow(grown - (stretch - 1), dimensions / (dimensions - 2)),
                           static_cast<std::int64_t>(dimensions));
}

Rotary make_rotary(const ModelConfig& config, const Family& family, std::int64_t head_dim,
                   std::string_view layer_type) {
  if (family.attention.layer_types && !family.rotary.by_layer_type) refuse_nested(config);
  const RopeSettings settings(config, layer_type);
  const std::string type = settings.type();
  if (type == kUnsaidType) {
    settings.fail("rope_type", "missing, and transformers' default for " + config.model_type() +
                                   " is not computed: a scaling with settings of its own");
  }
  const double base = settings.require_positive("rope_theta");
  if (family.rotary.scaled_by_length && type != "default" && type != "longrope") {
    settings.fail("rope_type", quote(type) + " cannot be run (default and longrope can)");
  }
  const std::int64_t dimensions = rotary_dimensions(settings, family, head_dim, type != "default");
  Rotary rotary;
  rotary.neighbours = family.rotary.neighbours_key.empty()
                          ? family.rotary.neighbours
                          : config.boolean(family.rotary.neighbours_key).value_or(false);
  rotary.inverse_frequency = plain_frequencies(base, dimensions);
  if (family.rotary.queries_grow) {
    rotary.growth = settings.require("llama_4_scaling_beta");
    rotary.growth_length = settings.trained();
  }
  if (type == "llama3") {
    scale_llama3(settings, rotary.inverse_frequency);
  } else if (type == "linear") {
    const auto factor = static_cast<float>(settings.require_positive("factor"));
    for (float& frequency : rotary.inverse_frequency) frequency /= factor;
  } else if (type == "dynamic") {
    if (dimensions <= 2) settings.fail("rope_type", "'dynamic' needs more than 2 dimensions");
    const double alpha = family.rotary.alpha ? settings.number("alpha").value_or(0) : 0;
    if (alpha != 0) {
      const auto size = static_cast<double>(dimensions);
      rotary.inverse_frequency =
          plain_frequencies(base * std::pow(alpha, size / (size - 2)), dimensions);
      return rotary;
    }
    rotary.trained = static_cast<std::uint64_t>(settings.most_positions());
    rotary.base = base;
    rotary.stretch = settings.require_positive("factor");
  } else if (type == "yarn") {
    scale_yarn(settings, base, rotary);
  } else if (type == "longrope") {
    scale_longrope(settings, rotary);
    if (family.rotary.scaled_by_length) scale_by_length(settings, rotary);
  } else if (type != "default") {
    settings.fail("rope_type", quote(type) +
                                   " cannot be run (default, linear, dynamic, yarn, "
                                   "longrope and llama3 can)");
  }
  return rotary;
}

}  // namespace berth
