// The loops of products, by format. They are compiled once for each instruction set, by a source
// file that defines BERTH_LOOPS (what a function is called there) and includes this one. Every
// output is summed in an order that depends neither on the number of positions nor on the threads.
#include "runtime/kernels/group_loops.h"
#include "runtime/kernels/loops.h"
#include "runtime/kernels/row_loops.h"
#include "runtime/kernels/tile_loops.h"

namespace berth {
namespace {

template <MatrixFormat kFormat>
constexpr ProductLoop kTile[3] = {tile_loop<kFormat, 1>, tile_loop<kFormat, 2>,
                                  tile_loop<kFormat, 3>};

constexpr ProductLoop kCodes[3] = {code_loop<1>, code_loop<2>, code_loop<3>};

}  // namespace

ProductLoop BERTH_LOOPS(products)(MatrixFormat format, ActivationBits bits) {
  const auto planes = static_cast<std::size_t>(bits);
  switch (format) {
    case MatrixFormat::kF32:
      return row_loop<F32Row>;
    case MatrixFormat::kF16:
      return row_loop<F16Row>;
    case MatrixFormat::kBF16:
      return bits == ActivationBits::k24 ? row_loop<WideBF16Row> : bf16_loop;
    case MatrixFormat::kQ8_0:
      return kTile<MatrixFormat::kQ8_0>[planes];
    case MatrixFormat::kQ4_0:
      return kTile<MatrixFormat::kQ4_0>[planes];
    case MatrixFormat::kQ4_1:
      return kTile<MatrixFormat::kQ4_1>[planes];
    case MatrixFormat::kQ5_0:
      return kTile<MatrixFormat::kQ5_0>[planes];
    case MatrixFormat::kQ5_1:
      return kTile<MatrixFormat::kQ5_1>[planes];
    case MatrixFormat::kQ4_K:
      return kTile<MatrixFormat::kQ4_K>[planes];
    case MatrixFormat::kQ5_K:
      return kTile<MatrixFormat::kQ5_K>[planes];
    case MatrixFormat::kQ6_K:
      return kTile<MatrixFormat::kQ6_K>[planes];
    case MatrixFormat::kMxfp4:
      return kTile<MatrixFormat::kMxfp4>[planes];
    case MatrixFormat::kU4:
      return kCodes[planes];
    case MatrixFormat::kF8E4M3:
      return float_loop<E4M3>;
    case MatrixFormat::kF8E5M2:
      return float_loop<E5M2>;
  }
  return nullptr;
}

}  // namespace berth
