#include "planner/model/precision/precision.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace berth {
namespace {

using Kind = Precision::Kind;

Precision floats(std::string_view name, DType dtype, std::array<std::string_view, 2> aliases) {
  return {.name = name, .kind = Kind::kFloat, .aliases = aliases, .dtype = dtype};
}

Precision stored_by(std::string_view name, std::array<std::string_view, 2> aliases,
                    QuantScheme scheme, std::string maker) {
  return {.name = name,
          .kind = Kind::kScheme,
          .aliases = aliases,
          .scheme = std::move(scheme),
          .maker = std::move(maker)};
}

// Scales of one row of weights each, in the model's 16 bits: llm-compressor's FP8_DYNAMIC and W8A8.
QuantScheme row_scaled(DType weight) {
  QuantScheme scheme;
  scheme.weight = weight;
  scheme.scales = DType::kBF16;
  scheme.grain = ScaleGrain::kRow;
  return scheme;
}

QuantScheme four_bits(QuantFormat format, DType scales, std::uint64_t group) {
  QuantScheme scheme;
  scheme.format = format;
  scheme.bits = 4;
  scheme.scales = scales;
  scheme.grain = ScaleGrain::kGroup;
  scheme.group = group;
  return scheme;
}

QuantScheme gptq() {
  QuantScheme scheme = four_bits(QuantFormat::kGptq, DType::kF16, 128);
  scheme.input_order = true;
  return scheme;
}

QuantScheme nf4() {
  QuantScheme scheme = four_bits(QuantFormat::kBnb4, DType::kF32, 64);
  scheme.weight = DType::kU8;
  return scheme;
}

std::vector<Precision> make_table() {
  const std::string compressed = "compressed-tensors";
  std::vector<Precision> table{
      {.name = "auto", .kind = Kind::kStored, .aliases = {"stored", "as-stored"}},
      floats("float32", DType::kF32, {"fp32", "f32"}),
      floats("float16", DType::kF16, {"fp16", "f16"}),
      floats("bfloat16", DType::kBF16, {"bf16"}),
      stored_by("fp8", {"float8", "float8_e4m3fn"}, row_scaled(DType::kF8E4M3),
                compressed + ", a scale for each row"),
      stored_by("int8", {"w8a8"}, row_scaled(DType::kI8), compressed + ", a scale for each row"),
      stored_by("int4", {"w4a16"}, four_bits(QuantFormat::kPacked, DType::kBF16, 128),
                compressed + ", groups of 128"),
      stored_by("awq", {}, four_bits(QuantFormat::kAwq, DType::kF16, 128),
                "AutoAWQ, 4 bits, groups of 128"),
      stored_by("gptq", {}, gptq(), "GPTQModel, 4 bits, groups of 128"),
      stored_by("mxfp4", {}, four_bits(QuantFormat::kPackedFloat, DType::kU8, 32),
                compressed + ", groups of 32"),
      stored_by("nvfp4", {}, four_bits(QuantFormat::kPackedFloat, DType::kF8E4M3, 16),
                compressed + ", groups of 16"),
      stored_by("nf4", {"bnb4"}, nf4(), "bitsandbytes, groups of 64"),
  };
  for (const GgufMix& mix : gguf_mixes()) {
    table.push_back(
        {.name = mix.name, .kind = Kind::kMix, .mix = &mix, .maker = "llama.cpp's llama-quantize"});
  }
  return table;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

}  // namespace

std::span<const Precision> precisions() {
  static const std::vector<Precision> kTable = make_table();
  return kTable;
}

const Precision* find_precision(std::string_view name) {
  if (name.empty()) return nullptr;  // an alias that is not there is empty
  const std::string wanted = lower(name);
  for (const Precision& precision : precisions()) {
    const bool alias = std::ranges::find(precision.aliases, wanted) != precision.aliases.end();
    if (precision.name == wanted || alias) return &precision;
  }
  return nullptr;
}

std::vector<std::string_view> precision_names() {
  std::vector<std::string_view> names;
  for (const Precision& precision : precisions()) names.push_back(precision.name);
  return names;
}

}  // namespace berth
