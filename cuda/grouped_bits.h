// What one lane of a warp computes of a product with a matrix in tiles of grouped formats
// (group_tile.h). Compiled for the device and for the host, whose emulation of a warp
// (grouped_product_cpu.cc) gives the same bits.
//
// In one step a warp takes 512 bytes of elements of a tile, so that neighbouring lanes ask for
// neighbouring bytes: two cells of 4-bit codes, of which a lane takes 16 bytes, eight columns of
// four rows; or one cell of FP8, of which a lane takes four words, four columns of four rows. Four
// rows for each activation that is read: those come out of the cache, and there is most of them.
#pragma once

#include "cuda/group_tile.h"
#include "cuda/packed_bits.h"

namespace berth {

constexpr int kTileSums = 4;  // rows of a lane: those from 4 (lane % 4) on
constexpr int kRowsOfTile = 16;
constexpr int kGroupedWarps = 8;  // that divide the steps of a tile among them
constexpr std::size_t kStepBytes = 512;

// The sizes of a matrix in steps and entries.
struct GroupedSizes {
  std::size_t tile_bytes;
  std::size_t entry_bytes;
  std::size_t cells;  // of a row
  std::size_t steps;  // likewise
  unsigned shift;     // a group has 2^shift cells
};

BERTH_BOTH GroupedSizes grouped_sizes(const GroupTile& tile, std::size_t columns) {
  const std::size_t cells = columns / kCellColumns;
  const std::size_t in_step = kStepBytes / cell_bytes(tile.code);
  return {entry_offset(tile, columns), entry_offset(tile, tile.group), cells,
          (cells + in_step - 1) / in_step,
          tile.group == 32   ? 0u
          : tile.group == 64 ? 1u
                             : 2u};
}

// The elements of a lane, with what all elements of each of its rows share.
struct TileShare {
  std::uint32_t words[4];
  float scales[kTileSums];
  float zeros[kTileSums];
};

#ifdef __CUDA_ARCH__
BERTH_BOTH void load_words(const Byte* from, std::uint32_t (&words)[4]) {
  const uint4 four = *reinterpret_cast<const uint4*>(from);
  words[0] = four.x;
  words[1] = four.y;
  words[2] = four.z;
  words[3] = four.w;
}
// Bytes of `low` (selectors 0 to 3) and `high` (4 to 7): byte i of the result is the one that
// nibble i of `which` names.
BERTH_BOTH std::uint32_t select_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t which) {
  return __byte_perm(low, high, which);
}
#else
BERTH_BOTH void load_words(const Byte* from, std::uint32_t (&words)[4]) {
  memcpy(words, from, sizeof words);
}
BERTH_BOTH std::uint32_t select_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t which) {
  std::uint32_t result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned byte = which >> 4 * i & 7u;
    result |= (byte < 4 ? low >> 8 * byte & 255u : high >> 8 * (byte - 4) & 255u) << 8 * i;
  }
  return result;
}
#endif

BERTH_BOTH void load_floats(const Byte* from, float (&values)[4]) {
  std::uint32_t words[4];
  load_words(from, words);
  for (int i = 0; i < 4; ++i) values[i] = float_of(words[i]);
}

// Twice the values of four codes of E2M1 (OCP Microscaling formats, 1.0), as signed bytes.
BERTH_BOTH std::uint32_t twice_e2m1(std::uint32_t codes) {
  constexpr std::uint32_t kSmall = 0x03020100u, kLarge = 0x0C080604u;
  const std::uint32_t pairs = (codes & of_each(7)) | (codes & of_each(7)) >> 4;
  const std::uint32_t which = (pairs & 255u) | (pairs >> 8 & 0xFF00u);
  const std::uint32_t magnitudes = select_bytes(kSmall, kLarge, which);
  // Of a negative code: 12 less its magnitude, of others: 12 more; then 12 is taken off each.
  const std::uint32_t negative = (codes >> 3 & of_each(1)) * 255u;
  return less(of_each(12) + (magnitudes & ~negative) - (magnitudes & negative), 12);
}

// Half of the power of two that an exponent (E8M0) means, beside codes that are doubled.
BERTH_BOTH float half_power(std::uint32_t exponent) {
  if (exponent == 255) return float_of(0x7FC00000u);
  return float_of(exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23);
}

