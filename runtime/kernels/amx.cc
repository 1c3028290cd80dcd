#include "runtime/kernels/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmath>
#include <vector>

#include "cuda/cast_bits.h"
#include "runtime/kernels/pairs.h"
#include "runtime/kernels/tiles.h"

namespace berth {
namespace {

constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;  // of leaf 7, in edx

// Linux gives the tiles to processes that ask for them (its Documentation/arch/x86/xstate.rst).
bool may_use_tiles(unsigned instructions) {
  constexpr long kAskForComponent = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;             // XFEATURE_XTILEDATA
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & (kTile | instructions)) != (kTile | instructions)) return false;
  return syscall(SYS_arch_prctl, kAskForComponent, kTileData) == 0;
}

// Any numbers will do, as long as the scales are finite.
bool agrees(MatrixFormat format, ProductLoops others, QuantizeLoop quantize) {
  constexpr std::size_t kColumns = 256, kPositions = 21, kBlocks = kPositions * kColumns / 32;
  const TileShape shape = tile_shape(format);
  std::vector<float> values(kPositions * kColumns);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i * 7919 % 1009) - 504;
  }
  std::vector<ActivationBlock> blocks(kBlocks);
  quantize({values.data(), kBlocks, 32639, true, shape.bias, shape.scaled, blocks.data()});
  std::vector<std::byte> tile(kColumns / shape.unit * shape.bytes);
  for (std::size_t i = 0; i < tile.size(); ++i) tile[i] = static_cast<std::byte>(i * 37 % 61);
  std::vector<float> found(kPositions * kTileRows), expected(kPositions * kTileRows);
  ProductJob job = {tile.data(), kTileRows, kColumns,   blocks.data(), nullptr,
                    nullptr,     kColumns,  kPositions, found.data(),  kTileRows};
  products_amx(format, ActivationBits::k24)(job);
  job.out = expected.data();
  others(format, ActivationBits::k24)(job);
  return found == expected;
}

bool bf16_agrees() {
  constexpr std::size_t kRows = 19, kColumns = 80, kPadded = 96, kPositions = 21;
  const auto number = [](std::size_t i) { return static_cast<float>(i * 7919 % 509) - 254; };
  std::vector<std::uint16_t> weights(kRows * kColumns), x(kPositions * kPadded), pairs(x.size());
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = float_to_bf16(number(i) / 64);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = i % kPadded < kColumns ? float_to_bf16(number(3 * i + 1)) : 0;
  }
  std::vector<float> all(kPositions * kRows), alone(kRows);
  ProductJob job = {reinterpret_cast<const std::byte*>(weights.data()),
                    kRows,
                    kColumns,
                    nullptr,
                    nullptr,
                    x.data(),
                    kPadded,
                    kPositions,
                    all.data(),
                    kRows};
  put_in_pairs(x, kPadded, pairs.data());
  job.pairs = pairs.data();
  product_amx_bf16(job);
  for (std::size_t p = 0; p < kPositions; ++p) {
    job.pairs = x.data() + p * kPadded;
    job.positions = 1;
    job.out = alone.data();
    product_amx_bf16(job);
    for (std::size_t r = 0; r < kRows; ++r) {
      double exact = 0, size = 0;
      for (std::size_t c = 0; c < kColumns; ++c) {
        const double product = static_cast<double>(bf16_to_float(weights[r * kColumns + c])) *
                               bf16_to_float(x[p * kPadded + c]);
        exact += product;
        size += std::fabs(product);
      }
      const bool close = std::fabs(alone[r] - exact) <= 1e-5 * size;
      if (!close || alone[r] != all[p * kRows + r]) return false;
    }
  }
  return true;
}

}  // namespace

bool has_amx_bf16() {
  static const bool answer = may_use_tiles(kBf16) && bf16_agrees();
  return answer;
}

Amx amx_of_this_processor(ProductLoops others, QuantizeLoop quantize) {
  static const Amx answer = [&] {
    if (!may_use_tiles(kInt8)) return Amx::kNone;
    const bool same = agrees(MatrixFormat::kQ4_0, others, quantize) &&
                      agrees(MatrixFormat::kQ6_K, others, quantize);
    return same ? Amx::kReady : Amx::kDisagrees;
  }();
  return answer;
}

}  // namespace berth
