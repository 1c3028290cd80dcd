#include "runtime/kernels/block_tiles.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "cuda/block_bits.h"
#include "runtime/kernels/tiles.h"

namespace berth {
namespace {

// One stored block, taken apart: the elements as numbers from 0 on, before bias and scale.
struct Block {
  std::uint16_t scale = 0;    // f16
  std::uint16_t minimum = 0;  // f16
  Byte scales[16] = {};       // scales of scales, as they are stored: 12 or 16 bytes
  Byte q[256] = {};
};

std::uint16_t bits_at(const Byte* bytes) {
  return static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8);
}

// `count` bytes of nibbles: the low ones come first.
void low_then_high(const Byte* nibbles, std::size_t count, Byte* q) {
  for (std::size_t i = 0; i < count; ++i) q[i] = nibbles[i] & 15;
  for (std::size_t i = 0; i < count; ++i) q[count + i] = nibbles[i] >> 4;
}

void add_fifth_bits(const Byte* bits, Byte* q) {
  for (std::size_t i = 0; i < 32; ++i) q[i] |= static_cast<Byte>((bits[i / 8] >> i % 8 & 1) << 4);
}

void unpack_q6_k(const Byte* stored, Block& block) {
  for (std::size_t half = 0; half < 2; ++half) {
    const Byte* low = stored + 64 * half;
    const Byte* high = stored + 128 + 32 * half;
    Byte* q = block.q + 128 * half;
    for (std::size_t i = 0; i < 32; ++i) {
      q[i] = static_cast<Byte>((low[i] & 15) | (high[i] & 3) << 4);
      q[i + 32] = static_cast<Byte>((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
      q[i + 64] = static_cast<Byte>(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
      q[i + 96] = static_cast<Byte>(low[i + 32] >> 4 | (high[i] >> 6 & 3) << 4);
    }
  }
  std::memcpy(block.scales, stored + 192, 16);
  block.scale = bits_at(stored + 208);
}

// ggml-common.h has the blocks, and ggml-quants.c the functions dequantize_row_*.
Block unpack(MatrixFormat format, const Byte* stored) {
  Block block;
  if (format == MatrixFormat::kQ6_K) {
    unpack_q6_k(stored, block);
    return block;
  }
  if (format == MatrixFormat::kMxfp4) {
    block.scale = stored[0];  // an exponent
    low_then_high(stored + 1, 16, block.q);
    return block;
  }
  const bool has_minimum = tile_shape(format).has_minimum;
  block.scale = bits_at(stored);
  if (has_minimum) block.minimum = bits_at(stored + 2);
  const Byte* rest = stored + (has_minimum ? 4 : 2);
  switch (format) {
    case MatrixFormat::kQ8_0:
      for (std::size_t i = 0; i < 32; ++i) block.q[i] = rest[i] ^ 0x80;  // + 128
      break;
    case MatrixFormat::kQ4_0:
    case MatrixFormat::kQ4_1:
      low_then_high(rest, 16, block.q);
      break;
    case MatrixFormat::kQ5_0:
    case MatrixFormat::kQ5_1:
      low_then_high(rest + 4, 16, block.q);
      add_fifth_bits(rest, block.q);
      break;
    case MatrixFormat::kQ4_K:
      std::memcpy(block.scales, rest, 12);
      for (std::size_t p = 0; p < 4; ++p) low_then_high(rest + 12 + 32 * p, 32, block.q + 64 * p);
      break;
    case MatrixFormat::kQ5_K:
      std::memcpy(block.scales, rest, 12);
      for (std::size_t p = 0; p < 4; ++p) {
        Byte* q = block.q + 64 * p;
        low_then_high(rest + 44 + 32 * p, 32, q);
        for (std::size_t i = 0; i < 32; ++i) {
          q[i] |= static_cast<Byte>((rest[12 + i] >> 2 * p & 1) << 4);
          q[32 + i] |= static_cast<Byte>((rest[12 + i] >> (2 * p + 1) & 1) << 4);
        }
      }
      break;
    default:
      break;
  }
  return block;
}

void put_half(Byte* at, std::size_t row, std::uint16_t half) {
  at[2 * row] = static_cast<Byte>(half);
  at[2 * row + 1] = static_cast<Byte>(half >> 8);
}

bool has_fifth_bit(MatrixFormat format) {
  return format == MatrixFormat::kQ5_0 || format == MatrixFormat::kQ5_1 ||
         format == MatrixFormat::kQ5_K;
}

// Four elements of a row: an element in each byte.
std::uint32_t word_at(const Byte* bytes) {
  std::uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}
void put_word(Byte* at, std::uint32_t word) { std::memcpy(at, &word, sizeof word); }
std::uint32_t bits_of_each(std::uint32_t word, std::uint32_t mask) {
  return word & (mask * 0x01010101u);
}

// Bytes that 32 elements of 16 rows take.
std::size_t element_bytes(MatrixFormat format) {
  if (format == MatrixFormat::kQ8_0) return 8 * kGroupBytes;
  return kNibbleBytes + (has_fifth_bit(format) ? kFifthBitBytes : 0) +
         (format == MatrixFormat::kQ6_K ? kUpperBitsBytes : 0);
}

// Writes 32 elements of one row, of a format with blocks of 256.
void put_elements(MatrixFormat format, const Byte* q, std::size_t row, Byte* out) {
  Byte* const own = out + 4 * row;
  for (std::size_t j = 0; j < 4; ++j) {
    put_word(own + j * kGroupBytes,
             bits_of_each(word_at(q + 4 * j), 15) | bits_of_each(word_at(q + 4 * j + 16), 15) << 4);
  }
  std::uint32_t fifth = 0;
  std::uint32_t upper[2] = {};
  for (std::size_t j = 0; j < 8; ++j) {
    const std::uint32_t above = word_at(q + 4 * j) >> 4;
    fifth |= bits_of_each(above, 1) << j;
    upper[j / 4] |= bits_of_each(above, 3) << 2 * (j % 4);
  }
  if (has_fifth_bit(format)) put_word(own + kNibbleBytes, fifth);
  if (format == MatrixFormat::kQ6_K) {
    put_word(own + kNibbleBytes, upper[0]);
    put_word(own + kNibbleBytes + kGroupBytes, upper[1]);
  }
}

// The opposite, for all formats with blocks.
void get_elements(MatrixFormat format, const Byte* in, std::size_t row, Byte* q) {
  const Byte* const own = in + 4 * row;
  for (std::size_t j = 0; j < 8; ++j) {
    std::uint32_t word = 0;
    if (format == MatrixFormat::kQ8_0) {
      word = word_at(own + j * kGroupBytes);
    } else {
      word = bits_of_each(word_at(own + j % 4 * kGroupBytes) >> (j < 4 ? 0 : 4), 15);
      if (has_fifth_bit(format)) word |= bits_of_each(word_at(own + kNibbleBytes) >> j, 1) << 4;
      if (format == MatrixFormat::kQ6_K) {
        const std::uint32_t upper = word_at(own + kNibbleBytes + j / 4 * kGroupBytes);
        word |= bits_of_each(upper >> 2 * (j % 4), 3) << 4;
      }
    }
    put_word(q + 4 * j, word);
  }
}

// How many bytes a row has for the scales of scales of an entry.
std::size_t scale_bytes(MatrixFormat format) {
  if (tile_shape(format).unit == 32) return 0;
  return format == MatrixFormat::kQ6_K ? 16 : 12;
}

// Writes one block of 256 elements of one row to its entry of a tile.
void put_block(MatrixFormat format, const Block& block, std::size_t row, Byte* entry) {
  const TileShape shape = tile_shape(format);
  put_half(entry, row, block.scale);
  entry += kHalfBytes;
  if (shape.has_minimum) {
    put_half(entry, row, block.minimum);
    entry += kHalfBytes;
  }
  for (std::size_t s = 0; s < scale_bytes(format); ++s, entry += kTileRows) {
    entry[row] = block.scales[s];
  }
  for (std::size_t e = 0; e < shape.unit; e += 32, entry += element_bytes(format)) {
    put_elements(format, block.q + e, row, entry);
  }
}

// The opposite, for all formats with blocks.
Block get_block(MatrixFormat format, const Byte* entry, std::size_t row) {
  const TileShape shape = tile_shape(format);
  Block block;
  if (format == MatrixFormat::kMxfp4) {
    block.scale = entry[row];
    get_elements(format, entry + kTileRows, row, block.q);
    return block;
  }
  block.scale = bits_at(entry + 2 * row);
  entry += kHalfBytes;
  if (shape.has_minimum) {
    block.minimum = bits_at(entry + 2 * row);
    entry += kHalfBytes;
  }
  for (std::size_t s = 0; s < scale_bytes(format); ++s, entry += kTileRows) {
    block.scales[s] = entry[row];
  }
  for (std::size_t e = 0; e < shape.unit; e += 32, entry += element_bytes(format)) {
    get_elements(format, entry, row, block.q + e);
  }
  return block;
}

// The four lowest bits of `bits`, one in each byte.
std::uint32_t bit_in_each(std::uint32_t bits) { return ((bits & 15) * 0x00204081u) & 0x01010101u; }

// Moves a stored block of 32 elements of one row to its entry of a tile, a word at a time. Its
// nibbles are stored in the order that tiles have.
void move_small_block(MatrixFormat format, const Byte* stored, std::size_t row, Byte* entry) {
  if (format == MatrixFormat::kMxfp4) {
    entry[row] = stored[0];
    for (std::size_t j = 0; j < 4; ++j) {
      put_word(entry + kTileRows + 4 * row + j * kGroupBytes, word_at(stored + 1 + 4 * j));
    }
    return;
  }
  put_half(entry, row, bits_at(stored));
  stored += 2;
  entry += kHalfBytes;
  if (tile_shape(format).has_minimum) {
    put_half(entry, row, bits_at(stored));
    stored += 2;
    entry += kHalfBytes;
  }
  entry += 4 * row;
  if (format == MatrixFormat::kQ8_0) {
    for (std::size_t j = 0; j < 8; ++j) {
      put_word(entry + j * kGroupBytes, word_at(stored + 4 * j) ^ 0x80808080u);  // + 128
    }
    return;
  }
  if (has_fifth_bit(format)) {
    const std::uint32_t bits = word_at(stored);
    std::uint32_t fifth = 0;
    for (std::size_t j = 0; j < 8; ++j) fifth |= bit_in_each(bits >> 4 * j) << j;
    put_word(entry + kNibbleBytes, fifth);
    stored += 4;
  }
  for (std::size_t j = 0; j < 4; ++j) put_word(entry + j * kGroupBytes, word_at(stored + 4 * j));
}

// The opposites of all this, for taking tiles apart.
// `count` bytes of nibbles of the four lowest bits: the first `count` elements become the low ones.
void to_nibbles(const Byte* q, std::size_t count, Byte* nibbles) {
  for (std::size_t i = 0; i < count; ++i) {
    nibbles[i] = static_cast<Byte>((q[i] & 15) | (q[count + i] & 15) << 4);
  }
}

void pack_q6_k(const Block& block, Byte* stored) {
  for (std::size_t half = 0; half < 2; ++half) {
    const Byte* q = block.q + 128 * half;
    Byte* low = stored + 64 * half;
    Byte* high = stored + 128 + 32 * half;
    for (std::size_t i = 0; i < 32; ++i) {
      low[i] = static_cast<Byte>((q[i] & 15) | (q[i + 64] & 15) << 4);
      low[i + 32] = static_cast<Byte>((q[i + 32] & 15) | (q[i + 96] & 15) << 4);
      high[i] = static_cast<Byte>(q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 |
                                  q[i + 96] >> 4 << 6);
    }
  }
  std::memcpy(stored + 192, block.scales, 16);
  put_half(stored + 208, 0, block.scale);
}

// Of formats with blocks of 256 elements.
void pack_block(MatrixFormat format, const Block& block, Byte* stored) {
  if (format == MatrixFormat::kQ6_K) {
    pack_q6_k(block, stored);
    return;
  }
  put_half(stored, 0, block.scale);
  put_half(stored, 1, block.minimum);
  std::memcpy(stored + 4, block.scales, 12);
  const bool fifth = format == MatrixFormat::kQ5_K;
  Byte* const nibbles = stored + (fifth ? 48 : 16);
  for (std::size_t p = 0; p < 4; ++p) to_nibbles(block.q + 64 * p, 32, nibbles + 32 * p);
  if (!fifth) return;
  for (std::size_t i = 0; i < 32; ++i) {
    unsigned bits = 0;
    for (std::size_t e = 0; e < 8; ++e) bits |= (block.q[32 * e + i] >> 4 & 1u) << e;
    stored[16 + i] = static_cast<Byte>(bits);
  }
}

// The lowest bit of each byte.
std::uint32_t bits_together(std::uint32_t bytes) {
  return ((bytes & 0x01010101u) * 0x10204080u) >> 28;
}

void unmove_small_block(MatrixFormat format, const Byte* entry, std::size_t row, Byte* stored) {
  if (format == MatrixFormat::kMxfp4) {
    stored[0] = entry[row];
    for (std::size_t j = 0; j < 4; ++j) {
      put_word(stored + 1 + 4 * j, word_at(entry + kTileRows + 4 * row + j * kGroupBytes));
    }
    return;
  }
  const std::size_t halves = tile_shape(format).has_minimum ? 2 : 1;
  for (std::size_t h = 0; h < halves; ++h, stored += 2, entry += kHalfBytes) {
    std::memcpy(stored, entry + 2 * row, 2);
  }
  entry += 4 * row;
  if (format == MatrixFormat::kQ8_0) {
    for (std::size_t j = 0; j < 8; ++j) {
      put_word(stored + 4 * j, word_at(entry + j * kGroupBytes) ^ 0x80808080u);  // - 128
    }
    return;
  }
  if (has_fifth_bit(format)) {
    const std::uint32_t fifth = word_at(entry + kNibbleBytes);
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 8; ++j) bits |= bits_together(fifth >> j) << 4 * j;
    put_word(stored, bits);
    stored += 4;
  }
  for (std::size_t j = 0; j < 4; ++j) put_word(stored + 4 * j, word_at(entry + j * kGroupBytes));
}

// Elements in float32, by ggml's formulas: each product and each sum is rounded.
void dequantize(MatrixFormat format, const Block& block, float* out) {
  const TileShape shape = tile_shape(format);
  if (format == MatrixFormat::kMxfp4) {
    const float scale = power_of_two(static_cast<std::uint8_t>(block.scale));
    for (std::size_t i = 0; i < shape.unit; ++i) {
      out[i] = 0.5F * static_cast<float>(kE2M1Codes[block.q[i]] - shape.bias) * scale;
    }
    return;
  }
  const float d = f16_to_float(block.scale);
  const float m = f16_to_float(block.minimum);
  for (std::size_t i = 0; i < shape.unit; ++i) {
    const auto j = static_cast<int>(i / shape.scaled);
    const auto q = static_cast<float>(block.q[i] - shape.bias);
    float scale = d;
    float minimum = m;
    if (format == MatrixFormat::kQ6_K) {
      scale = d * static_cast<float>(static_cast<std::int8_t>(block.scales[j]));
    } else if (shape.unit == 256) {
      scale = d * static_cast<float>(k_scale(block.scales, j));
      minimum = -(m * static_cast<float>(k_minimum(block.scales, j)));
    }
    out[i] = q * scale;
    if (shape.has_minimum) out[i] = out[i] + minimum;
  }
}

}  // namespace

void move_block(MatrixFormat format, const std::byte* stored, std::size_t row, std::byte* entry) {
  const auto* const from = reinterpret_cast<const Byte*>(stored);
  auto* const to = reinterpret_cast<Byte*>(entry);
  if (tile_shape(format).unit == 32) {
    move_small_block(format, from, row, to);
  } else {
    put_block(format, unpack(format, from), row, to);
  }
}

void unmove_block(MatrixFormat format, const std::byte* entry, std::size_t row, std::byte* stored) {
  const auto* const from = reinterpret_cast<const Byte*>(entry);
  auto* const to = reinterpret_cast<Byte*>(stored);
  if (tile_shape(format).unit == 32) {
    unmove_small_block(format, from, row, to);
  } else {
    pack_block(format, get_block(format, from, row), to);
  }
}

float power_of_two(std::uint8_t exponent) {
  if (exponent == 255) return std::numeric_limits<float>::quiet_NaN();
  return float_of(exponent == 0 ? 0x00400000u : std::uint32_t{exponent} << 23);
}

void read_block(MatrixFormat format, const std::byte* stored, float* out) {
  dequantize(format, unpack(format, reinterpret_cast<const Byte*>(stored)), out);
}

void read_entry(MatrixFormat format, const std::byte* entry, std::size_t row, float* out) {
  dequantize(format, get_block(format, reinterpret_cast<const Byte*>(entry), row), out);
}

}  // namespace berth
