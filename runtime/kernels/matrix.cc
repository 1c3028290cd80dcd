#include "runtime/kernels/matrix.h"

#include <algorithm>
#include <cstring>

#include "runtime/kernels/tiles.h"

namespace berth {
namespace {

using Byte = std::uint8_t;

// One stored block, taken apart: the elements as numbers from 0 on, before bias and scale.
struct Block {
  std::uint16_t scale = 0;    // f16
  std::uint16_t minimum = 0;  // f16
  Byte scales[16] = {};       // of the K formats, by 32 or 16 elements
  Byte minima[8] = {};
  Byte q[256] = {};
};

std::uint16_t half_at(const Byte* bytes) {
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

// Eight 6-bit scales and eight 6-bit minima in 12 bytes (ggml's get_scale_min_k4).
void unpack_k_scales(const Byte* packed, Block& block) {
  for (std::size_t j = 0; j < 4; ++j) {
    block.scales[j] = packed[j] & 63;
    block.minima[j] = packed[j + 4] & 63;
    block.scales[j + 4] = static_cast<Byte>((packed[j + 8] & 15) | packed[j] >> 6 << 4);
    block.minima[j + 4] = static_cast<Byte>(packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4);
  }
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
  block.scale = half_at(stored + 208);
}

// ggml-common.h has the blocks, and ggml-quants.c the functions dequantize_row_*.
Block unpack(MatrixFormat format, const Byte* stored) {
  Block block;
  if (format == MatrixFormat::kQ6_K) {
    unpack_q6_k(stored, block);
    return block;
  }
  const bool has_minimum = tile_shape(format).has_minimum;
  block.scale = half_at(stored);
  if (has_minimum) block.minimum = half_at(stored + 2);
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
      unpack_k_scales(rest, block);
      for (std::size_t p = 0; p < 4; ++p) low_then_high(rest + 12 + 32 * p, 32, block.q + 64 * p);
      break;
    case MatrixFormat::kQ5_K:
      unpack_k_scales(rest, block);
      for (std::size_t p = 0; p < 4; ++p) {
        Byte* q = block.q + 64 * p;
        low_then_high(rest + 44 + 32 * p, 32, q);
        for (std::size_t i = 0; i < 64; ++i) {
          const std::size_t bit = 2 * p + i / 32;
          q[i] |= static_cast<Byte>((rest[12 + i % 32] >> bit & 1) << 4);
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

// Adds 32 elements of one row to zeroed bytes. Returns how many bytes 16 rows of them take.
std::size_t put_elements(MatrixFormat format, const Byte* q, std::size_t row, Byte* out) {
  if (format == MatrixFormat::kQ8_0) {
    for (std::size_t e = 0; e < 32; ++e) out[e / 4 * kGroupBytes + 4 * row + e % 4] = q[e];
    return 8 * kGroupBytes;
  }
  const bool fifth = format == MatrixFormat::kQ5_0 || format == MatrixFormat::kQ5_1 ||
                     format == MatrixFormat::kQ5_K;
  const bool upper = format == MatrixFormat::kQ6_K;
  Byte* const more = out + kNibbleBytes;
  for (std::size_t e = 0; e < 32; ++e) {
    const std::size_t word = e / 4;
    const std::size_t within = 4 * row + e % 4;
    const int shift = word < 4 ? 0 : 4;
    out[word % 4 * kGroupBytes + within] |= static_cast<Byte>((q[e] & 15) << shift);
    if (fifth) more[within] |= static_cast<Byte>(q[e] >> 4 << word);
    if (upper) {
      more[word / 4 * kGroupBytes + within] |= static_cast<Byte>(q[e] >> 4 << 2 * (word % 4));
    }
  }
  return kNibbleBytes + (fifth ? kFifthBitBytes : 0) + (upper ? kUpperBitsBytes : 0);
}

// Adds one block of one row to its entry of a tile.
void put_block(MatrixFormat format, const Block& block, std::size_t row, Byte* entry) {
  const TileShape shape = tile_shape(format);
  put_half(entry, row, block.scale);
  entry += kHalfBytes;
  if (shape.has_minimum) {
    put_half(entry, row, block.minimum);
    entry += kHalfBytes;
  }
  if (shape.unit == 256) {
    const std::size_t scales = shape.unit / shape.scaled;
    for (std::size_t s = 0; s < scales; ++s) entry[s * kTileRows + row] = block.scales[s];
    entry += scales * kTileRows;
    if (shape.has_minimum) {
      for (std::size_t s = 0; s < scales; ++s) entry[s * kTileRows + row] = block.minima[s];
      entry += scales * kTileRows;
    }
  }
  for (std::size_t e = 0; e < shape.unit; e += 32) {
    entry += put_elements(format, block.q + e, row, entry);
  }
}

constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                            DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                            DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

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

std::size_t tile_bytes(MatrixFormat format, std::size_t columns) {
  if (!is_tiled(format)) return kTileRows * stored_row_bytes(format, columns);
  const TileShape shape = tile_shape(format);
  return columns / shape.unit * shape.bytes;
}

std::size_t matrix_bytes(MatrixFormat format, std::size_t rows, std::size_t columns) {
  if (!is_tiled(format)) return rows * stored_row_bytes(format, columns);
  return (rows + kTileRows - 1) / kTileRows * tile_bytes(format, columns);
}

void make_tile(MatrixFormat format, const std::byte* stored, std::size_t rows, std::size_t columns,
               std::byte* tile) {
  const TileShape shape = tile_shape(format);
  const std::size_t block_bytes = stored_block(format).bytes;
  const std::size_t row_bytes = stored_row_bytes(format, columns);
  std::memset(tile, 0, tile_bytes(format, columns));
  for (std::size_t block = 0; block < columns / shape.unit; ++block) {
    Byte* entry = reinterpret_cast<Byte*>(tile) + block * shape.bytes;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::byte* from = stored + row * row_bytes + block * block_bytes;
      put_block(format, unpack(format, reinterpret_cast<const Byte*>(from)), row, entry);
    }
  }
}

}  // namespace berth
