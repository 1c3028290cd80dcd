#include "planner/model/quant/quantize_config.h"

#include <system_error>

#include "berth/error.h"

namespace berth {
namespace {

// AutoGPTQ's first versions do not name the method.
bool is_gptq(const ModelConfig& file) {
  const auto method = file.text("quant_method");
  return method ? *method == "gptq" : file.has("bits") && file.has("group_size");
}

}  // namespace

std::string add_quantize_config(ModelConfig& config, const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "quantize_config.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return "";
  try {
    const ModelConfig file = ModelConfig::read(path);
    if (!is_gptq(file)) return "";
    const bool alone = config.keys("quantization_config.").empty();
    config.adopt(alone ? "quantization_config." : "quantize_config.", file);
    if (alone)
      config.adopt("quantization_config.",
                   ModelConfig::parse(R"({"quant_method":"gptq"})", path.string()));
    return "";
  } catch (const Error& failure) {
    return std::string(failure.what()) + ": this file is not used";
  }
}

}  // namespace berth
