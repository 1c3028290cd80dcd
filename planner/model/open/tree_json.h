// Reads module trees that are written as JSON, for models that are not transformers.
#pragma once

#include <filesystem>
#include <optional>

#include "berth/model.h"

namespace berth {

// Reads a module tree from JSON with the keys `root`, `no_split_classes` and `ties`.
ModelTree read_tree_json(const std::filesystem::path& file, std::optional<DType> dtype);

}  // namespace berth
