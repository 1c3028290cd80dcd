// The reference, which is a plain loop over units; the portable loops; and the choice among the
// loops for different instruction sets.
#define BERTH_DEQUANT_LOOPS dequant_loops_portable
#include "berth/error.h"
#include "cuda/dequant_loops.h"

namespace berth {

#ifdef BERTH_X86_CASTS
bool dequant_loops_avx2(const QuantLayout& layout, const QuantTables& tables, const void* from,
                        std::uint64_t first, std::uint64_t bytes, void* to, FloatFormat to_format);
bool dequant_loops_avx512(const QuantLayout& layout, const QuantTables& tables, const void* from,
                          std::uint64_t first, std::uint64_t bytes, void* to,
                          FloatFormat to_format);
#endif

namespace {

using DequantLoops = bool (*)(const QuantLayout&, const QuantTables&, const void*, std::uint64_t,
                              std::uint64_t, void*, FloatFormat);

DequantLoops best_loops() {
#ifdef BERTH_X86_CASTS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return dequant_loops_avx512;
  }
  if (__builtin_cpu_supports("avx2")) return dequant_loops_avx2;
#endif
  return dequant_loops_portable;
}

struct CanRun {
  template <class Code, class Order, class To>
  bool run() const {
    return true;
  }
};

// Converts one unit after another, and each value on its own.
struct Units {
  const QuantLayout& layout;
  const QuantTables& tables;
  const unsigned char* from;
  std::uint64_t first;  // units
  std::uint64_t count;
  void* to;

  template <class Code, class Order, class To>
  bool run() const {
    for (std::uint64_t i = 0; i < count; ++i) {
      typename Order::Packed packed;
      memcpy(&packed, from + i * sizeof packed, sizeof packed);
      Order::convert(layout, tables, packed, first + i, static_cast<typename To::Bits*>(to));
    }
    return true;
  }
};

}  // namespace

bool can_dequantize(const QuantLayout& layout) { return visit_kernel<F32Bits>(layout, CanRun{}); }

void dequantize_reference(const QuantLayout& layout, const QuantTables& tables, const void* from,
                          std::uint64_t first, std::uint64_t bytes, void* to,
                          FloatFormat to_format) {
  const std::size_t unit = unit_bytes(layout.order);
  const Units units{layout,       tables,       static_cast<const unsigned char*>(from),
                    first / unit, bytes / unit, to};
  if (!visit_kernel(layout, to_format, units))
    throw Error("there is no kernel for this layout of quantised weights");
}

void dequantize_on_host(const QuantLayout& layout, const QuantTables& tables, const void* from,
                        std::uint64_t first, std::uint64_t bytes, void* to, FloatFormat to_format) {
  if (bytes < unit_bytes(layout.order)) return;
  static const DequantLoops loops = best_loops();
  if (!loops(layout, tables, from, first, bytes, to, to_format)) {
    throw Error("there is no kernel for this layout of quantised weights");
  }
}

}  // namespace berth
