// Frequencies are computed in float32, as in transformers.
#include "runtime/program/rotary.h"

#include <cmath>
#include <numbers>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

// Llama 3.1: frequencies of long waves are divided by `factor`, those of short waves are kept, and
// those between are blended (transformers, modeling_rope_utils.py).
void scale_llama3(const ModelConfig& config, std::vector<float>& frequencies) {
  const auto factor = static_cast<float>(config.require_number("rope_parameters.factor"));
  const double low = config.require_number("rope_parameters.low_freq_factor");
  const double high = config.require_number("rope_parameters.high_freq_factor");
  const double context = config.require_number("rope_parameters.original_max_position_embeddings");
  if (high == low) {
    throw Error(config.source() + ": rope_parameters: low_freq_factor equals high_freq_factor");
  }
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

// Throws Error if each type of layer has rotary settings of its own, which no family here reads.
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
std::int64_t rotary_dimensions(const ModelConfig& config, const Family& family,
                               std::int64_t head_dim, bool scaled) {
  const char* key = "rope_parameters.partial_rotary_factor";
  const double partial = scaled || family.rotary.partial ? config.number(key).value_or(1.0) : 1.0;
  const auto dimensions = static_cast<std::int64_t>(static_cast<double>(head_dim) * partial);
  const bool fits =
      family.rotary.partial ? dimensions > 0 && dimensions <= head_dim : dimensions == head_dim;
  if (fits && dimensions % 2 == 0) return dimensions;
  throw Error(config.source() + ": " + key + ": " + std::to_string(dimensions) + " of " +
              std::to_string(head_dim) + " dimensions cannot be rotated in a " +
              std::string(family.model_type) + " model");
}

}  // namespace

Rotary make_rotary(const ModelConfig& config, const Family& family, std::int64_t head_dim) {
  if (family.attention.layer_types) refuse_nested(config);
  const std::string type = config.text("rope_parameters.rope_type").value_or("default");
  if (type != "default" && type != "linear" && type != "llama3") {
    throw Error(config.source() + ": rope_parameters.rope_type: " + quote(type) +
                " cannot be run (default, linear and llama3 can)");
  }
  const double base = config.require_number("rope_parameters.rope_theta");
  const std::int64_t dimensions = rotary_dimensions(config, family, head_dim, type != "default");
  Rotary rotary;
  for (std::int64_t i = 0; i < dimensions; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(dimensions);
    rotary.inverse_frequency.push_back(1.0F / std::pow(static_cast<float>(base), exponent));
  }
  if (type == "llama3") scale_llama3(config, rotary.inverse_frequency);
  if (type == "linear") {
    const auto factor = static_cast<float>(config.require_number("rope_parameters.factor"));
    for (float& frequency : rotary.inverse_frequency) frequency /= factor;
  }
  return rotary;
}

}  // namespace berth
