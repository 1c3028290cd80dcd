#include "runtime/kernels/head_product.h"

#include <algorithm>
#include <vector>

#include "runtime/kernels/activations.h"

namespace berth {
namespace {

// What one thread computes with.
struct Space {
  std::vector<float> gathered;     // the vectors of one head, one after another
  std::vector<float> dequantised;  // its rows, where their format has blocks
  std::vector<float> result;
  Activations x;
};

Space& space_of_thread() {
  thread_local Space space;
  return space;
}

// The rows of a head in a plain format: as they are stored, or dequantised to f32.
Matrix rows_of(const HeadRows& own, std::size_t head, std::vector<float>& dequantised) {
  Matrix rows = own.weights;
  const std::size_t first = head * own.head_rows + own.first_row;
  rows.rows = own.rows;
  rows.tiled_rows = 0;
  if (!is_tiled(rows.format)) {
    rows.data += first * stored_row_bytes(rows.format, rows.columns);
    return rows;
  }
  dequantised.resize(own.rows * rows.columns);
  for (std::size_t r = 0; r < own.rows; ++r) {
    read_row(own.weights, first + r, dequantised.data() + r * rows.columns);
  }
  rows.format = MatrixFormat::kF32;
  rows.data = reinterpret_cast<const std::byte*>(dequantised.data());
  return rows;
}

// Calls work(rows of the head, its activations, where [positions, width] results go), and takes
// the results to their places.
template <class Work>
void for_heads(const HeadRows& own, std::size_t positions, std::size_t size, std::size_t width,
               const HeadVectors<const float>& x, const HeadVectors<float>& out, ThreadTeam& team,
               const Work& work) {
  const std::size_t parts = team.parts(own.heads, 1);
  team.run(parts, [&](std::size_t part, std::size_t) {
    Space& space = space_of_thread();
    for (std::size_t head = own.heads * part / parts; head < own.heads * (part + 1) / parts;
         ++head) {
      const Matrix rows = rows_of(own, head, space.dequantised);
      space.gathered.resize(positions * size);
      for (std::size_t p = 0; p < positions; ++p) {
        std::copy_n(x.of(p, head), size, space.gathered.data() + p * size);
      }
      space.x.set(space.gathered, size, rows.format, ActivationBits::k24);
      space.result.resize(positions * width);
      work(rows, space.x, space.result.data());
      for (std::size_t p = 0; p < positions; ++p) {
        std::copy_n(space.result.data() + p * width, width, out.of(p, head));
      }
    }
  });
}

}  // namespace

void multiply_heads(const HeadRows& own, std::size_t positions, const HeadVectors<const float>& x,
                    const HeadVectors<float>& out, ThreadTeam& team, const InstructionSet& set) {
  for_heads(own, positions, own.weights.columns, own.rows, x, out, team,
            [&](const Matrix& rows, const Activations& ready, float* result) {
              set.products(rows.format, ready.bits())(
                  {rows.data, rows.rows, rows.columns, ready.blocks(0), ready.floats(0),
                   ready.bf16(0), ready.padded_columns(), positions, result, rows.rows});
            });
}

void multiply_heads_transposed(const HeadRows& own, std::size_t positions,
                               const HeadVectors<const float>& x, const HeadVectors<float>& out,
                               ThreadTeam& team, const InstructionSet& set) {
  constexpr std::size_t kColumns = 64;  // the width of the loop's registers
  const std::size_t columns = own.weights.columns;
  for_heads(own, positions, own.rows, columns, x, out, team,
            [&](const Matrix& rows, const Activations& ready, float* result) {
              const TransposedLoop loop = set.transposed(rows.format);
              for (std::size_t c = 0; c < columns; c += kColumns) {
                loop({rows.data, rows.rows, columns, c, std::min(kColumns, columns - c),
                      ready.floats(0), ready.padded_columns(), positions, result + c, columns});
              }
            });
}

}  // namespace berth
