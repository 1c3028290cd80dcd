// The portable block loops, the choice among the loops for different instruction sets, and the
// reference, which follows the formula.
#define BERTH_BLOCK_LOOPS block_loops_portable
#include "cuda/block_loops.h"

namespace berth {

#ifdef BERTH_X86_CASTS
void block_loops_avx2(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                      std::size_t blocks);
void block_loops_avx512(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                        std::size_t blocks);
#endif

namespace {

using BlockLoops = void (*)(const void*, BlockFormat, void*, FloatFormat, std::size_t);

BlockLoops best_loops() {
#ifdef BERTH_X86_CASTS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return block_loops_avx512;
  }
  if (__builtin_cpu_supports("avx2")) return block_loops_avx2;
#endif
  return block_loops_portable;
}

template <class Block>
float element(const void* from, std::size_t i) {
  const auto* bytes = static_cast<const Byte*>(from);
  return Block::element(bytes + i / Block::kElements * Block::kBytes,
                        static_cast<int>(i % Block::kElements));
}

float element_of(const void* from, BlockFormat format, std::size_t i) {
  switch (format) {
    case BlockFormat::kQ4_0:
      return element<Q4_0Block>(from, i);
    case BlockFormat::kQ4_1:
      return element<Q4_1Block>(from, i);
    case BlockFormat::kQ5_0:
      return element<Q5_0Block>(from, i);
    case BlockFormat::kQ5_1:
      return element<Q5_1Block>(from, i);
    case BlockFormat::kQ8_0:
      return element<Q8_0Block>(from, i);
    case BlockFormat::kQ4_K:
      return element<Q4_KBlock>(from, i);
    case BlockFormat::kQ5_K:
      return element<Q5_KBlock>(from, i);
    case BlockFormat::kQ6_K:
      return element<Q6_KBlock>(from, i);
  }
  return 0;
}

}  // namespace

void dequantize_on_host(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                        std::size_t blocks) {
  static const BlockLoops loops = best_loops();
  if (blocks > 0) loops(from, format, to, to_format, blocks);
}

void dequantize_reference(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                          std::size_t blocks) {
  auto* out = static_cast<Byte*>(to);
  for (std::size_t i = 0; i < blocks * block_size(format).elements; ++i) {
    const float value = element_of(from, format, i);
    cast_reference(&value, FloatFormat::kF32, out + i * float_bytes(to_format), to_format, 1);
  }
}

}  // namespace berth
