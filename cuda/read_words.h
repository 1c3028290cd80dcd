// Reads a stretch of GPU memory once and keeps nothing of it but a check word; memory bandwidth is
// measured with it. The kernel (read_words.cu) and its CPU reference (here) give the same word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda/cast.h"

namespace berth {

// The exclusive or of all 32-bit words. `bytes` is a multiple of 16, and `data` is aligned to 16
// bytes.
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

// Enqueues the same on `stream`, whose GPU has `data` and `result` in its memory: combines the word
// with *result by exclusive or. Throws Error where the launch is refused.
void xor_words_on_device(const void* data, std::size_t bytes, std::uint32_t* result,
                         CudaStreamHandle stream);

}  // namespace berth
