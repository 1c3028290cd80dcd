// The frequencies of rotary embeddings, computed in float32 as transformers does.

#include <cmath>
#include <numbers>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/tree/config.h"
#include "runtime/exec/family.h"

namespace berth {
namespace {

double require_number(const ModelConfig& config, const char* key) {
  const auto value = config.number(key);
  if (!value) throw Error(config.source() + ": " + key + ": missing");
  return *value;
}

// Llama 3.1: frequencies of long waves are divided by `factor`, those of short waves are kept, and
// those between are blended (transformers, modeling_rope_utils.py).
void scale_llama3(const ModelConfig& config, std::vector<float>& frequencies) {
  const auto factor = static_cast<float>(require_number(config, "rope_parameters.factor"));
  const double low = require_number(config, "rope_parameters.low_freq_factor");
  const double high = require_number(config, "rope_parameters.high_freq_factor");
  const double context = require_number(config, "rope_parameters.original_max_position_embeddings");
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

}  // namespace

Rotary make_rotary(const ModelConfig& config, std::int64_t head_dim, double theta) {
  const double base = config.number("rope_parameters.rope_theta").value_or(theta);
  const double partial = config.number("rope_parameters.partial_rotary_factor").value_or(1.0);
  const auto dimensions = static_cast<std::int64_t>(static_cast<double>(head_dim) * partial);
  if (dimensions <= 0 || dimensions > head_dim || dimensions % 2 != 0) {
    throw Error(config.source() + ": rope_parameters.partial_rotary_factor: " +
                std::to_string(dimensions) + " of " + std::to_string(head_dim) +
                " dimensions cannot be rotated (an even number of them can)");
  }
  Rotary rotary;
  for (std::int64_t i = 0; i < dimensions; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(dimensions);
    rotary.inverse_frequency.push_back(1.0F / std::pow(static_cast<float>(base), exponent));
  }
  const std::string type = config.text("rope_parameters.rope_type").value_or("default");
  if (type == "llama3") {
    scale_llama3(config, rotary.inverse_frequency);
  } else if (type == "linear") {
    const auto factor = static_cast<float>(require_number(config, "rope_parameters.factor"));
    for (float& frequency : rotary.inverse_frequency) frequency /= factor;
  } else if (type != "default") {
    throw Error(config.source() + ": rope_parameters.rope_type: " + quote(type) +
                " cannot be run (default, linear and llama3 can)");
  }
  return rotary;
}

}  // namespace berth
