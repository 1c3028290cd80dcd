// One element of a block, by the formula. Compiled for the host and for the device.
//
// `block` points to the block's bytes, `i` is the element's number in it. Products and sums are
// rounded one by one: the host's files are compiled without contraction, the device says so here.
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

// Of 16 bytes of nibbles: the low ones are elements 0 to 15, the high ones 16 to 31.
BERTH_BOTH int nibble_of_32(const Byte* nibbles, int i) {
  return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
}
BERTH_BOTH int bit_of_32(const Byte* bits, int i) { return bits[i / 8] >> i % 8 & 1; }

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

// The k-quants' 12 bytes hold eight 6-bit scales and eight 6-bit minima, one pair for 32 elements:
// of the first four the low six bits of bytes 0 to 3 and 4 to 7; of the others the low and the high
// nibbles of bytes 8 to 11, with the top bits of those before.
BERTH_BOTH int k_scale(const Byte* scales, int j) {
  return j < 4 ? scales[j] & 63 : (scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4;
}
BERTH_BOTH int k_minimum(const Byte* scales, int j) {
  return j < 4 ? scales[j + 4] & 63 : scales[j + 4] >> 4 | (scales[j] >> 6) << 4;
}

// d, dmin, 12 bytes of scales and minima; then `quants` of 32 bytes for 64 elements, low nibbles
// first. `top` is the element's bit above its nibble.
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

// As Q4_K, with 32 bytes of fifth bits before the nibbles: bit j of byte i for element 32 j + i.
struct Q5_KBlock {
  static constexpr int kElements = 256, kBytes = 176;
  BERTH_BOTH float element(const Byte* block, int i) {
    return k_element(block, block + 48, i, (block[16 + i % 32] >> i / 32 & 1) << 4);
  }
};

// 128 bytes of nibbles, 64 of upper bit pairs, 16 signed scales, d. Each half of 128 elements is
// four runs of 32: nibbles low, low, high, high; a byte of bit pairs serves one of each run.
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
