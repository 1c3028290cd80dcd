// Converts GGUF's block formats to floats, on the host and on a GPU. Both give the same bits; only
// a NaN, which comes out of a damaged scale alone, may differ in its sign and payload.
//
// A block holds neighbouring elements as small integers q with a scale d, and in some formats with
// a minimum m. An element is d * q, d * (q - bias) or d * q + m. It is computed in f32, and each
// operation is rounded to nearest and never fused, as in ggml's reference. The layouts are those of
// ggml's `ggml-common.h` and its functions dequantize_row_*. Tests compare with the `gguf` package,
// number for number. Stateless; safe for use from many threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/cast.h"

namespace berth {

// In the order of DType.
enum class BlockFormat : std::uint8_t { kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K };

struct BlockSize {
  std::size_t elements;
  std::size_t bytes;
};
constexpr BlockSize block_size(BlockFormat format) {
  constexpr BlockSize kSizes[] = {{32, 18}, {32, 20},   {32, 22},   {32, 24},
                                  {32, 34}, {256, 144}, {256, 176}, {256, 210}};
  return kSizes[static_cast<std::size_t>(format)];
}

// Converts `blocks` whole blocks to floats. `to` must be aligned for its elements; `from` may have
// any address. The two must not overlap. Uses AVX2 or AVX-512 where the processor has them.
void dequantize_on_host(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                        std::size_t blocks);

// Does the same one element at a time, by the formula. Tests compare every other implementation
// with it.
void dequantize_reference(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                          std::size_t blocks);

// Enqueues the same on `stream`, for `from` and `to` in device memory. Throws Error where the
// launch is refused.
void dequantize_on_device(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                          std::size_t blocks, CudaStreamHandle stream);

}  // namespace berth
