// Where tensors stand in a safetensors file that is to be written, and the file's header.
//
// The order and the spelling are those of the reference implementation (safetensors 0.8,
// `serialize`), so that the same tensors give the same bytes: wider dtypes first, then by name; the
// header padded with spaces to a multiple of eight, which aligns every tensor to its element.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/tensor.h"

namespace berth {

struct OutputTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

struct SafetensorsLayout {
  std::string header;                // with its length bytes: the beginning of the file
  std::vector<std::uint64_t> begin;  // of each tensor, as given: offset in the file
  std::uint64_t file_bytes = 0;
};

// Lays out tensors of unique names, with the metadata that torch's writers leave: {"format": "pt"}.
// Throws Error where the sizes overflow.
SafetensorsLayout lay_out_safetensors(std::span<const OutputTensor> tensors);

// The text of model.safetensors.index.json as transformers writes it: `shards[i]` is the file of
// tensor i.
std::string safetensors_index(std::span<const OutputTensor> tensors,
                              std::span<const std::string> shards);

}  // namespace berth
