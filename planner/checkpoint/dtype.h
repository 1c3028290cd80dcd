// Element types of the safetensors format: their names, widths and classes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace berth {

enum class DType : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

// "BF16": the spelling in a safetensors header. parse_dtype is its inverse.
std::string_view dtype_name(DType dtype);
std::optional<DType> parse_dtype(std::string_view name);

// "bfloat16": the spelling of torch, config.json and --dtype; empty where torch has none.
std::string_view torch_dtype_name(DType dtype);
std::optional<DType> parse_torch_dtype(std::string_view name);  // "torch.bfloat16" too

// Width of one element in bits (4, 6, 8, 16, 32 or 64).
constexpr unsigned dtype_bits(DType dtype) {
  constexpr std::uint8_t kBits[] = {8,  8,  8,  8,  8,  8,  8,  8,  4,  6,  6,
                                    16, 16, 16, 16, 32, 32, 32, 64, 64, 64, 64};
  return kBits[static_cast<std::size_t>(dtype)];
}

// True for F16, BF16, F32 and F64: the types that --dtype converts. FP8 and integers keep theirs.
bool is_convertible(DType dtype);

// Number of bytes of a tensor; nullopt on overflow of 64 bits or a size of no whole bytes.
inline std::optional<std::uint64_t> tensor_bytes(DType dtype,
                                                 std::span<const std::uint64_t> shape) {
  std::uint64_t bits = dtype_bits(dtype);
  for (const std::uint64_t size : shape) {
    if (__builtin_mul_overflow(bits, size, &bits)) return std::nullopt;
  }
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

}  // namespace berth
