// Reads a piece of GPU memory once and keeps nothing but a check word: what memory bandwidth is
// measured with. The kernel (read_words.cu) and its CPU reference (here) give the same word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda/cast.h"

namespace berth {

// The exclusive or of all 32-bit words. `bytes` is a multiple of 16, `data` aligned to 16.
inline std::uint32_t xor_words_reference(const void* data, std::size_t bytes) {
  const auto* from = static_cast<const unsigned char*>(data);
  std::uint32_t result = 0;
  for (std::size_t i = 0; i + 4 <= bytes; i += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, from + i, 4);
    result ^= word;
  }
  return result;
}

// The same on the GPU that `stream` belongs to: xors the word into *result, which is device memory.
// Throws Error where it cannot be launched.
void xor_words_on_device(const void* data, std::size_t bytes, std::uint32_t* result,
                         CudaStreamHandle stream);

}  // namespace berth
