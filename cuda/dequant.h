// Converts quantised weights to plain floats, on the host and on a GPU. Both give the same bits.
//
// A weight is [rows, columns]: outputs by inputs. Any stretch of its packed values can be converted
// on its own, in any order, as long as it is whole units: a unit (a byte, or a word of 32 bits)
// holds whole values, wherever in the result they belong. So a file can be converted as its chunks
// arrive, although GPTQ, AWQ and gpt-oss store values in another order than that of the result.
//
// Every value is (code - zero) * scale * factor in f32. It is rounded to the format that the
// reference implementation computes in, and then to the one that is asked for; each rounding is to
// nearest, ties to even. That gives the bits of torch (FP8), transformers (FP8 blocks, MXFP4),
// compressed-tensors, AutoGPTQ, AutoAWQ and bitsandbytes on a CPU. NaN comes out as NaN. Stateless;
// safe for use from many threads.
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

// The order of values in the packed tensor, from which follows where in the result they belong.
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
  std::uint64_t expert_rows = 0;  // kExperts: rows of one expert
  // The scale of (row, column) is number row / block_rows * row_step + group * group_step, where
  // group is column / group_columns, or what QuantTables::groups says.
  std::uint64_t block_rows = 1;
  std::uint64_t group_columns = 1;
  std::uint64_t row_step = 0;
  std::uint64_t group_step = 0;
  float zero = 0;  // the zero point of all values, where QuantTables::zeros is null
  float factor = 1;
  FloatFormat arithmetic = FloatFormat::kF32;  // what the product is rounded to: f32, f16 or bf16
};

// Tables in the memory of the device that computes; null where the weight has none.
struct QuantTables {
  const float* scales = nullptr;          // null: all are 1
  const float* zeros = nullptr;           // zero points, as many as scales
  const std::uint32_t* groups = nullptr;  // the group of each column
  const float* lookup = nullptr;          // 16 values
};

// How many bits a code has, and how many bytes a unit.
constexpr unsigned code_bits(QuantCode code) {
  return code <= QuantCode::kU8 ? 8 : code == QuantCode::kU2 ? 2 : 4;
}
constexpr std::size_t unit_bytes(QuantOrder order) {
  return order == QuantOrder::kGptq || order == QuantOrder::kAwq ? 4 : 1;
}

// Whether there are kernels for the layout's combination of code and order.
bool can_dequantize(const QuantLayout& layout);

// Converts the packed bytes [first, first + bytes) of a weight, which are at `from`, at any
// address; `first` and `bytes` are multiples of unit_bytes(). `to` is where the whole result
// begins, aligned for its elements; only values that are in these bytes are written. Throws Error
// where can_dequantize() is false. Uses AVX2 or AVX-512 where the processor has them.
void dequantize_on_host(const QuantLayout& layout, const QuantTables& tables, const void* from,
                        std::uint64_t first, std::uint64_t bytes, void* to, FloatFormat to_format);

// Does the same in a plain loop. Tests compare every other implementation with it.
void dequantize_reference(const QuantLayout& layout, const QuantTables& tables, const void* from,
                          std::uint64_t first, std::uint64_t bytes, void* to,
                          FloatFormat to_format);

// Enqueues the same on `stream`. `from`, `to` and the tables are in device memory, `from` aligned
// to a unit. Throws Error where there is no kernel, or where the launch is refused.
void dequantize_on_device(const QuantLayout& layout, const QuantTables& tables, const void* from,
                          std::uint64_t first, std::uint64_t bytes, void* to, FloatFormat to_format,
                          CudaStreamHandle stream);

}  // namespace berth
