// Maps the numbers that GGUF gives to tensor types. Internal to planner/checkpoint/gguf.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "berth/tensor.h"

namespace berth {

// The dtype of ggml's type `type`; nullopt for a type that Berth does not read.
std::optional<DType> dtype_of_ggml(std::uint32_t type);

// ggml's name of a type, such as "IQ4_XS"; its number where ggml has no such type.
std::string ggml_type_name(std::uint32_t type);

}  // namespace berth