// The entry of the group that the cell with number `cell` belongs to.
BERTH_BOTH const Byte* entry_of(const Byte* tile, const GroupedSizes& sizes, std::size_t cell) {
  return tile + (cell >> sizes.shift) * sizes.entry_bytes;
}
BERTH_BOTH const Byte* cell_of(const Byte* entry, const GroupedSizes& sizes, GroupCode code,
                               std::size_t cell) {
  const std::size_t in_group = cell & ((std::size_t{1} << sizes.shift) - 1);
  return entry + group_header_bytes(code) + in_group * cell_bytes(code);
}

// Codes of 4 bits. Lanes 0 to 15 have the first cell of a step, the others the second one. Lane l
// of 16 has the words of columns 4 (l / 4) on and, in the same bytes, of 16 + 4 (l / 4) on.
struct LanesOfCodes {
  static constexpr bool kFloats = false;
  using Activations = ActivationGroup;  // of 32 columns

  BERTH_BOTH std::size_t cell(std::size_t step, int lane) {
    return 2 * step + static_cast<std::size_t>(lane / 16);
  }
  BERTH_BOTH int quad(int lane) { return lane % 16 / 4; }

  // `low`, `high`: signed bytes of a row's word. Without scale and zero point.
  BERTH_BOTH float product(std::uint32_t low, std::uint32_t high, const ActivationGroup& x,
                           int lane) {
    const Byte* first = x.planes + 12 * quad(lane);
    const Byte* second = first + 48;
    const int upper = dot_of_four(high, word_at(second), dot_of_four(low, word_at(first), 0));
    const int whole =
        dot_of_four(high, word_at(second + 4), dot_of_four(low, word_at(first + 4), 256 * upper));
    const int rest =
        dot_of_four(high, word_at(second + 8), dot_of_four(low, word_at(first + 8), 0));
    return times(x.scale, fused(to_float(rest), kRestPart, to_float(whole)));
  }
};

// What a lane does, by code: take() reads its share of an entry and a cell; add() adds the products
// with the activations of one position, of which `x` are those of the first column of the lane's
// cell, to the sums of its rows.
template <GroupCode kCode>
struct TileLanes;

template <>
struct TileLanes<GroupCode::kU4> : LanesOfCodes {
  BERTH_BOTH void take(const Byte* entry, const Byte* cell, int lane, TileShare& share) {
    load_words(cell + 16 * (lane % 16), share.words);
    load_floats(entry + 16 * (lane % 4), share.scales);
    // A zero point goes with all columns of a cell, so one of its lanes has it.
    const std::uint32_t zeros = word_at(entry + 4 * kGroupTileRows + 4 * (lane % 4));
    for (int r = 0; r < kTileSums; ++r) {
      share.zeros[r] = quad(lane) == 0 ? to_float(static_cast<int>(zeros >> 8 * r & 255u)) : 0;
    }
  }
  BERTH_BOTH void add(const TileShare& share, const ActivationGroup& x, int lane, float* sums) {
    for (int r = 0; r < kTileSums; ++r) {
      const std::uint32_t word = share.words[r];
      const float sum = product(lower_nibbles(word), upper_nibbles(word), x, lane);
      sums[r] = fused(share.scales[r], fused(-share.zeros[r], x.total, sum), sums[r]);
    }
  }
  BERTH_BOTH float element(const Byte* entry, const Byte* cell, std::size_t row,
                           std::size_t column) {
    const int code = cell[nibble_offset(row, column)] >> nibble_shift_of(column) & 15;
    const int zero = entry[4 * kGroupTileRows + row];
    return times(to_float(code - zero), float_of(word_at(entry + 4 * row)));
  }
};

template <>
struct TileLanes<GroupCode::kMxfp4> : LanesOfCodes {
  BERTH_BOTH void take(const Byte* entry, const Byte* cell, int lane, TileShare& share) {
    load_words(cell + 16 * (lane % 16), share.words);
    const std::uint32_t exponents = word_at(entry + 4 * (lane % 4));
    for (int r = 0; r < kTileSums; ++r) {
      share.scales[r] = half_power(exponents >> 8 * r & 255u);
      share.zeros[r] = 0;
    }
  }
  BERTH_BOTH void add(const TileShare& share, const ActivationGroup& x, int lane, float* sums) {
    for (int r = 0; r < kTileSums; ++r) {
      const std::uint32_t word = share.words[r];
      const float sum =
          product(twice_e2m1(lower_nibbles(word)), twice_e2m1(upper_nibbles(word)), x, lane);
      sums[r] = fused(share.scales[r], sum, sums[r]);
    }
  }
  BERTH_BOTH float element(const Byte* entry, const Byte* cell, std::size_t row,
                           std::size_t column) {
    const unsigned code = cell[nibble_offset(row, column)] >> nibble_shift_of(column) & 15u;
    const auto twice = static_cast<signed char>(twice_e2m1(code) & 255u);
    return times(to_float(twice), half_power(entry[row]));
  }
};

