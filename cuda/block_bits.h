// The value of one element of a GGUF block, by ggml's formula (see block_format.h). Compiled for
// the host and for the device.
//
// `block` points to the bytes of the block, and `i` is the number of the element in it. Each
// product and each sum is rounded on its own and never fused: the host's files are compiled without
// contraction, and for the device times() and plus() here see to it.
#pragma once

#include "cuda/cast_bits.h"

namespace berth {

using Byte = unsigned char;

#ifdef __CUDA_ARCH__
BERTH_BOTH float times(float a, float b) { return __fmul_rn(a, b); }
BERTH_BOTH float plus(float a, float b) { return __fadd_rn(a, b); }
#else
BERTH_BOTH float times(float a, float b) { return a * b; }
BERTH_BOTH float plus(float a, float b) { return a + b; }
#endif

BERTH_BOTH float half_at(const Byte* bytes) {
  return f16_to_float(static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8));
}
BERTH_BOTH float to_float(int value) { return static_cast<float>(value); }

// In 16 bytes of nibbles, the low nibbles are elements 0 to 15 and the high ones 16 to 31.
BERTH_BOTH int nibble_of_32(const Byte* nibbles, int i) {
  return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
}
BERTH_BOTH int bit_of_32(const Byte* bits, int i) { return bits[i / 8] >> i % 8 & 1; }

// Before each struct: what is in a block, in this order; d, dmin and m are f16.

// d, 16 bytes of nibbles.
struct Q4_0Block {
  static constexpr int kElements = 32, kBytes = 18;
  BERTH_BOTH float element(const Byte* block, int i) {
    return times(to_float(nibble_of_32(block + 2, i) - 8), half_at(block));
  }
};

// d, m, 16 bytes of nibbles.
struct Q4_1Block {
  static constexpr int kElements = 32, kBytes = 20;
  BERTH_BOTH float element(const Byte* block, int i) {
    return plus(times(to_float(nibble_of_32(block + 4, i)), half_at(block)), half_at(block + 2));
  }
};

// d, a fifth bit of each element, 16 bytes of nibbles.
struct Q5_0Block {
  static constexpr int kElements = 32, kBytes = 22;
  BERTH_BOTH float element(const Byte* block, int i) {
    const int q = nibble_of_32(block + 6, i) | bit_of_32(block + 2, i) << 4;
    return times(to_float(q - 16), half_at(block));
  }
};

// d, m, a fifth bit of each element, 16 bytes of nibbles.
struct Q5_1Block {
  static constexpr int kElements = 32, kBytes = 24;
  BERTH_BOTH float element(const Byte* block, int i) {
    const int q = nibble_of_32(block + 8, i) | bit_of_32(block + 4, i) << 4;
    return plus(times(to_float(q), half_at(block)), half_at(block + 2));
  }
};

// d, 32 signed bytes.
struct Q8_0Block {
  static constexpr int kElements = 32, kBytes = 34;
  BERTH_BOTH float element(const Byte* block, int i) {
    return times(to_float(static_cast<signed char>(block[2 + i])), half_at(block));
  }
};

// The 12 bytes `scales` of a k-quant hold eight 6-bit scales and eight 6-bit minima, a pair of them
// for each 32 elements. The first four scales are the low six bits of bytes 0 to 3, the first four
// minima those of bytes 4 to 7. The other scales are the low nibbles of bytes 8 to 11, and the
// other minima the high ones; the two bits above them are the upper two bits of bytes 0 to 3 for
// scales, and of bytes 4 to 7 for minima.
BERTH_BOTH int k_scale(const Byte* scales, int j) {
  return j < 4 ? scales[j] & 63 : (scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4;
}
BERTH_BOTH int k_minimum(const Byte* scales, int j) {
  return j < 4 ? scales[j + 4] & 63 : scales[j + 4] >> 4 | (scales[j] >> 6) << 4;
}

// An element of a block that begins with d, dmin and 12 bytes of scales and minima. `quants` are
// the nibbles: 32 bytes for each 64 elements, of which the low nibbles are the first 32. `top` is
// the element's fifth bit, shifted above its nibble.
BERTH_BOTH float k_element(const Byte* block, const Byte* quants, int i, int top) {
  const int j = i / 32;
  const Byte pair = quants[i / 64 * 32 + i % 32];
  const int q = (j % 2 == 0 ? pair & 15 : pair >> 4) + top;
  const float d = times(half_at(block), to_float(k_scale(block + 4, j)));
  const float m = times(half_at(block + 2), to_float(k_minimum(block + 4, j)));
  return plus(times(d, to_float(q)), -m);
}

struct Q4_KBlock {
  static constexpr int kElements = 256, kBytes = 144;
  BERTH_BOTH float element(const Byte* block, int i) { return k_element(block, block + 16, i, 0); }
};

// Like Q4_K, with 32 bytes of fifth bits before the nibbles: bit j of byte i is that of element
// 32 j + i.
struct Q5_KBlock {
  static constexpr int kElements = 256, kBytes = 176;
  BERTH_BOTH float element(const Byte* block, int i) {
    return k_element(block, block + 48, i, (block[16 + i % 32] >> i / 32 & 1) << 4);
  }
};

// 128 bytes of nibbles, 64 bytes of pairs of upper bits, 16 signed scales, d. Each half, 128
// elements, is four runs of 32 elements: two runs of low nibbles, then two of high ones. A byte of
// bit pairs holds a pair for one element of each run.
struct Q6_KBlock {
  static constexpr int kElements = 256, kBytes = 210;
  BERTH_BOTH float element(const Byte* block, int i) {
    const int half = i / 128, run = i % 128 / 32, l = i % 32;
    const Byte low = block[half * 64 + run % 2 * 32 + l];
    const int high = block[128 + half * 32 + l] >> 2 * run & 3;
    const int q = ((run < 2 ? low & 15 : low >> 4) | high << 4) - 32;
    const float scale = to_float(static_cast<signed char>(block[192 + i / 16]));
    return times(times(half_at(block + 208), scale), to_float(q));
  }
};

}  // namespace berth
