// The heads of GGUF files that are about to be written, and where their tensors will stand. Only
// files for Berth itself are written: their matrices may be in tiles.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "planner/checkpoint/gguf/header.h"

namespace berth {

// Which file of a model it is.
struct GgufSplitNumber {
  std::uint32_t number = 0;  // from 0 on
  std::uint32_t count = 1;
  std::uint64_t tensors = 0;  // of all files together
};

struct GgufLayout {
  std::string head;                  // how the file begins, up to the first tensor
  std::vector<std::uint64_t> begin;  // of each tensor, in the order given: its offset in the file
  std::uint64_t file_bytes = 0;
};

// Lays out a file with `tensors`, whose names must be unique, one after another; where they stand
// now is not looked at. The first split has the metadata of `from`, but for what says how files are
// divided and aligned: tensors begin at multiples of 64 bytes or of what `from` asks for. Every
// file says the version of its tiles. Throws Error if the sizes overflow.
GgufLayout lay_out_gguf(const GgufHeader& from, std::span<const GgufTensor> tensors,
                        const GgufSplitNumber& split);

}  // namespace berth
