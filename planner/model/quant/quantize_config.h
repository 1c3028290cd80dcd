// quantize_config.json, which AutoGPTQ and GPTQModel write beside config.json.
#pragma once

#include <filesystem>
#include <string>

#include "planner/model/tree/config.h"

namespace berth {

// Reads that file of `folder`, if there is one. Where config.json has no quantization_config, its
// keys take that place, as they do for GPTQModel; where it has one, they answer under
// "quantize_config.", so that the two can be compared. A file of another method than GPTQ is left
// out, and so is one that cannot be read, which the note says that is returned; else "".
std::string add_quantize_config(ModelConfig& config, const std::filesystem::path& folder);

}  // namespace berth
