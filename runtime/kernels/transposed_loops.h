// The loops of products with transposed matrices, compiled once for each instruction set: see
// product_loops.h. Each output is summed in the order of the rows.
#include "runtime/kernels/loops.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

BERTH_INLINE Floats widened(const float* from) { return load<Floats>(from); }
struct Half {
  std::uint16_t bits;
};
BERTH_INLINE Floats widened(const Half* from) {
  return halves(reinterpret_cast<const std::byte*>(from));
}
struct Brain {
  std::uint16_t bits;
};
BERTH_INLINE Floats widened(const Brain* from) {
  using SixteenWords = std::uint16_t __attribute__((vector_size(32)));
  return reinterpret_cast<Floats>(__builtin_convertvector(load<SixteenWords>(from), Ints) << 16);
}

// Of 64 columns; fewer are copied beside zeros first.
template <class Element>
void transposed_loop(const TransposedJob& job) {
  constexpr std::size_t kWide = 64;
  const auto* const weights = reinterpret_cast<const Element*>(job.weights) + job.first;
  for (std::size_t p = 0; p < job.positions; ++p) {
    Floats sums[kWide / kLanes] = {};
    const float* const x = job.x + p * job.x_stride;
    for (std::size_t r = 0; r < job.rows; ++r) {
      const Element* row = weights + r * job.columns;
      Element copied[kWide] = {};
      if (job.count < kWide) {
        std::memcpy(copied, row, job.count * sizeof(Element));
        row = copied;
      }
      const Floats factor = broadcast(x[r]);
      for (std::size_t i = 0; i < kWide / kLanes; ++i) {
        sums[i] = fma(factor, widened(row + i * kLanes), sums[i]);
      }
    }
    std::memcpy(job.out + p * job.stride, sums, job.count * sizeof(float));
  }
}

}  // namespace

TransposedLoop BERTH_LOOPS(transposed)(MatrixFormat format) {
  switch (format) {
    case MatrixFormat::kF32:
      return transposed_loop<float>;
    case MatrixFormat::kF16:
      return transposed_loop<Half>;
    case MatrixFormat::kBF16:
      return transposed_loop<Brain>;
    default:
      return nullptr;
  }
}

}  // namespace berth
