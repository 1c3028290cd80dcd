// Stored blocks of GGUF's formats, and their places in tiles (tiles.h). Only this room includes it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/matrix_format.h"

namespace berth {

/// Moves a stored block of row `row` of 16 to its entry of a tile.
void move_block(MatrixFormat format, const std::byte* stored, std::size_t row, std::byte* entry);

/// The opposite: moves the block of row `row` of 16 out of its entry.
void unmove_block(MatrixFormat format, const std::byte* entry, std::size_t row, std::byte* stored);

/// The elements of a stored block in float32, by ggml's formulas: each product and each sum is
/// rounded.
void read_block(MatrixFormat format, const std::byte* stored, float* out);

/// The same of a block that is in a tile.
void read_entry(MatrixFormat format, const std::byte* entry, std::size_t row, float* out);

/// 2^(exponent - 127), as E8M0 has it: NaN for 255 (OCP Microscaling formats, 1.0).
float power_of_two(std::uint8_t exponent);

}  // namespace berth
