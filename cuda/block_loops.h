// The host's loops over blocks. They are compiled once for each instruction set, by a source file
// that defines BERTH_BLOCK_LOOPS (the name of the function) and includes this one. A block is first
// taken apart into small integers, which are then scaled and then narrowed. These are loops of
// fixed length, which a compiler runs in vector registers. Everything but that function has
// internal linkage.
#include "cuda/block_bits.h"
#include "cuda/block_format.h"

namespace berth {
namespace {

void low_then_high(const Byte* nibbles, int count, int* q) {
  for (int i = 0; i < count; ++i) q[i] = nibbles[i] & 15;
  for (int i = 0; i < count; ++i) q[count + i] = nibbles[i] >> 4;
}

void add_bits_of_32(const Byte* bits, int* q) {
  std::uint32_t word;
  memcpy(&word, bits, sizeof word);
  for (int i = 0; i < 32; ++i) q[i] |= static_cast<int>(word >> i & 1u) << 4;
}

void scale(const int* q, int count, int bias, float d, float* out) {
  for (int i = 0; i < count; ++i) out[i] = to_float(q[i] - bias) * d;
}
void scale_and_add(const int* q, int count, float d, float m, float* out) {
  for (int i = 0; i < count; ++i) out[i] = to_float(q[i]) * d + m;
}

void unpack(Q4_0Block, const Byte* block, float* out) {
  int q[32];
  low_then_high(block + 2, 16, q);
  scale(q, 32, 8, half_at(block), out);
}
void unpack(Q4_1Block, const Byte* block, float* out) {
  int q[32];
  low_then_high(block + 4, 16, q);
  scale_and_add(q, 32, half_at(block), half_at(block + 2), out);
}
void unpack(Q5_0Block, const Byte* block, float* out) {
  int q[32];
  low_then_high(block + 6, 16, q);
  add_bits_of_32(block + 2, q);
  scale(q, 32, 16, half_at(block), out);
}
void unpack(Q5_1Block, const Byte* block, float* out) {
  int q[32];
  low_then_high(block + 8, 16, q);
  add_bits_of_32(block + 4, q);
  scale_and_add(q, 32, half_at(block), half_at(block + 2), out);
}
void unpack(Q8_0Block, const Byte* block, float* out) {
  int q[32];
  for (int i = 0; i < 32; ++i) q[i] = static_cast<signed char>(block[2 + i]);
  scale(q, 32, 0, half_at(block), out);
}

// Scales elements 32 j to 32 j + 31 of a Q4_K or Q5_K block.
void scale_k(const Byte* block, int j, const int* q, float* out) {
  const float d = half_at(block) * to_float(k_scale(block + 4, j));
  const float m = half_at(block + 2) * to_float(k_minimum(block + 4, j));
  scale_and_add(q, 32, d, -m, out);
}
void unpack(Q4_KBlock, const Byte* block, float* out) {
  for (int pair = 0; pair < 4; ++pair) {
    int q[64];
    low_then_high(block + 16 + 32 * pair, 32, q);
    scale_k(block, 2 * pair, q, out + 64 * pair);
    scale_k(block, 2 * pair + 1, q + 32, out + 64 * pair + 32);
  }
}
void unpack(Q5_KBlock, const Byte* block, float* out) {
  for (int pair = 0; pair < 4; ++pair) {
    int q[64];
    low_then_high(block + 48 + 32 * pair, 32, q);
    for (int i = 0; i < 32; ++i) q[i] |= (block[16 + i] >> 2 * pair & 1) << 4;
    for (int i = 0; i < 32; ++i) q[32 + i] |= (block[16 + i] >> (2 * pair + 1) & 1) << 4;
    scale_k(block, 2 * pair, q, out + 64 * pair);
    scale_k(block, 2 * pair + 1, q + 32, out + 64 * pair + 32);
  }
}
// 16 elements of a Q6_K block: four bits of each, two more above them, and their scale `s`. Because
// the shifts are constants and nothing is kept between the steps, a compiler does all of it in
// vector registers.
template <int kLowShift, int kHighShift>
void six_bits(const Byte* low, const Byte* high, float s, float* __restrict out) {
#pragma GCC unroll 1  // if it were unrolled first, it would not be vectorised
  for (int i = 0; i < 16; ++i) {
    const int q = (low[i] >> kLowShift & 15) | (high[i] >> kHighShift & 3) << 4;
    out[i] = to_float(q - 32) * s;
  }
}
void unpack(Q6_KBlock, const Byte* block, float* out) {
  const float d = half_at(block + 208);
  for (int half = 0; half < 2; ++half, out += 128) {
    for (int sixteen = 0; sixteen < 2; ++sixteen) {  // the first or the last 16 of each run
      const Byte* low = block + 64 * half + 16 * sixteen;
      const Byte* high = block + 128 + 32 * half + 16 * sixteen;
      const auto s = [&](int run) {
        return d * to_float(static_cast<signed char>(block[192 + 8 * half + 2 * run + sixteen]));
      };
      six_bits<0, 0>(low, high, s(0), out + 16 * sixteen);
      six_bits<0, 2>(low + 32, high, s(1), out + 32 + 16 * sixteen);
      six_bits<4, 4>(low, high, s(2), out + 64 + 16 * sixteen);
      six_bits<4, 6>(low + 32, high, s(3), out + 96 + 16 * sixteen);
    }
  }
}

template <class Block, class To>
void block_loop(const void* from, void* to, std::size_t blocks) {
  const auto* block = static_cast<const Byte*>(from);
  auto* out = static_cast<typename To::Bits*>(to);
  for (std::size_t b = 0; b < blocks; ++b, block += Block::kBytes, out += Block::kElements) {
    float values[Block::kElements];
    unpack(Block(), block, values);
    for (int i = 0; i < Block::kElements; ++i) out[i] = To::narrow(values[i]);
  }
}

template <class Block>
void block_to(const void* from, void* to, FloatFormat to_format, std::size_t blocks) {
  switch (to_format) {
    case FloatFormat::kBF16:
      return block_loop<Block, BF16Bits>(from, to, blocks);
    case FloatFormat::kF16:
      return block_loop<Block, F16Bits>(from, to, blocks);
    case FloatFormat::kF32:
      return block_loop<Block, F32Bits>(from, to, blocks);
    case FloatFormat::kF64:
      return block_loop<Block, F64Bits>(from, to, blocks);
  }
}

}  // namespace

void BERTH_BLOCK_LOOPS(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                       std::size_t blocks) {
  switch (format) {
    case BlockFormat::kQ4_0:
      return block_to<Q4_0Block>(from, to, to_format, blocks);
    case BlockFormat::kQ4_1:
      return block_to<Q4_1Block>(from, to, to_format, blocks);
    case BlockFormat::kQ5_0:
      return block_to<Q5_0Block>(from, to, to_format, blocks);
    case BlockFormat::kQ5_1:
      return block_to<Q5_1Block>(from, to, to_format, blocks);
    case BlockFormat::kQ8_0:
      return block_to<Q8_0Block>(from, to, to_format, blocks);
    case BlockFormat::kQ4_K:
      return block_to<Q4_KBlock>(from, to, to_format, blocks);
    case BlockFormat::kQ5_K:
      return block_to<Q5_KBlock>(from, to, to_format, blocks);
    case BlockFormat::kQ6_K:
      return block_to<Q6_KBlock>(from, to, to_format, blocks);
  }
}

}  // namespace berth
