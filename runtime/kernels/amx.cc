#include "runtime/kernels/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "runtime/kernels/tiles.h"

namespace berth {
namespace {

// Linux gives the tiles to processes that ask for them (its Documentation/arch/x86/xstate.rst).
bool may_use_tiles() {
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;  // of leaf 7, in edx
  constexpr long kAskForComponent = 0x1023;               // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;                          // XFEATURE_XTILEDATA
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & kTile) == 0 || (edx & kInt8) == 0) return false;
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

}  // namespace

Amx amx_of_this_processor(ProductLoops others, QuantizeLoop quantize) {
  static const Amx answer = [&] {
    if (!may_use_tiles()) return Amx::kNone;
    const bool same = agrees(MatrixFormat::kQ4_0, others, quantize) &&
                      agrees(MatrixFormat::kQ6_K, others, quantize);
    return same ? Amx::kReady : Amx::kDisagrees;
  }();
  return answer;
}

}  // namespace berth
