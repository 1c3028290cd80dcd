// Where tensors stand in a safetensors file that is about to be written, and the file's header.
//
// Order and spelling are those of the reference implementation (safetensors 0.8, `serialize`), so
// that the same tensors give the same bytes: wider dtypes come first, then names in ascending
// order. The header is padded with spaces to a multiple of eight bytes, which aligns every tensor
// to its elements.
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
  std::string header;                // with its length bytes: how the file begins
  std::vector<std::uint64_t> begin;  // of each tensor, in the order given: its offset in the file
  std::uint64_t file_bytes = 0;
};

// Lays out tensors, whose names must be unique, with the metadata that torch's writers add:
// {"format": "pt"}. Throws Error if the sizes overflow.
SafetensorsLayout lay_out_safetensors(std::span<const OutputTensor> tensors);

// The text of model.safetensors.index.json as transformers writes it. `shards[i]` is the name of
// the file that holds tensor i.
std::string safetensors_index(std::span<const OutputTensor> tensors,
                              std::span<const std::string> shards);

}  // namespace berth
