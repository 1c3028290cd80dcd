// The portable cast loops, which are also the reference, and the choice among the loops for
// different instruction sets.
#define BERTH_CAST_LOOPS cast_reference
#include "cuda/cast_loops.h"

namespace berth {

#ifdef BERTH_X86_CASTS
void cast_loops_avx2(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                     std::size_t count);
void cast_loops_avx512(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                       std::size_t count);
#endif

namespace {

using CastLoops = void (*)(const void*, FloatFormat, void*, FloatFormat, std::size_t);

CastLoops best_loops() {
#ifdef BERTH_X86_CASTS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return cast_loops_avx512;
  }
  if (__builtin_cpu_supports("avx2")) return cast_loops_avx2;
#endif
  return cast_reference;
}

}  // namespace

void cast_on_host(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                  std::size_t count) {
  if (count == 0) return;
  if (from_format == to_format) {
    memcpy(to, from, count * float_bytes(from_format));
    return;
  }
  static const CastLoops loops = best_loops();
  loops(from, from_format, to, to_format, count);
}

}  // namespace berth
