// The host's cast loops. They are compiled once for each instruction set, by a source file that
// defines BERTH_CAST_LOOPS (the name of the function) and includes this one. Everything but that
// function has internal linkage, so that the linker never mixes code for different instruction
// sets.
#include "cuda/cast.h"
#include "cuda/cast_bits.h"

namespace berth {
namespace {

// Uses memcpy because `from` may have any address; compilers turn it into plain vector loads.
template <class From, class To>
void cast_loop(const void* from, void* to, std::size_t count) {
  const auto* source = static_cast<const unsigned char*>(from);
  auto* target = static_cast<typename To::Bits*>(to);
  for (std::size_t i = 0; i < count; ++i) {
    typename From::Bits bits;
    memcpy(&bits, source + i * sizeof bits, sizeof bits);
    target[i] = To::narrow(From::widen(bits));
  }
}

template <class From>
void cast_from(const void* from, void* to, FloatFormat to_format, std::size_t count) {
  switch (to_format) {
    case FloatFormat::kBF16:
      return cast_loop<From, BF16Bits>(from, to, count);
    case FloatFormat::kF16:
      return cast_loop<From, F16Bits>(from, to, count);
    case FloatFormat::kF32:
      return cast_loop<From, F32Bits>(from, to, count);
    case FloatFormat::kF64:
      return cast_loop<From, F64Bits>(from, to, count);
  }
}

}  // namespace

void BERTH_CAST_LOOPS(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                      std::size_t count) {
  switch (from_format) {
    case FloatFormat::kBF16:
      return cast_from<BF16Bits>(from, to, to_format, count);
    case FloatFormat::kF16:
      return cast_from<F16Bits>(from, to, to_format, count);
    case FloatFormat::kF32:
      return cast_from<F32Bits>(from, to, to_format, count);
    case FloatFormat::kF64:
      return cast_from<F64Bits>(from, to, to_format, count);
  }
}

}  // namespace berth
