// Finds out which quantised format stored tensors have, if no config says it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "planner/model/tree/quant_format.h"

namespace berth {

struct StoredPart {
  std::string_view name;  // its name in the module
  DType dtype = DType::kF32;
  std::span<const std::uint64_t> shape;
};

// The scheme that the names and shapes of stored tensors suggest; nullopt if they suit no format
// that is known here. The caller must check whether every size fits.
std::optional<QuantScheme> deduce_scheme(std::span<const StoredPart> parts, const std::string& leaf,
                                         std::span<const std::uint64_t> shape, bool transposed);

}  // namespace berth
