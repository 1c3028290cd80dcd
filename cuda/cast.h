// Casts between floating-point formats, on the host and on a GPU, with the same bits from both.
//
// Every pair of bf16, f16, f32 and f64. A value passes through f32, as it does in torch, so f64 to
// a 16-bit format rounds twice; each rounding is to nearest, ties to even; denormals are kept, and
// what is too large becomes infinity. NaN keeps its sign and leading payload bits and becomes
// quiet; in bf16 it becomes 0x7FC0, the value of torch's scalar conversion (its vector code has
// others).
#pragma once

#include <cstddef>
#include <cstdint>

namespace berth {

enum class FloatFormat : std::uint8_t { kBF16, kF16, kF32, kF64 };

// Bytes of one element.
constexpr std::size_t float_bytes(FloatFormat format) {
  return format == FloatFormat::kF64 ? 8 : format == FloatFormat::kF32 ? 4 : 2;
}

// Opaque cudaStream_t, so that no caller needs a CUDA header.
using CudaStreamHandle = void*;

// Casts `count` elements. `to` must be aligned to its element; `from` may stand at any byte. The
// two must not overlap. Uses AVX2 or AVX-512 where the processor has them.
void cast_on_host(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                  std::size_t count);

// The plain loop that every other implementation is compared with; same contract.
void cast_reference(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                    std::size_t count);

// Enqueues the cast of `count` elements in device memory on `stream`; both aligned to their
// element. Throws Error where the launch is refused.
void cast_on_device(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                    std::size_t count, CudaStreamHandle stream);

}  // namespace berth
