#include "runtime/kernels/loops.h"

#include <algorithm>

#ifdef BERTH_X86_KERNELS
#include <cpuid.h>

#include "runtime/kernels/amx.h"
#endif

namespace berth {

#define BERTH_DECLARE_LOOPS(set)                                              \
  ProductLoop products_##set(MatrixFormat format, ActivationBits bits);       \
  TransposedLoop transposed_##set(MatrixFormat format);                       \
  void quantize_##set(const QuantizeJob& job);                                \
  void attention_##set(const AttentionJob& job, const AttentionSpace& space); \
  void rms_norm_##set(const NormJob& job);                                    \
  void layer_norm_##set(const NormJob& job);                                  \
  void activate_##set(const ActivateJob& job);                                \
  void delta_rule_##set(const DeltaJob& job);

#define BERTH_LOOPS_BUT_PRODUCTS(set)                                                  \
  transposed_##set, quantize_##set, attention_##set, rms_norm_##set, layer_norm_##set, \
      activate_##set, delta_rule_##set
#define BERTH_LOOPS_OF(set, splits) \
  products_##set, never, splits, fetched_ahead, BERTH_LOOPS_BUT_PRODUCTS(set)

BERTH_DECLARE_LOOPS(portable)
#ifdef BERTH_X86_KERNELS
BERTH_DECLARE_LOOPS(avx2)
BERTH_DECLARE_LOOPS(avx512)
BERTH_DECLARE_LOOPS(avx512_bf16)
#endif

namespace {

bool never() { return false; }
bool always() { return true; }

// Processors fetch memory that is read from end to end by themselves. Intel's stop at the end of a
// page, and fetch too little before that where a loop does not wait for anything else: told of what
// comes 4 KiB later, an Emerald Rapids reads Q4_1 at 21 GB/s instead of 14. AMD's do better alone:
// of what a plain read gives, a Genoa reached 0.90 to 0.99 alone, and 0.64 to 1.03 told of it.
std::size_t fetched_ahead() {
#ifdef BERTH_X86_KERNELS
  if (__builtin_cpu_is("amd")) return 0;
#endif
  return 4096;
}

#ifdef BERTH_X86_KERNELS
// clang does not know "f16c" by name.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
// Intel's processors take two cycles for an instruction that multiplies pairs of bf16, and half a
// cycle for one of f32 (measured: 67 and 155 GFLOP/s on a core of an Emerald Rapids); AMD's take
// one for either.
bool is_intel() { return __builtin_cpu_is("intel"); }
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
Amx amx() {
  return has_avx512_bf16() ? amx_of_this_processor(products_avx512_bf16, quantize_avx512_bf16)
                           : Amx::kNone;
}
ProductLoop products_with_amx(MatrixFormat format, ActivationBits bits) {
  const bool rounded = format == MatrixFormat::kBF16 && bits != ActivationBits::k24;
  if (rounded && has_amx_bf16()) return product_amx_bf16;
  const ProductLoop loop = products_amx(format, bits);
  return loop != nullptr ? loop : products_avx512_bf16(format, bits);
}
#endif

constexpr InstructionSet kSets[] = {
#ifdef BERTH_X86_KERNELS
    {"AVX-512 with VNNI and BF16, and AMX", [] { return amx() == Amx::kReady; }, products_with_amx,
     has_amx_bf16, is_intel, fetched_ahead, BERTH_LOOPS_BUT_PRODUCTS(avx512_bf16)},
    {"AVX-512 with VNNI and BF16 (AMX gives other products here)",
     [] { return amx() == Amx::kDisagrees; }, BERTH_LOOPS_OF(avx512_bf16, is_intel)},
    {"AVX-512 with VNNI and BF16", has_avx512_bf16, BERTH_LOOPS_OF(avx512_bf16, is_intel)},
    {"AVX-512 with VNNI", has_avx512, BERTH_LOOPS_OF(avx512, always)},
    {"AVX2", has_avx2, BERTH_LOOPS_OF(avx2, always)},
#endif
    {"portable", [] { return true; }, BERTH_LOOPS_OF(portable, always)},
};

}  // namespace

std::span<const InstructionSet> instruction_sets() { return kSets; }

const InstructionSet& instruction_set() {
  static const InstructionSet& best =
      *std::ranges::find_if(kSets, [](const InstructionSet& set) { return set.supported(); });
  return best;
}

}  // namespace berth
