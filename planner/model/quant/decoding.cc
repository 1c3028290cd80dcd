#include "planner/model/quant/decoding.h"

#include <algorithm>

#include "planner/base/quote.h"

namespace berth {
namespace {

const std::string kRoot = "quantization_config.";
const std::string kBeside = "quantize_config.";  // see quantize_config.h

// The checkpoint_format, which newer files call `format`; "" where there is none.
std::string gptq_format(const ModelConfig& config, const std::string& root) {
  const std::string format = lower_text(config, root + "checkpoint_format");
  return format.empty() ? lower_text(config, root + "format") : format;
}

// True for the place of a transform that is not part of the weights.
bool is_online(const ModelConfig& config, const std::string& key) {
  const ModelConfig::Value* value = config.find(key);
  const auto* place = value == nullptr ? nullptr : std::get_if<std::string>(value);
  return key.ends_with(".location") && place != nullptr && !place->starts_with("weight");
}

// True for a name, and for an object that is not empty.
bool is_given(const ModelConfig& config, const std::string& key) {
  const ModelConfig::Value* value = config.find(key);
  const bool named = value != nullptr && std::holds_alternative<std::string>(*value);
  return named || !config.keys(key + ".").empty();
}

}  // namespace

std::string lower_text(const ModelConfig& config, const std::string& key) {
  std::string text = config.text(key).value_or("");
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::optional<bool> said(const ModelConfig& config, const std::string& key) {
  const ModelConfig::Value* value = config.find(key);
  const bool* flag = value == nullptr ? nullptr : std::get_if<bool>(value);
  return flag == nullptr ? std::nullopt : std::optional(*flag);
}

void read_gptq_zeros(const ModelConfig& config, Quantization& quantization) {
  std::optional<ZeroPoints> meaning;
  for (const std::string& root : {kRoot, kBeside}) {
    const std::string format = gptq_format(config, root);
    if (format.empty()) continue;
    if (format != "gptq" && format != "gptq_v2") {
      quantization.known = quantization.known && format.starts_with("gptq");
      quantization.undecodable = config.position_of(root + "checkpoint_format") + ": " +
                                 quote(format) +
                                 " is a layout that Berth cannot decode (gptq and gptq_v2 it can)";
    }
    const ZeroPoints own = format == "gptq_v2" ? ZeroPoints::kAsTheyAre : ZeroPoints::kLessOne;
    if (meaning && *meaning != own) {
      quantization.note =
          "config.json and quantize_config.json name different checkpoint formats: a load that "
          "dequantises goes by the zero points, and is refused if they do not tell";
    }
    meaning = meaning && *meaning != own ? ZeroPoints::kUnclear : own;
  }
  quantization.zeros = meaning.value_or(ZeroPoints::kLessOne);
  const std::optional<bool> own = said(config, kRoot + "sym");
  const std::optional<bool> beside = said(config, kBeside + "sym");
  const bool disagree = own && beside && *own != *beside;
  quantization.symmetric = disagree ? std::nullopt : own ? own : beside;
}

bool gptq_inputs_in_order(const ModelConfig& config) {
  bool any = false;
  for (const std::string& root : {kRoot, kBeside}) {
    for (const std::string& key : config.keys(root)) {
      if (key != root + "desc_act" && !key.ends_with(".desc_act")) continue;
      const std::optional<bool> shuffled = said(config, key);
      if (!shuffled || *shuffled) return false;
      any = true;
    }
  }
  return any;
}

std::string rotation_problem(const ModelConfig& config) {
  constexpr const char* kWhat =
      ": activations are rotated as well as weights, which Berth cannot compute";
  for (const char* name : {"rotation", "rotation_config"}) {
    if (is_given(config, kRoot + name)) return config.position_of(kRoot + name) + kWhat;
  }
  const std::string transforms = kRoot + "transform_config";
  const std::vector<std::string> keys = config.keys(transforms + ".");
  const bool online =
      std::ranges::any_of(keys, [&](const std::string& key) { return is_online(config, key); });
  return online ? config.position_of(transforms) + kWhat : "";
}

}  // namespace berth
