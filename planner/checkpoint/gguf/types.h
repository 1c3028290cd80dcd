// The numbers that GGUF gives to types of tensors. Internal to the room.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "berth/tensor.h"

namespace berth {

// Nothing for a type that is not read here.
std::optional<DType> dtype_of_ggml(std::uint32_t type);

// "IQ4_XS"; the number where ggml has none of it.
std::string ggml_type_name(std::uint32_t type);

}  // namespace berth
