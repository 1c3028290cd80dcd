// The operations of AMX that products need, and the same in plain C++, so that tests run the loops
// on every processor. Both have tiles 0 to 7 of up to 16 rows of 64 bytes; only the rows and bytes
// that were configured take part. (Intel 64 and IA-32 Architectures Software Developer's Manual,
// volume 2: LDTILECFG, TILELOADD, TILEZERO, TDPBSUD, TDPBF16PS, TILESTORED, TILERELEASE.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda/cast_bits.h"

namespace berth {
namespace {

struct TileConfig {
  std::uint8_t palette;
  std::uint8_t start_row;
  std::uint8_t reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};

#if defined(__x86_64__)
// Written as assembly, because compilers' own functions do not say that they read and write memory.
struct AmxTiles {
  void configure(const TileConfig& config) {
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  void release() { asm volatile("tilerelease" : : : "memory"); }
  template <int kTile>
  void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  void load(const void* from, std::size_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  void store(void* to, std::size_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kTile) : "memory");
  }
  // Adds to 32-bit sums four products each of signed bytes of kLeft and unsigned ones of kRight.
  template <int kSums, int kLeft, int kRight>
  void multiply() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kLeft), "i"(kRight));
  }
  // Adds to f32 sums products of pairs of bf16: of a row of kLeft with a column of kRight, whose
  // rows have a pair for each column.
  template <int kSums, int kLeft, int kRight>
  void multiply_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kLeft), "i"(kRight));
  }
};
#endif

struct EmulatedTiles {
  TileConfig config;
  std::uint8_t bytes[8][16][64];

  void configure(const TileConfig& wanted) {
    config = wanted;
    std::memset(bytes, 0, sizeof bytes);
  }
  void release() {}
  template <int kTile>
  void zero() {
    std::memset(bytes[kTile], 0, sizeof bytes[kTile]);
  }
  template <int kTile>
  void load(const void* from, std::size_t stride) {
    zero<kTile>();
    for (std::size_t r = 0; r < config.rows[kTile]; ++r) {
      std::memcpy(bytes[kTile][r], static_cast<const std::uint8_t*>(from) + r * stride,
                  config.row_bytes[kTile]);
    }
  }
  template <int kTile>
  void store(void* to, std::size_t stride) {
    for (std::size_t r = 0; r < config.rows[kTile]; ++r) {
      std::memcpy(static_cast<std::uint8_t*>(to) + r * stride, bytes[kTile][r],
                  config.row_bytes[kTile]);
    }
  }
  template <int kSums, int kLeft, int kRight>
  void multiply() {
    for (std::size_t m = 0; m < config.rows[kSums]; ++m) {
      for (std::size_t n = 0; n < config.row_bytes[kSums] / 4u; ++n) {
        std::int32_t sum;
        std::memcpy(&sum, &bytes[kSums][m][4 * n], sizeof sum);
        for (std::size_t k = 0; k < config.row_bytes[kLeft] / 4u; ++k) {
          for (std::size_t i = 0; i < 4; ++i) {
            sum +=
                static_cast<std::int8_t>(bytes[kLeft][m][4 * k + i]) * bytes[kRight][k][4 * n + i];
          }
        }
        std::memcpy(&bytes[kSums][m][4 * n], &sum, sizeof sum);
      }
    }
  }
  template <int kSums, int kLeft, int kRight>
  void multiply_bf16() {
    const auto number = [&](int tile, std::size_t row, std::size_t i) {
      std::uint16_t bits;
      std::memcpy(&bits, &bytes[tile][row][2 * i], sizeof bits);
      return bf16_to_float(bits);
    };
    for (std::size_t m = 0; m < config.rows[kSums]; ++m) {
      for (std::size_t n = 0; n < config.row_bytes[kSums] / 4u; ++n) {
        float sums[2] = {0, 0};  // of the first and of the second of each pair
        for (std::size_t k = 0; k < config.row_bytes[kLeft] / 4u; ++k) {
          for (std::size_t i = 0; i < 2; ++i) {
            sums[i] =
                __builtin_fmaf(number(kLeft, m, 2 * k + i), number(kRight, k, 2 * n + i), sums[i]);
          }
        }
        float sum;
        std::memcpy(&sum, &bytes[kSums][m][4 * n], sizeof sum);
        sum += sums[0] + sums[1];
        std::memcpy(&bytes[kSums][m][4 * n], &sum, sizeof sum);
      }
    }
  }
};

}  // namespace
}  // namespace berth
