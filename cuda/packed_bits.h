// What one lane of a warp computes of a product with a matrix in GGUF's blocks. Compiled for the
// device and for the host, whose emulation of a warp (packed_product_cpu.cc) gives the same bits.
//
// Activations beside blocks are 24-bit numbers with a scale for each 32, in three planes of bytes,
// as in runtime/kernels/activations.h: value = scale x (256 upper + lower + rest / 254). A GPU
// multiplies four bytes in one instruction, and sums of integers are exact, so they need no order.
//
// A warp takes 256 columns of a row in one step: eight blocks of 32, or one of 256. Each lane takes
// eight elements of them, as two words of four neighbouring ones, and reads their bits of the block
// itself. So each byte of a matrix is asked for once (scales: once by each lane that needs them),
// and neighbouring lanes ask for neighbouring bytes.
#pragma once

#include <cmath>

#include "cuda/block_bits.h"
#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace berth {

constexpr int kWarpLanes = 32;
constexpr int kStepColumns = 256;

// 32 neighbouring activations of one position.
struct alignas(8) ActivationGroup {
  float scale;
  float total;      // the sum of the activations
  Byte planes[96];  // for each four of them: their upper bytes, then the lower ones, then the rests
};

#ifdef __CUDA_ARCH__
BERTH_BOTH float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
// Four products of signed bytes, added to `sum`.
BERTH_BOTH int dot_of_four(std::uint32_t a, std::uint32_t b, int sum) {
  return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
}
BERTH_BOTH float half_value(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
BERTH_BOTH std::uint16_t half_word_at(const Byte* bytes) {
  return *reinterpret_cast<const std::uint16_t*>(bytes);
}
BERTH_BOTH std::uint32_t word_at(const Byte* bytes) {
  return *reinterpret_cast<const std::uint32_t*>(bytes);
}
BERTH_BOTH int nearest_int(float value) { return __float2int_rn(value); }
#else
BERTH_BOTH float fused(float a, float b, float c) { return std::fmaf(a, b, c); }
BERTH_BOTH int dot_of_four(std::uint32_t a, std::uint32_t b, int sum) {
  for (int i = 0; i < 32; i += 8) {
    sum += static_cast<signed char>(a >> i & 255u) * static_cast<signed char>(b >> i & 255u);
  }
  return sum;
}
BERTH_BOTH float half_value(std::uint16_t bits) { return f16_to_float(bits); }
BERTH_BOTH std::uint16_t half_word_at(const Byte* bytes) {
  std::uint16_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}
BERTH_BOTH std::uint32_t word_at(const Byte* bytes) {
  std::uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}
BERTH_BOTH int nearest_int(float value) { return static_cast<int>(std::nearbyintf(value)); }
#endif

// Four bytes at an even address: blocks of most formats are aligned to no more than that.
BERTH_BOTH std::uint32_t word_of_halves(const Byte* bytes) {
  return half_word_at(bytes) | static_cast<std::uint32_t>(half_word_at(bytes + 2)) << 16;
}
BERTH_BOTH float half_of(const Byte* bytes) { return half_value(half_word_at(bytes)); }

// --- activations ---

// The scale of 32 activations whose largest magnitude has the bits `largest`. NaN where one of them
// is NaN or infinite: then all products of the position are NaN. 0 where all are too small to tell.
BERTH_BOTH float group_scale(std::uint32_t largest) {
  constexpr float kMost = 32639;    // 256 x 127 + 127: both planes fit a signed byte
  constexpr float kLeast = 1e-34f;  // below, the reciprocal of the scale would overflow
  if (largest >= 0x7F800000u) return float_of(0x7FC00000u);
  return float_of(largest) < kLeast ? 0.0f : float_of(largest) / kMost;
}
// An activation without its scale: an integer, whose bytes are the two upper planes, and what is
// left in parts of 254, which half a step at most makes 127.
struct Planes {
  int integer, rest;
};
constexpr float kRestPart = 1.0f / 254;
BERTH_BOTH Planes planes_of(float value, float scale) {
  if (!(scale > 0)) return {0, 0};  // also NaN
  const float exact = times(value, 1.0f / scale);
  const int integer = nearest_int(exact);
  return {integer, nearest_int(times(plus(exact, -to_float(integer)), 254.0f))};
}
// Puts activation `i` of a group where it belongs.
BERTH_BOTH void put_planes(Planes value, int i, ActivationGroup& group) {
  Byte* at = group.planes + i / 4 * 12 + i % 4;
  const int lower = static_cast<signed char>(value.integer & 255);
  at[0] = static_cast<Byte>((value.integer - lower) / 256);
  at[4] = static_cast<Byte>(lower);
  at[8] = static_cast<Byte>(value.rest);
}
// The sum of the activations of a group, by the sums of their integers and rests.
BERTH_BOTH float group_total(float scale, int integers, int rests) {
  return times(scale, fused(to_float(rests), kRestPart, to_float(integers)));
}

// --- weights ---

// The eight elements of a lane: an element is scale x byte + minimum. Minima are those of the whole
// group of 32, so only the lane that holds its first elements has them, and others have 0.
struct Share {
  std::uint32_t words[2];  // of four signed bytes
  float scales[2];
  float minima[2];
};

BERTH_BOTH std::uint32_t of_each(std::uint32_t byte) { return byte * 0x01010101u; }
BERTH_BOTH std::uint32_t lower_nibbles(std::uint32_t word) { return word & of_each(15); }
BERTH_BOTH std::uint32_t upper_nibbles(std::uint32_t word) { return word >> 4 & of_each(15); }
// Subtracts `bias` from four bytes below 128; the results are signed. No byte borrows from another,
// because each has its top bit set in between.
BERTH_BOTH std::uint32_t less(std::uint32_t bytes, std::uint32_t bias) {
  return ((bytes | of_each(0x80)) - of_each(bias)) ^ of_each(0x80);
}
// Bits 0 to 3, each as the fifth bit of a byte: the factor puts bit i at 8 i and keeps all others
// off these places.
BERTH_BOTH std::uint32_t as_fifth_bits(std::uint32_t bits) {
  return ((bits & 15u) * 0x00204081u & of_each(1)) << 4;
}

// Blocks of 32: four lanes have one, and lane `part` of them elements 4 part and 16 + 4 part on.
struct LanesOf32 {
  BERTH_BOTH int group(int lane, int) { return lane / 4; }
  BERTH_BOTH int word(int lane, int which) { return lane % 4 + 4 * which; }
  BERTH_BOTH Share share(std::uint32_t first, std::uint32_t second, float d) {
    return {{first, second}, {d, d}, {0, 0}};
  }
  BERTH_BOTH Share share(std::uint32_t first, std::uint32_t second, float d, float m, int part) {
    return {{first, second}, {d, d}, {part == 0 ? m : 0, 0}};
  }
};
// Blocks of 256 whose bytes hold an element of a group of 32 and one of the next group.
struct LanesOfPairs {
  BERTH_BOTH int group(int lane, int which) { return lane / 8 * 2 + which; }
  BERTH_BOTH int word(int lane, int) { return lane % 8; }
};
// Blocks of Q6_K, whose bytes hold an element of a group and one of the next but one.
struct LanesOfHalves {
  BERTH_BOTH int group(int lane, int which) { return lane / 16 * 4 + lane / 8 % 2 + 2 * which; }
  BERTH_BOTH int word(int lane, int) { return lane % 8; }
};

// Lanes<Block>: which elements of a step a lane has, and share(): their values. `kMinima`: whether
// the format has minima.
template <class Block>
struct Lanes;

template <>
struct Lanes<Q4_0Block> : LanesOf32 {
  static constexpr bool kMinima = false;
  BERTH_BOTH Share share_of(const Byte* block, int part) {
    const std::uint32_t pairs = word_of_halves(block + 2 + 4 * part);
    return share(less(lower_nibbles(pairs), 8), less(upper_nibbles(pairs), 8), half_of(block));
  }
};
template <>
struct Lanes<Q4_1Block> : LanesOf32 {
  static constexpr bool kMinima = true;
  BERTH_BOTH Share share_of(const Byte* block, int part) {
    const std::uint32_t pairs = word_of_halves(block + 4 + 4 * part);
    return share(lower_nibbles(pairs), upper_nibbles(pairs), half_of(block), half_of(block + 2),
                 part);
  }
};
template <>
struct Lanes<Q5_0Block> : LanesOf32 {
  static constexpr bool kMinima = false;
  BERTH_BOTH Share share_of(const Byte* block, int part) {
    const std::uint32_t bits = word_of_halves(block + 2) >> 4 * part;
    const std::uint32_t pairs = word_of_halves(block + 6 + 4 * part);
    return share(less(lower_nibbles(pairs) | as_fifth_bits(bits), 16),
                 less(upper_nibbles(pairs) | as_fifth_bits(bits >> 16), 16), half_of(block));
  }
};
template <>
struct Lanes<Q5_1Block> : LanesOf32 {
  static constexpr bool kMinima = true;
  BERTH_BOTH Share share_of(const Byte* block, int part) {
    const std::uint32_t bits = word_of_halves(block + 4) >> 4 * part;
    const std::uint32_t pairs = word_of_halves(block + 8 + 4 * part);
    return share(lower_nibbles(pairs) | as_fifth_bits(bits),
                 upper_nibbles(pairs) | as_fifth_bits(bits >> 16), half_of(block),
                 half_of(block + 2), part);
  }
};
template <>
struct Lanes<Q8_0Block> : LanesOf32 {
  static constexpr bool kMinima = false;
  BERTH_BOTH Share share_of(const Byte* block, int part) {
    return share(word_of_halves(block + 2 + 4 * part), word_of_halves(block + 18 + 4 * part),
                 half_of(block));
  }
};

// The scales and minima of groups 2 pair and 2 pair + 1 (see k_scale() and k_minimum()), with the
// block's own. Words of a lane stand at 4 (lane % 8) of the groups.
BERTH_BOTH Share share_of_pair(const Byte* block, int lane, std::uint32_t first,
                               std::uint32_t second) {
  const int pair = lane / 8;
  const Byte* scales = block + 4 + 2 * (pair % 2);
  const std::uint32_t low = half_word_at(scales);
  const std::uint32_t middle = half_word_at(scales + 4);
  const std::uint32_t high = half_word_at(scales + 8);
  const std::uint32_t s = pair < 2 ? low & 0x3F3Fu : (high & 0x0F0Fu) | (low >> 2 & 0x3030u);
  const std::uint32_t m =
      pair < 2 ? middle & 0x3F3Fu : (high >> 4 & 0x0F0Fu) | (middle >> 2 & 0x3030u);
  const float d = half_of(block);
  const float dmin = lane % 8 == 0 ? -half_of(block + 2) : 0;
  return {{first, second},
          {times(d, to_float(static_cast<int>(s & 255u))),
           times(d, to_float(static_cast<int>(s >> 8)))},
          {times(dmin, to_float(static_cast<int>(m & 255u))),
           times(dmin, to_float(static_cast<int>(m >> 8)))}};
}
template <>
struct Lanes<Q4_KBlock> : LanesOfPairs {
  static constexpr bool kMinima = true;
  BERTH_BOTH Share share_of(const Byte* block, int lane) {
    const std::uint32_t pairs = word_at(block + 16 + 4 * lane);
    return share_of_pair(block, lane, lower_nibbles(pairs), upper_nibbles(pairs));
  }
};
template <>
struct Lanes<Q5_KBlock> : LanesOfPairs {
  static constexpr bool kMinima = true;
  BERTH_BOTH Share share_of(const Byte* block, int lane) {
    const std::uint32_t pairs = word_at(block + 48 + 4 * lane);
    const std::uint32_t bits = word_at(block + 16 + 4 * (lane % 8)) >> lane / 8 * 2;
    return share_of_pair(block, lane, lower_nibbles(pairs) | (bits & of_each(1)) << 4,
                         upper_nibbles(pairs) | (bits >> 1 & of_each(1)) << 4);
  }
};
template <>
struct Lanes<Q6_KBlock> : LanesOfHalves {
  static constexpr bool kMinima = false;
  BERTH_BOTH Share share_of(const Byte* block, int lane) {
    const int half = lane / 16, run = lane / 8 % 2, four = lane % 8;
    const std::uint32_t pairs = word_of_halves(block + 4 * lane);
    const std::uint32_t bits = word_of_halves(block + 128 + 32 * half + 4 * four) >> 2 * run;
    const Byte* scales = block + 192 + 8 * half + 2 * run + four / 4;
    const float d = half_of(block + 208);
    const std::uint32_t first = lower_nibbles(pairs) | (bits & of_each(3)) << 4;
    const std::uint32_t second = upper_nibbles(pairs) | (bits >> 4 & of_each(3)) << 4;
    return {{less(first, 32), less(second, 32)},
            {times(d, to_float(static_cast<signed char>(scales[0]))),
             times(d, to_float(static_cast<signed char>(scales[4])))},
            {0, 0}};
  }
};

// --- products ---

// The share of `lane` of the step that begins at block `first` of a row of `blocks` blocks. False
// where the row has ended for this lane.
template <class Block>
BERTH_BOTH bool take_share(const Byte* row, std::size_t step, std::size_t blocks, int lane,
                           Share& share) {
  constexpr int kBlocks = kStepColumns / Block::kElements;  // 8 or 1
  constexpr int kParts = kWarpLanes / kBlocks;
  const std::size_t block = step * kBlocks + static_cast<std::size_t>(lane / kParts);
  if (block >= blocks) return false;
  share = Lanes<Block>::share_of(row + block * Block::kBytes, lane % kParts);
  return true;
}

// `sum` with the products of a share and of one position's activations, which begin at `step`.
template <class Block>
BERTH_BOTH float add_share(const Share& share, const ActivationGroup* step, int lane, float sum) {
  int products[2], rests[2];
  for (int which = 0; which < 2; ++which) {
    const ActivationGroup& group = step[Lanes<Block>::group(lane, which)];
    const Byte* planes = group.planes + 12 * Lanes<Block>::word(lane, which);
    const std::uint32_t weights = share.words[which];
    products[which] =
        dot_of_four(weights, word_at(planes + 4), 256 * dot_of_four(weights, word_at(planes), 0));
    rests[which] = dot_of_four(weights, word_at(planes + 8), 0);
  }
  const ActivationGroup& first = step[Lanes<Block>::group(lane, 0)];
  if (Block::kElements == 32) {
    const float both =
        fused(to_float(rests[0] + rests[1]), kRestPart, to_float(products[0] + products[1]));
    sum = fused(times(share.scales[0], first.scale), both, sum);
    return Lanes<Block>::kMinima ? fused(share.minima[0], first.total, sum) : sum;
  }
  const ActivationGroup& second = step[Lanes<Block>::group(lane, 1)];
  sum = fused(times(share.scales[0], first.scale),
              fused(to_float(rests[0]), kRestPart, to_float(products[0])), sum);
  sum = fused(times(share.scales[1], second.scale),
              fused(to_float(rests[1]), kRestPart, to_float(products[1])), sum);
  if (!Lanes<Block>::kMinima) return sum;
  return fused(share.minima[1], second.total, fused(share.minima[0], first.total, sum));
}

// How many warps divide the steps of a row among them: warp w takes steps w, w + warps and so on.
// It follows from the number of steps alone, so a matrix has one order of summation.
BERTH_BOTH int warps_of_row(std::size_t steps) { return steps >= 8 ? 4 : 1; }
constexpr int kMostWarpsOfRow = 4;

}  // namespace berth
