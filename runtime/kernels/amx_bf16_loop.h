// Products of bf16 rows as they are stored by AMX, with any number of positions: 32 columns of 16
// rows with up to 48 positions at once. AMX sums in an order of its own: in each 32 columns first
// those with even numbers and those with odd ones, then both, then all before. It is the same for
// one position as for many.
#pragma once

#include "runtime/kernels/amx_tiles.h"
#include "runtime/kernels/jobs.h"
#include "runtime/kernels/tiles.h"

namespace berth {
namespace {

// The tiles: sums of up to three groups of positions, their activations, the weights.
template <class Tiles>
class Bf16Tiles {
 public:
  explicit Bf16Tiles(const ProductJob& job) : job_(job) {}
  ~Bf16Tiles() { tiles_.release(); }
  Bf16Tiles(const Bf16Tiles&) = delete;
  Bf16Tiles& operator=(const Bf16Tiles&) = delete;

  // The products of `rows` rows from `row` on with `count` positions from `first` on, which fill
  // kGroups groups.
  template <int kGroups>
  void multiply(std::size_t row, std::size_t rows, std::size_t first, std::size_t count) {
    const std::size_t last_width = count - (kGroups - 1) * kSideBySide;
    configure<kGroups>(rows, last_width);
    const std::size_t row_bytes = 2 * job_.columns;
    const std::byte* const weights = job_.weights + row * row_bytes;
    const std::size_t whole = job_.columns / 32;
    zero<kGroups>();
    for (std::size_t block = 0; block < whole; ++block) {
      const std::byte* const at = weights + 64 * block;
      for (std::size_t r = 0; r < rows; ++r) __builtin_prefetch(at + r * row_bytes + kAhead);
      tiles_.template load<kWeights>(at, row_bytes);
      add<kGroups>(first, last_width, block);
    }
    if (const std::size_t rest = job_.columns % 32; rest > 0) {
      std::byte padded[kTileRows][64] = {};
      for (std::size_t r = 0; r < rows; ++r) {
        std::memcpy(padded[r], weights + r * row_bytes + 64 * whole, 2 * rest);
      }
      tiles_.template load<kWeights>(padded, sizeof padded[0]);
      add<kGroups>(first, last_width, whole);
    }
    store<kGroups>(row, rows, first, last_width);
  }

 private:
  static constexpr int kWeights = 6;
  static constexpr std::size_t kAhead = 512;  // bytes of a row that are fetched before their turn

  template <int kGroups>
  void configure(std::size_t rows, std::size_t last_width) {
    TileConfig config = {};
    config.palette = 1;
    for (int g = 0; g < kGroups; ++g) {
      const std::size_t width = g + 1 < kGroups ? kSideBySide : last_width;
      config.rows[g] = static_cast<std::uint8_t>(rows);
      config.rows[3 + g] = 16;
      config.row_bytes[g] = config.row_bytes[3 + g] = static_cast<std::uint16_t>(4 * width);
    }
    config.rows[kWeights] = static_cast<std::uint8_t>(rows);
    config.row_bytes[kWeights] = 64;
    tiles_.configure(config);
  }
  template <int kGroups>
  void zero() {
    tiles_.template zero<0>();
    if constexpr (kGroups > 1) tiles_.template zero<1>();
    if constexpr (kGroups > 2) tiles_.template zero<2>();
  }
  template <int kGroups>
  void add(std::size_t first, std::size_t last_width, std::size_t block) {
    add_group<0>(first, kGroups == 1 ? last_width : kSideBySide, block);
    if constexpr (kGroups > 1) {
      add_group<1>(first, kGroups == 2 ? last_width : kSideBySide, block);
    }
    if constexpr (kGroups > 2) add_group<2>(first, last_width, block);
  }
  template <int kGroup>
  void add_group(std::size_t first, std::size_t width, std::size_t block) {
    const std::uint16_t* const pairs =
        job_.pairs + (first + kGroup * kSideBySide) * job_.padded_columns + 32 * block * width;
    tiles_.template load<3 + kGroup>(pairs, 4 * width);
    tiles_.template multiply_bf16<kGroup, kWeights, 3 + kGroup>();
  }
  template <int kGroups>
  void store(std::size_t row, std::size_t rows, std::size_t first, std::size_t last_width) {
    store_group<0>(row, rows, first, kGroups == 1 ? last_width : kSideBySide);
    if constexpr (kGroups > 1) {
      store_group<1>(row, rows, first, kGroups == 2 ? last_width : kSideBySide);
    }
    if constexpr (kGroups > 2) store_group<2>(row, rows, first, last_width);
  }
  template <int kGroup>
  void store_group(std::size_t row, std::size_t rows, std::size_t first, std::size_t width) {
    float sums[kTileRows][kSideBySide];
    tiles_.template store<kGroup>(sums, sizeof sums[0]);
    float* const out = job_.out + (first + kGroup * kSideBySide) * job_.stride + row;
    for (std::size_t p = 0; p < width; ++p) {
      for (std::size_t r = 0; r < rows; ++r) out[p * job_.stride + r] = sums[r][p];
    }
  }

  const ProductJob& job_;
  Tiles tiles_;
};

template <class Tiles>
void amx_bf16_loop(const ProductJob& job) {
  constexpr std::size_t kMost = 3 * kSideBySide;
  Bf16Tiles<Tiles> tiles(job);
  for (std::size_t row = 0; row < job.rows; row += kTileRows) {
    const std::size_t rows = job.rows - row < kTileRows ? job.rows - row : kTileRows;
    for (std::size_t first = 0; first < job.positions; first += kMost) {
      const std::size_t left = job.positions - first;
      if (left <= kSideBySide) {
        tiles.template multiply<1>(row, rows, first, left);
      } else if (left <= 2 * kSideBySide) {
        tiles.template multiply<2>(row, rows, first, left);
      } else {
        tiles.template multiply<3>(row, rows, first, left < kMost ? left : kMost);
      }
    }
  }
}

}  // namespace
}  // namespace berth
