// The files that make a folder of weights a model: its config, its tokenizer, its chat template.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "berth/loader.h"
#include "berth/tensor.h"

namespace berth {

// Those of the known names that lie in `folder`, to be copied. Where `dtype` is given, config.json
// comes as a text that names it as the model's dtype. Throws Error for a config that cannot be
// read.
std::vector<Companion> companions_in(const std::filesystem::path& folder,
                                     std::optional<DType> dtype);

// The text of a config.json with `torch_dtype` and `dtype`, those of them that stand in it at the
// top, set to `dtype`; nothing else is touched.
std::string with_dtype(const std::string& config, DType dtype, const std::string& source);

}  // namespace berth
