#include "runtime/kernels/matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda/block_bits.h"
#include "cuda/cast.h"
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

// Moves a stored block of one row to its entry of a tile.
void move_block(MatrixFormat format, const Byte* stored, std::size_t row, Byte* entry) {
  if (tile_shape(format).unit == 32) {
    move_small_block(format, stored, row, entry);
  } else {
    put_block(format, unpack(format, stored), row, entry);
  }
}

// Elements in float32, by ggml's formulas: each product and each sum is rounded.
void dequantize(MatrixFormat format, const Block& block, float* out) {
  const TileShape shape = tile_shape(format);
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

constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                            DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                            DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

FloatFormat float_format(MatrixFormat format) {
  return format == MatrixFormat::kF32   ? FloatFormat::kF32
         : format == MatrixFormat::kF16 ? FloatFormat::kF16
                                        : FloatFormat::kBF16;
}

DTypeBlock stored_block(MatrixFormat format) {
  return dtype_block(kTypes[static_cast<std::size_t>(format)]);
}

}  // namespace

std::optional<MatrixFormat> matrix_format(DType dtype) {
  const auto* const found = std::find(std::begin(kTypes), std::end(kTypes), dtype);
  if (found == std::end(kTypes)) return std::nullopt;
  return static_cast<MatrixFormat>(found - std::begin(kTypes));
}

std::size_t block_elements(MatrixFormat format) { return stored_block(format).elements; }

std::size_t stored_row_bytes(MatrixFormat format, std::size_t columns) {
  const DTypeBlock block = stored_block(format);
  return columns / block.elements * block.bytes;
}

void make_tile(MatrixFormat format, const std::byte* stored, std::size_t rows, std::size_t columns,
               std::byte* tile) {
  const TileShape shape = tile_shape(format);
  const std::size_t block_bytes = stored_block(format).bytes;
  const std::size_t row_bytes = stored_row_bytes(format, columns);
  if (rows < kTileRows) std::memset(tile, 0, kTileRows * row_bytes);
  for (std::size_t block = 0; block < columns / shape.unit; ++block) {
    Byte* entry = reinterpret_cast<Byte*>(tile) + block * shape.bytes;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::byte* from = stored + row * row_bytes + block * block_bytes;
      move_block(format, reinterpret_cast<const Byte*>(from), row, entry);
    }
  }
}

void tile_in_place(Matrix& matrix, ThreadTeam& team) {
  if (!is_tiled(matrix.format)) return;
  const std::size_t bytes = kTileRows * stored_row_bytes(matrix.format, matrix.columns);
  const std::size_t first = matrix.tiled_rows / kTileRows;
  const std::size_t tiles = matrix.rows / kTileRows - first;
  auto* const data = const_cast<std::byte*>(matrix.data) + first * bytes;
  const std::size_t parts = team.parts(tiles, 1);
  team.run(parts, [&](std::size_t part, std::size_t) {
    std::vector<std::byte> stored(bytes);
    for (std::size_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {
      std::memcpy(stored.data(), data + t * bytes, bytes);
      make_tile(matrix.format, stored.data(), kTileRows, matrix.columns, data + t * bytes);
    }
  });
  matrix.tiled_rows = matrix.rows / kTileRows * kTileRows;
}

void tile_stretch(const MatrixShape& shape, const std::byte* stored, std::size_t at,
                  std::size_t bytes, std::byte* matrix) {
  const std::size_t row_bytes = stored_row_bytes(shape.format, shape.columns);
  const std::size_t tiled_bytes = shape.tiled_rows() * row_bytes;
  if (at + bytes > tiled_bytes) {  // the last rows stay as they are stored
    const std::size_t skipped = at < tiled_bytes ? tiled_bytes - at : 0;
    std::memcpy(matrix + at + skipped, stored + skipped, bytes - skipped);
    bytes = skipped;
  }
  const TileShape tile = tile_shape(shape.format);
  const std::size_t block_bytes = stored_block(shape.format).bytes;
  const std::size_t blocks = row_bytes / block_bytes;
  const std::size_t first = at / block_bytes;
  std::size_t row = first / blocks;
  std::size_t block = first % blocks;
  for (std::size_t done = 0; done < bytes; done += block_bytes) {
    std::byte* const own = matrix + row / kTileRows * kTileRows * row_bytes + block * tile.bytes;
    const auto* const from = reinterpret_cast<const Byte*>(stored + done);
    move_block(shape.format, from, row % kTileRows, reinterpret_cast<Byte*>(own));
    if (++block == blocks) {
      block = 0;
      ++row;
    }
  }
}

void read_row(const Matrix& matrix, std::size_t row, float* out) {
  const std::size_t row_bytes = stored_row_bytes(matrix.format, matrix.columns);
  const auto* const data = reinterpret_cast<const Byte*>(matrix.data);
  if (!is_tiled(matrix.format)) {
    cast_on_host(data + row * row_bytes, float_format(matrix.format), out, FloatFormat::kF32,
                 matrix.columns);
    return;
  }
  const TileShape shape = tile_shape(matrix.format);
  const std::size_t block_bytes = stored_block(matrix.format).bytes;
  const Byte* const tile = data + row / kTileRows * kTileRows * row_bytes;
  for (std::size_t b = 0; b < matrix.columns / shape.unit; ++b) {
    const Block block = row < matrix.tiled_rows
                            ? get_block(matrix.format, tile + b * shape.bytes, row % kTileRows)
                            : unpack(matrix.format, data + row * row_bytes + b * block_bytes);
    dequantize(matrix.format, block, out + b * shape.unit);
  }
}

}  // namespace berth
