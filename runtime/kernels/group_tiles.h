// Tiles of quantised weights that are stored in several tensors: codes, scales and zero points, as
// safetensors files of GPTQ, AWQ, compressed-tensors, FP8 and gpt-oss have them. What is stored,
// and in which order, is said by a QuantLayout (cuda/dequant.h), whose scales and zero points are
// tables of floats; from there on all of them are one of four formats:
//
// - kU4: codes of 4 bits in the orders kRows, kGptq and kAwq, whole zero points from 0 to 255;
// - kF8E4M3, kF8E5M2: rows of bytes, with a scale for each tensor, row, group of columns or block;
// - kMxfp4: E2M1 in the orders kRows and kExperts, with powers of two for 32 columns each.
//
// An element is scale x (code - zero). Where a layout computes in 16 bits, dequantised elements are
// rounded to them, and these are not. A NaN of E4M3 makes NaN of its row's whole group.
#pragma once

#include <cstddef>
#include <optional>

#include "berth/tensor.h"
#include "cuda/dequant.h"
#include "runtime/kernels/matrix_format.h"

namespace berth {

/// The form of an element type that exists in memory only, or of MXFP4; nothing for any other.
std::optional<GroupedForm> grouped_form(DType dtype);

/// The form that products compute on; nothing where they have none for the layout: other codes or
/// orders, columns in an order of their own (QuantTables::groups), or groups, zero points and
/// scales that the format cannot say.
std::optional<GroupedForm> grouped_form(const QuantLayout& layout, const QuantTables& tables);

/// Whether a format can say all zero points and scales of a weight whose columns are in the order
/// of their groups.
bool says_all(const GroupedForm& form, const QuantLayout& layout, const QuantTables& tables);

/// Bytes of a tile of a grouped format or of MXFP4.
std::size_t grouped_tile_bytes(MatrixFormat format, std::size_t columns, std::size_t group);

/// Makes the tile of the rows first_row to first_row + 15, fewer at the end of the matrix. `packed`
/// are all packed values of the weight. `tile` has grouped_tile_bytes().
void make_grouped_tile(const QuantLayout& layout, const QuantTables& tables,
                       const std::byte* packed, std::size_t first_row, const GroupedForm& form,
                       std::byte* tile);

/// Row `row` of the 16 of a tile in float32: `columns` elements.
void read_grouped_row(const GroupedForm& form, std::size_t columns, const std::byte* tile,
                      std::size_t row, float* out);

}  // namespace berth
