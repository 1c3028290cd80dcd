// Gives the stored tensors beside a quantised weight arbitrary contents. Tables must be made from
// them and used, or an Error be thrown.
#include "tests/fuzz/weight_tables_fuzz.h"

#include <algorithm>
#include <cstring>

#include "berth/error.h"
#include "planner/model/quant/deduce.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/tree/dequantization.h"
#include "runtime/quant/quant_layout.h"
#include "runtime/quant/weight_tables.h"

namespace berth {
namespace {

struct Stored {
  const char* name;
  DType dtype;
  Shape shape;
};

// The stored tensors of a weight [rows, columns] in the form with that number. The packed values
// come first.
std::vector<Stored> form(unsigned number, std::uint64_t rows, std::uint64_t columns) {
  const std::uint64_t groups = columns / 16;
  switch (number % 9) {
    case 0:
      return {{"qweight", DType::kI32, {columns / 8, rows}},
              {"qzeros", DType::kI32, {groups, rows / 8}},
              {"scales", DType::kF16, {groups, rows}},
              {"g_idx", DType::kI32, {columns}}};
    case 1:
      return {{"qweight", DType::kI32, {columns, rows / 8}},
              {"qzeros", DType::kI32, {groups, rows / 8}},
              {"scales", DType::kF16, {groups, rows}}};
    case 2:
      return {{"weight", DType::kF8E4M3, {rows, columns}},
              {"weight_scale_inv", DType::kF32, {rows / 8, columns / 16}}};
    case 3:
      return {{"weight_packed", DType::kI32, {rows, columns / 8}},
              {"weight_scale", DType::kBF16, {rows, groups}},
              {"weight_zero_point", DType::kI32, {rows / 8, groups}},
              {"weight_g_idx", DType::kI32, {columns}}};
    case 4:
      return {{"weight_packed", DType::kU8, {rows, columns / 2}},
              {"weight_scale", DType::kF8E4M3, {rows, groups}},
              {"weight_global_scale", DType::kF32, {1}}};
    case 5:
      return {{"weight", DType::kU8, {rows * columns / 2, 1}},
              {"weight.absmax", DType::kU8, {rows * columns / 64}},
              {"weight.quant_map", DType::kF32, {16}},
              {"weight.nested_absmax", DType::kF32, {rows * columns / 64 / 256 + 1}},
              {"weight.nested_quant_map", DType::kF32, {256}},
              {"weight.quant_state.bitsandbytes__nf4", DType::kU8, {40}}};
    case 6:
      return {{"weight", DType::kI8, {rows, columns}}, {"SCB", DType::kF32, {rows}}};
    case 7:
      return {{"weight", DType::kI8, {rows, columns}},
              {"weight_scale", DType::kF16, {rows, 1}},
              {"weight_zero_point", DType::kI8, {rows, 1}}};
    default:
      return {{"weight_packed", DType::kU8, {rows, columns / 2}},
              {"weight_scale", DType::kU8, {rows, columns / 32}}};
  }
}

}  // namespace

std::string weight_tables_outcome(std::span<const std::uint8_t> input) {
  if (input.size() < 3) return "too short";
  const std::uint64_t rows = 8 * (1 + input[1] % 8);
  const std::uint64_t columns = 64 * (1 + input[2] % 4);
  const std::span<const std::uint8_t> contents = input.subspan(3);
  const std::vector<Stored> parts = form(input[0], rows, columns);

  ModelTree tree;
  Checkpoint checkpoint;
  checkpoint.shards.push_back({"input", 0, 0, 0, 0});
  std::vector<StoredPart> named;
  std::uint64_t at = 0;
  for (const Stored& part : parts) {
    const std::uint64_t bytes = tensor_bytes(part.dtype, part.shape).value();
    checkpoint.tensors.push_back({part.name, part.dtype, part.shape, 0, 0, at, at + bytes});
    at += bytes;
  }
  for (const TensorInfo& info : checkpoint.tensors) {
    named.push_back({info.name, info.dtype, info.shape});
  }
  ModelTensor tensor;
  tensor.shape = {rows, columns};
  tensor.source = 0;
  tensor.dequantization = 0;
  tree.tensors.push_back(tensor);
  try {
    const auto scheme = deduce_scheme(named, "weight", tensor.shape, false);
    if (!scheme) return "no scheme";
    Dequantization made;
    made.scheme = add_scheme(tree, *scheme);
    made.parts.fill(kNone);
    for (std::uint32_t i = 1; i < parts.size(); ++i) {
      const auto role = quant_role(*scheme, "weight", parts[i].name);
      if (role) made.parts[static_cast<std::size_t>(*role)] = i;
    }
    quantized_weights(tree).weights.push_back(made);
    const PackedWeight weight{0, 0, made, quant_layout(tree, 0, 0, checkpoint), 1};
    const auto read = [&](std::uint32_t, std::uint64_t begin, std::uint64_t end, std::byte* to) {
      for (std::uint64_t i = begin; i < end; ++i) {
        to[i - begin] =
            static_cast<std::byte>(contents.empty() ? 0 : contents[i % contents.size()]);
      }
    };
    const WeightTables tables(checkpoint, weight, *scheme, read);
    std::vector<std::byte> packed(checkpoint.tensors[0].bytes());
    std::vector<float> values(rows * columns);
    read(0, 0, packed.size(), packed.data());
    for (auto* dequantize : {dequantize_on_host, dequantize_reference}) {
      dequantize(weight.layout, tables.on_host(), packed.data(), 0, packed.size(), values.data(),
                 FloatFormat::kF32);
    }
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace berth

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  berth::weight_tables_outcome({data, size});
  return 0;
}
