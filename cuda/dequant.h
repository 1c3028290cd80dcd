// Quantised weights into plain floats, on the host and on a GPU, with the same bits from both.
//
// A weight is [rows, columns], outputs by inputs. Its packed values are converted in any pieces, in
// any order: each piece is whole units, and a unit (a byte, or a word of 32 bits) gives values of
// its own, wherever in the result they belong. So a file is converted as its chunks arrive, though
// GPTQ, AWQ and gpt-oss store their weights across the result.
//
// Every value is (code - zero) * scale * factor in f32, rounded to the format that the reference
// computes in and then to the one asked for; each rounding is to nearest, ties to even. That gives
// the bits of torch (FP8), transformers (FP8 blocks, MXFP4), compressed-tensors, AutoGPTQ, AutoAWQ
// and bitsandbytes on a CPU. NaN comes out as NaN.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/cast.h"

namespace berth {

// What a stored value means.
enum class QuantCode : std::uint8_t {
  kF8E4M3,
  kF8E5M2,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kI8,
  kU8,
  kU4,
  kU2,
  kF4,       // E2M1 of the OCP Microscaling specification
  kLookup4,  // an index into QuantTables::lookup
};

// In which order values stand in the packed tensor, and where they belong.
enum class QuantOrder : std::uint8_t {
  kRows,      // row by row, the lowest bits of a byte first
  kRowsHigh,  // row by row, the highest bits of a byte first
  kGptq,      // words [columns / n, rows]: n neighbouring columns of one row, the lowest bits first
  kAwq,       // words [columns, rows / 8]: rows 0 2 4 6 1 3 5 7 of eight, the lowest bits first
  kExperts,   // bytes [experts, rows, columns / 2] that become [experts, columns, rows]
};

struct QuantLayout {
  QuantCode code = QuantCode::kF8E4M3;
  QuantOrder order = QuantOrder::kRows;
  std::uint64_t rows = 0;  // kExperts: of all experts together
  std::uint64_t columns = 0;
  std::uint64_t row_values = 0;   // kRows: values that a packed row holds, with its padding
  std::uint64_t expert_rows = 0;  // kExperts: rows of one
  // The scale of (row, column) is number row / block_rows * row_step + group * group_step, where
  // group is column / group_columns, or what QuantTables::groups says.
  std::uint64_t block_rows = 1;
  std::uint64_t group_columns = 1;
  std::uint64_t row_step = 0;
  std::uint64_t group_step = 0;
  float zero = 0;  // of all values, where there is no table of zeros
  float factor = 1;
  FloatFormat arithmetic = FloatFormat::kF32;  // the product is rounded to it: f32, f16 or bf16
};

// In the memory of who computes; null where there is none.
struct QuantTables {
  const float* scales = nullptr;          // none: 1
  const float* zeros = nullptr;           // as many as scales
  const std::uint32_t* groups = nullptr;  // by column
  const float* lookup = nullptr;          // 16 values
};

// Bits of a code, and bytes of a unit.
constexpr unsigned code_bits(QuantCode code) {
  return code <= QuantCode::kU8 ? 8 : code == QuantCode::kU2 ? 2 : 4;
}
constexpr std::size_t unit_bytes(QuantOrder order) {
  return order == QuantOrder::kGptq || order == QuantOrder::kAwq ? 4 : 1;
}

// Whether the kernels have this combination of code and order.
bool can_dequantize(const QuantLayout& layout);

// Converts the packed bytes [first, first + bytes) of a weight, which stand at `from`, at any
// address; both are multiples of unit_bytes(). `to` is where the whole result begins, aligned to
// its element; values that the piece does not hold are left alone. Throws Error where
// !can_dequantize(). Uses AVX2 or AVX-512 where the processor has them.
void dequantize_on_host(const QuantLayout& layout, const QuantTables& tables, const void* from,
                        std::uint64_t first, std::uint64_t bytes, void* to, FloatFormat to_format);

// The plain loop that every other implementation is compared with; same contract.
void dequantize_reference(const QuantLayout& layout, const QuantTables& tables, const void* from,
                          std::uint64_t first, std::uint64_t bytes, void* to,
                          FloatFormat to_format);

// Enqueues the same in device memory on `stream`: `from`, `to` and the tables are there, `from`
// aligned to a unit. Throws Error where the launch is refused.
void dequantize_on_device(const QuantLayout& layout, const QuantTables& tables, const void* from,
                          std::uint64_t first, std::uint64_t bytes, void* to, FloatFormat to_format,
                          CudaStreamHandle stream);

}  // namespace berth
