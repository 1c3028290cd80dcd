// What the device's kernels of packed_product.h and their emulation share beside the lanes' work:
// reading and writing floats of any format, checks, and going through the formats.
#pragma once

#include <string>

#include "berth/error.h"
#include "cuda/block_format.h"
#include "cuda/packed_bits.h"
#include "cuda/packed_product.h"

namespace berth {

BERTH_BOTH float float_at(const void* data, FloatFormat format, std::size_t i) {
  switch (format) {
    case FloatFormat::kBF16:
      return bf16_to_float(static_cast<const std::uint16_t*>(data)[i]);
    case FloatFormat::kF16:
      return f16_to_float(static_cast<const std::uint16_t*>(data)[i]);
    case FloatFormat::kF32:
      return static_cast<const float*>(data)[i];
    case FloatFormat::kF64:
      return f64_to_float(static_cast<const std::uint64_t*>(data)[i]);
  }
  return 0;
}

BERTH_BOTH void put_float(void* data, FloatFormat format, std::size_t i, float value) {
  switch (format) {
    case FloatFormat::kBF16:
      static_cast<std::uint16_t*>(data)[i] = float_to_bf16(value);
      break;
    case FloatFormat::kF16:
      static_cast<std::uint16_t*>(data)[i] = float_to_f16(value);
      break;
    case FloatFormat::kF32:
      static_cast<float*>(data)[i] = value;
      break;
    case FloatFormat::kF64:
      static_cast<std::uint64_t*>(data)[i] = float_to_f64(value);
      break;
  }
}

// Throws Error where a matrix is not what PackedMatrix says: a fault of the caller.
inline void require_whole_blocks(const PackedMatrix& matrix) {
  const std::size_t elements = block_size(matrix.format).elements;
  if (matrix.columns == 0 || matrix.columns % elements != 0) {
    throw Error("internal error: " + std::to_string(matrix.columns) +
                " columns are no whole blocks of " + std::to_string(elements));
  }
  if (reinterpret_cast<std::uintptr_t>(matrix.data) % 16 != 0) {
    throw Error("internal error: a packed matrix is not aligned to 16 bytes");
  }
}

// Calls `use` with the block type of a format.
template <class Use>
void with_block(BlockFormat format, const Use& use) {
  switch (format) {
    case BlockFormat::kQ4_0:
      return use(Q4_0Block());
    case BlockFormat::kQ4_1:
      return use(Q4_1Block());
    case BlockFormat::kQ5_0:
      return use(Q5_0Block());
    case BlockFormat::kQ5_1:
      return use(Q5_1Block());
    case BlockFormat::kQ8_0:
      return use(Q8_0Block());
    case BlockFormat::kQ4_K:
      return use(Q4_KBlock());
    case BlockFormat::kQ5_K:
      return use(Q5_KBlock());
    case BlockFormat::kQ6_K:
      return use(Q6_KBlock());
  }
}

// The sizes of a product in blocks of type `Block`.
template <class Block>
struct PackedSizes {
  explicit PackedSizes(const PackedMatrix& matrix)
      : blocks(matrix.columns / Block::kElements),
        row_bytes(blocks * Block::kBytes),
        steps((matrix.columns + kStepColumns - 1) / kStepColumns),
        groups(matrix.columns / 32) {}

  std::size_t blocks;  // of a row
  std::size_t row_bytes;
  std::size_t steps;   // of a row
  std::size_t groups;  // of the activations of a position
};

}  // namespace berth
