// Products of a weight matrix with activations: the bulk of what a model computes.
//
// The result of a position depends on nothing but its activations and the weights: neither on how
// many positions are computed together, nor on the number of threads. So a prompt gives the same
// tokens alone and in a batch.
#pragma once

#include <cstddef>
#include <span>

#include "runtime/kernels/activations.h"
#include "runtime/kernels/loops.h"
#include "runtime/kernels/matrix.h"
#include "runtime/kernels/team.h"

namespace berth {

/// A matrix, and where its products go: out[position * stride + row].
struct Product {
  Matrix weights;
  const float* bias = nullptr;  // of each row, added to its product; null: none
  float* out = nullptr;
  std::size_t stride = 0;  // at least the number of rows
};

/// Computes all `products` with the same activations, which were set for the format and columns
/// that their matrices share; groups of columns are of the same size in all of them. Weights that
/// hold NaN or infinity give what IEEE 754 says.
void multiply(std::span<const Product> products, const Activations& x, ThreadTeam& team,
              const InstructionSet& set = instruction_set());

/// out[position * stride + column] = sum over rows r of x[position][r] * weights[r][column], plus
/// the bias of the column: a product with the transposed matrix, as GPT-2 stores its weights. Each
/// output is summed in the order of the rows. Formats without blocks only.
void multiply_transposed(const Product& product, const Activations& x, ThreadTeam& team,
                         const InstructionSet& set = instruction_set());

/// The same, by the formula: weights as `dequantised` [rows, columns], activations as `x` holds
/// them, summed in double. Tests compare with it.
void multiply_reference(std::span<const float> dequantised, std::size_t rows, const Activations& x,
                        MatrixFormat format, float* out, std::size_t stride);

}  // namespace berth
