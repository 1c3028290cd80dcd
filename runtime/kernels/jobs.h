// What the functions take that are compiled once for each instruction set. Only this room includes
// it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/activation_block.h"
#include "runtime/kernels/attention_job.h"
#include "runtime/kernels/choice.h"
#include "runtime/kernels/matrix_format.h"

namespace berth {

inline constexpr std::size_t kSideBySide = 16;  // positions whose pairs stand together

// Products of some rows with some positions: out[position * stride + row] for each. Tiles give at
// most 16 rows at a time, plain formats any number.
struct ProductJob {
  const std::byte* weights;
  std::size_t rows;
  std::size_t columns;
  const ActivationBlock* blocks;  // of the first position, as are the next two
  const float* floats;
  const std::uint16_t* bf16;
  std::size_t padded_columns;
  std::size_t positions;
  float* out;
  std::size_t stride;
  std::size_t group = 0;  // columns that share a scale, in grouped formats
  std::size_t ahead = 0;  // bytes that a product with one position fetches before their turn
  // Where the instruction set reads them:
  const float* split = nullptr;          // Activations::split()
  const std::uint16_t* pairs = nullptr;  // Activations::pairs()
};

// Plain values and pointers go to these functions: an inline function of a class would be compiled
// for their instruction set, and the linker could choose it for the whole program.
using ProductLoop = void (*)(const ProductJob& job);
using ProductLoops = ProductLoop (*)(MatrixFormat format, ActivationBits bits);

// Products with a transposed matrix, of the columns first to first + count - 1, 64 at most:
// out[position * stride + column - first].
struct TransposedJob {
  const std::byte* weights;
  std::size_t rows;
  std::size_t columns;
  std::size_t first;
  std::size_t count;
  const float* x;  // [positions, rows]
  std::size_t x_stride;
  std::size_t positions;
  float* out;
  std::size_t stride;
};
using TransposedLoop = void (*)(const TransposedJob& job);
using TransposedLoops = TransposedLoop (*)(MatrixFormat format);

struct NormJob {
  const float* x;
  const float* weight;
  const float* bias;
  std::size_t width;
  float epsilon;
  float* out;
};
using NormLoop = void (*)(const NormJob& job);

// Activations as integers, for `count` blocks of 32 values.
struct QuantizeJob {
  const float* values;
  std::size_t count;
  float limit;         // what the largest value becomes
  bool rests;          // whether there is a third plane
  std::int32_t bias;   // of the weights' codes
  std::size_t scaled;  // elements that share a scale of the weights
  ActivationBlock* out;
};
using QuantizeLoop = void (*)(const QuantizeJob& job);

enum class Gate : std::uint8_t;
struct ActivateJob {
  Gate gate;
  const float* x;
  const float* up;
  std::size_t count;
  float* out;
};
using ActivateLoop = void (*)(const ActivateJob& job);

// The gated delta rule for `columns` columns of the state of one head. Pointers are those of the
// first position.
inline constexpr std::size_t kDeltaColumns = 64;
struct DeltaJob {
  const float* queries;
  const float* keys;
  const float* values;
  std::size_t stride;  // of the three
  const float* decay;
  const float* strength;
  std::size_t heads;  // the stride of the two
  std::size_t count;  // positions
  std::size_t key_dim;
  std::size_t state_stride;
  std::size_t columns;  // kDeltaColumns at most
  float* state;
  float* out;
  std::size_t out_stride;
};
using DeltaLoop = void (*)(const DeltaJob& job);

}  // namespace berth
