#include "runtime/kernels/product.h"

#include <algorithm>
#include <vector>

namespace berth {
namespace {

// Weights that take a thread a microsecond or so: fewer are not worth a hand-over.
constexpr std::size_t kLeastBytes = 32u << 10;

// Positions whose activations stay in the processor's second cache while the weights go by.
std::size_t positions_at_once(const Activations& x, MatrixFormat format) {
  constexpr std::size_t kCache = 512u << 10;
  const std::size_t bytes = !takes_floats(format) ? x.columns() / 32 * sizeof(ActivationBlock)
                            : format == MatrixFormat::kBF16 ? x.padded_columns() * 2
                                                            : x.padded_columns() * 4;
  return std::max<std::size_t>(16, kCache / std::max<std::size_t>(1, bytes) / 16 * 16);
}

double activation(const Activations& x, MatrixFormat format, std::size_t p, std::size_t column) {
  if (takes_floats(format)) return x.floats(p)[column];
  const ActivationBlock& block = x.blocks(p)[column / 32];
  const int low = block.low[column % 32];
  const int high = block.high[column % 32] * (x.bits() == ActivationBits::k8 ? 0 : 256);
  return static_cast<double>(block.scale) * (high + low) +
         static_cast<double>(block.rest_scale) * block.rest[column % 32];
}

std::size_t tiles_of(const Matrix& matrix) { return (matrix.rows + kTileRows - 1) / kTileRows; }

void add_bias(const float* bias, std::size_t rows, std::size_t positions, float* out,
              std::size_t stride) {
  for (std::size_t p = 0; p < positions; ++p) {
    for (std::size_t r = 0; r < rows; ++r) out[p * stride + r] += bias[r];
  }
}

}  // namespace

void multiply(std::span<const Product> products, const Activations& x, ThreadTeam& team,
              const InstructionSet& set) {
  const MatrixFormat format = products.front().weights.format;
  const ProductLoop loop = set.products(format, x.bits());
  const std::size_t group = products.front().weights.group;
  const std::size_t bytes = tile_bytes(format, x.columns(), group);
  const std::size_t at_once = positions_at_once(x, format);
  std::size_t tiles = 0;
  for (const Product& product : products) tiles += tiles_of(product.weights);
  const std::size_t parts = team.parts(tiles, kLeastBytes / bytes);
  team.run(parts, [&](std::size_t part, std::size_t) {
    const std::size_t begin = tiles * part / parts;
    const std::size_t end = tiles * (part + 1) / parts;
    thread_local std::vector<std::byte> made;  // a tile of rows that are as stored
    for (std::size_t first = 0; first < x.positions(); first += at_once) {
      const std::size_t count = std::min(at_once, x.positions() - first);
      std::size_t before = 0;
      for (const Product& product : products) {
        const std::size_t own = tiles_of(product.weights);
        const std::size_t from = std::clamp(begin, before, before + own) - before;
        const std::size_t to = std::clamp(end, before, before + own) - before;
        for (std::size_t tile = from; tile < to; ++tile) {
          const std::size_t row = tile * kTileRows;
          const std::size_t rows = std::min(kTileRows, product.weights.rows - row);
          float* const out = product.out + first * product.stride + row;
          const std::byte* weights = product.weights.data + tile * bytes;
          if (is_tiled(format) && !is_grouped(format) && row >= product.weights.tiled_rows) {
            made.resize(bytes);
            make_tile(format, weights, rows, x.columns(), made.data());
            weights = made.data();
          }
          loop({weights, rows, x.columns(), x.blocks(first), x.floats(first), x.bf16(first),
                x.padded_columns(), count, out, product.stride, group, set.ahead(), x.split(first),
                x.pairs(first)});
          if (product.bias != nullptr)
            add_bias(product.bias + row, rows, count, out, product.stride);
        }
        before += own;
      }
    }
  });
}

void multiply_transposed(const Product& product, const Activations& x, ThreadTeam& team,
                         const InstructionSet& set) {
  // 64 columns at a time: the width of the loop's registers.
  constexpr std::size_t kColumns = 64;
  const Matrix& weights = product.weights;
  const TransposedLoop loop = set.transposed(weights.format);
  const std::size_t parts = (weights.columns + kColumns - 1) / kColumns;
  team.run(parts, [&](std::size_t part, std::size_t) {
    const std::size_t column = part * kColumns;
    const std::size_t count = std::min(kColumns, weights.columns - column);
    float* const out = product.out + column;
    loop({weights.data, weights.rows, weights.columns, column, count, x.floats(0),
          x.padded_columns(), x.positions(), out, product.stride});
    if (product.bias != nullptr) {
      add_bias(product.bias + column, count, x.positions(), out, product.stride);
    }
  });
}

void multiply_reference(std::span<const float> dequantised, std::size_t rows, const Activations& x,
                        MatrixFormat format, float* out, std::size_t stride) {
  const std::size_t columns = x.columns();
  for (std::size_t p = 0; p < x.positions(); ++p) {
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::size_t c = 0; c < columns; ++c) {
        sum += static_cast<double>(dequantised[r * columns + c]) * activation(x, format, p, c);
      }
      out[p * stride + r] = static_cast<float>(sum);
    }
  }
}

}  // namespace berth
