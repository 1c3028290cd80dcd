// Maps the numbers that GGUF gives to tensor types. Internal to planner/checkpoint/gguf.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "berth/tensor.h"

namespace berth {

// The types of matrices in tiles are Berth's own: ggml's number plus this, "BT" in the upper two
// bytes. ggml has no such types, so that no other reader takes the bytes for what they are not.
inline constexpr std::uint32_t kTiledTypes = 0x42540000;
constexpr bool is_tiled_type(std::uint32_t type) { return type >> 16 == kTiledTypes >> 16; }

// The dtype of ggml's type `type`; nullopt for a type that Berth does not read.
std::optional<DType> dtype_of_ggml(std::uint32_t type);

// ggml's name of a type, such as "IQ4_XS"; its number where ggml has no such type.
std::string ggml_type_name(std::uint32_t type);

// The inverse of dtype_of_ggml(); nullopt for a dtype that ggml does not have.
std::optional<std::uint32_t> ggml_type_of(DType dtype);

}  // namespace berth
