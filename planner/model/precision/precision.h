// The precisions that the weights of a model can be had in, by the names that people use: plain
// floats, the schemes of compressed-tensors, AutoAWQ and AutoGPTQ, and llama.cpp's mixes.
//
// A table, from which --dtype, --dtypes and their errors take the names. Nothing here changes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/tensor.h"
#include "planner/model/precision/gguf_mix.h"
#include "planner/model/tree/quant_format.h"

namespace berth {

struct Precision {
  enum class Kind : std::uint8_t {
    kStored,  // as the checkpoint stores it
    kFloat,   // plain floats of `dtype`
    kScheme,  // linear weights of the blocks as `scheme` stores them, all else in 16 bits
    kMix,     // each tensor as llama-quantize stores it for `mix`
  };

  std::string_view name;  // "fp8"
  Kind kind = Kind::kStored;
  std::array<std::string_view, 2> aliases{};  // "w8a8"
  DType dtype = DType::kBF16;                 // kFloat
  QuantScheme scheme{};                       // kScheme
  const GgufMix* mix = nullptr;               // kMix
  std::string maker{};                        // who stores weights like that

  // Whether somebody has to quantise the weights first. Berth does not.
  bool made_anew() const { return kind == Kind::kScheme || kind == Kind::kMix; }
};

// "auto", the floats, the schemes, the mixes. The names are unique.
std::span<const Precision> precisions();

// By its name or an alias, in upper or lower case; null for any other text.
const Precision* find_precision(std::string_view name);

// All names, without aliases, in the order of the table.
std::vector<std::string_view> precision_names();

}  // namespace berth
