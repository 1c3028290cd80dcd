// GGUF's block formats, on the host and on a GPU, with the same bits from both; of a NaN, which
// only a damaged scale gives, the sign and the payload may differ.
//
// A block holds neighbouring elements as small integers q with a scale, some also with a minimum:
// d * q, d * (q - bias), or d * q + m, worked out in f32, each operation rounded to nearest (never
// fused), as ggml's reference does. The layouts are those of ggml's `ggml-common.h` and its
// functions dequantize_row_*; tests compare with the `gguf` package, number for number.
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

// Turns `blocks` whole blocks into floats. `to` must be aligned to its element; `from` may stand at
// any byte. The two must not overlap. Uses AVX2 or AVX-512 where the processor has them.
void dequantize_on_host(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                        std::size_t blocks);

// One element at a time, by the formula: what every other implementation is compared with.
void dequantize_reference(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                          std::size_t blocks);

// Enqueues the same in device memory on `stream`. Throws Error where the launch is refused.
void dequantize_on_device(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                          std::size_t blocks, CudaStreamHandle stream);

}  // namespace berth
