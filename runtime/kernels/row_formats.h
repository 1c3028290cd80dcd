// How the rows of plain formats and their activations are read, for the loops of row_loops.h.
#pragma once

#include "runtime/kernels/loops.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

// How a format is loaded, kColumns columns at a time, and what is added to 16 sums. A row that ends
// within them was filled up with zeros.
struct F32Row {
  static constexpr std::size_t kBytes = 4;
  static constexpr std::size_t kColumns = 16;
  using Activation = float;
  using Loaded = Floats;
  static const float* activations(const ProductJob& job) { return job.floats; }
  BERTH_INLINE static Floats weights(const std::byte* at) { return load<Floats>(at); }
  BERTH_INLINE static Floats values(const float* at) { return load<Floats>(at); }
  BERTH_INLINE static Floats add(Floats weight, Floats value, Floats sums) {
    return fma(weight, value, sums);
  }
};
struct F16Row : F32Row {
  static constexpr std::size_t kBytes = 2;
  BERTH_INLINE static Floats weights(const std::byte* at) { return halves(at); }
};
// Beside activations that stay float32.
struct WideBF16Row : F32Row {
  static constexpr std::size_t kBytes = 2;
  BERTH_INLINE static Floats weights(const std::byte* at) { return bf16_floats(at); }
};

// Both sides are bf16, so their products are exact in f32. Of a pair the second product is added
// first, as VDPBF16PS does. Activations were divided into those of even and of odd columns.
struct BF16SplitRow {
  static constexpr std::size_t kBytes = 2;
  static constexpr std::size_t kColumns = 32;
  using Activation = float;
  struct Loaded {
    Floats even;
    Floats odd;
  };
  static const float* activations(const ProductJob& job) { return job.split; }
  BERTH_INLINE static Loaded weights(const void* at) {
    const Ints pairs = load<Ints>(at);
    const Ints upper = broadcast(static_cast<std::int32_t>(0xFFFF0000));
    return {reinterpret_cast<Floats>(pairs << 16), reinterpret_cast<Floats>(pairs & upper)};
  }
  BERTH_INLINE static Loaded values(const float* at) {
    return {load<Floats>(at), load<Floats>(at + 16)};
  }
  BERTH_INLINE static Floats add(Loaded weight, Loaded value, Floats sums) {
    return fma(weight.even, value.even, fma(weight.odd, value.odd, sums));
  }
};
// The same, with activations as they are, by the instruction for pairs where there is one.
struct BF16Row : BF16SplitRow {
  using Activation = std::uint16_t;
  static const std::uint16_t* activations(const ProductJob& job) { return job.bf16; }
#if defined(__AVX512BF16__)
  using Loaded = __m512bh;
  BERTH_INLINE static Loaded weights(const void* at) { return load<Loaded>(at); }
  BERTH_INLINE static Floats add(Loaded weight, Loaded value, Floats sums) {
    return reinterpret_cast<Floats>(
        _mm512_dpbf16_ps(reinterpret_cast<__m512>(sums), weight, value));
  }
#endif
  BERTH_INLINE static Loaded values(const void* at) { return weights(at); }
};

}  // namespace
}  // namespace berth