// FP8. A lane has four rows of column lane / 4 and of every eighth column after it.
template <class Code>
struct LanesOfFloats {
  static constexpr bool kFloats = true;
  using Activations = float;

  BERTH_BOTH std::size_t cell(std::size_t step, int) { return step; }
  BERTH_BOTH void take(const Byte* entry, const Byte* cell, int lane, TileShare& share) {
    for (int i = 0; i < 4; ++i) share.words[i] = word_at(cell + 128 * i + 4 * lane);
    load_floats(entry + 16 * (lane % 4), share.scales);
    for (int r = 0; r < kTileSums; ++r) share.zeros[r] = 0;
  }
  BERTH_BOTH void add(const TileShare& share, const float& x, int lane, float* sums) {
    const float* values = &x + lane / 4;
    for (int r = 0; r < kTileSums; ++r) {
      float sum = 0;
      for (int i = 0; i < 4; ++i) {
        sum = fused(half_value(Code::half(share.words[i] >> 8 * r & 255u)), values[8 * i], sum);
      }
      sums[r] = fused(share.scales[r], sum, sums[r]);
    }
  }
  BERTH_BOTH float element(const Byte* entry, const Byte* cell, std::size_t row,
                           std::size_t column) {
    const unsigned code = cell[column % kCellColumns * kGroupTileRows + row];
    return times(float_of(word_at(entry + 4 * row)), half_value(Code::half(code)));
  }
};

// FP8 as the bits of an f16: of a 256th of the value, or of the value.
struct E4M3AsHalf {
  BERTH_BOTH std::uint16_t half(std::uint32_t code) {
    return static_cast<std::uint16_t>((code & 0x80u) << 8 | (code & 0x7Fu) << 7);
  }
};
struct E5M2AsHalf {
  BERTH_BOTH std::uint16_t half(std::uint32_t code) {
    return static_cast<std::uint16_t>(code << 8);
  }
};
template <>
struct TileLanes<GroupCode::kF8E4M3> : LanesOfFloats<E4M3AsHalf> {};
template <>
struct TileLanes<GroupCode::kF8E5M2> : LanesOfFloats<E5M2AsHalf> {};

// Reads the share of `lane` of a step. False where the row has ended for this lane; `cell` is that
// of the lane.
template <GroupCode kCode>
BERTH_BOTH bool take_tile(const Byte* tile, const GroupedSizes& sizes, std::size_t step, int lane,
                          std::size_t& cell, TileShare& share) {
  cell = TileLanes<kCode>::cell(step, lane);
  if (cell >= sizes.cells) return false;
  const Byte* entry = entry_of(tile, sizes, cell);
  TileLanes<kCode>::take(entry, cell_of(entry, sizes, kCode, cell), lane, share);
  return true;
}

// The activations of a cell among those of a position.
template <GroupCode kCode>
BERTH_BOTH const typename TileLanes<kCode>::Activations& activations_of(
    const typename TileLanes<kCode>::Activations* position, std::size_t cell) {
  return position[TileLanes<kCode>::kFloats ? cell * kCellColumns : cell];
}

// Calls use(tag) with the code of a format as a type.
template <GroupCode kCode>
struct CodeTag {
  static constexpr GroupCode kValue = kCode;
};
template <class Use>
void with_code(GroupCode code, const Use& use) {
  switch (code) {
    case GroupCode::kU4:
      return use(CodeTag<GroupCode::kU4>());
    case GroupCode::kF8E4M3:
      return use(CodeTag<GroupCode::kF8E4M3>());
    case GroupCode::kF8E5M2:
      return use(CodeTag<GroupCode::kF8E5M2>());
    case GroupCode::kMxfp4:
      return use(CodeTag<GroupCode::kMxfp4>());
  }
}

}  // namespace berth
