// Which quantised format stored tensors speak of, when no config says it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "planner/model/tree/quant_format.h"

namespace berth {

struct StoredPart {
  std::string_view name;  // in the module
  DType dtype = DType::kF32;
  std::span<const std::uint64_t> shape;
};

// The scheme that stored tensors speak of, taken from their names and shapes; nullopt where they
// are of no format known here. Whether they fit it to the last size is the caller's to check.
std::optional<QuantScheme> deduce_scheme(std::span<const StoredPart> parts, const std::string& leaf,
                                         std::span<const std::uint64_t> shape, bool transposed);

}  // namespace berth
