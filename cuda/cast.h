// Casts between floating-point formats, on the host and on a GPU. Both give the same bits.
//
// Every pair of bf16, f16, f32 and f64 is there. A value passes through f32, as it does in torch,
// so a cast from f64 to a 16-bit format rounds twice. Each rounding is to nearest, ties to even.
// Denormals are kept, and numbers that are too large become infinity. A NaN becomes quiet, and
// keeps its sign and the leading bits of its payload; in bf16 it becomes 0x7FC0, as in torch's
// scalar conversion (torch's vector code gives others). Stateless; safe for use from many threads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace berth {

enum class FloatFormat : std::uint8_t { kBF16, kF16, kF32, kF64 };

// How many bytes an element has.
constexpr std::size_t float_bytes(FloatFormat format) {
  return format == FloatFormat::kF64 ? 8 : format == FloatFormat::kF32 ? 4 : 2;
}

// A cudaStream_t, opaque so that callers need no CUDA header.
using CudaStreamHandle = void*;

// Casts `count` elements. `to` must be aligned for its elements; `from` may have any address. The
// two must not overlap. Uses AVX2 or AVX-512 where the processor has them.
void cast_on_host(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                  std::size_t count);

// Does the same in a plain loop. Tests compare every other implementation with it.
void cast_reference(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                    std::size_t count);

// Enqueues the cast of `count` elements on `stream`. `from` and `to` are in device memory, each
// aligned for its elements. Throws Error where the launch is refused.
void cast_on_device(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                    std::size_t count, CudaStreamHandle stream);

}  // namespace berth
