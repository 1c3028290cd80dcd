// Products of tiles with five positions and more by AMX: 32 columns (or 16) of 16 rows with up to
// 16 positions at once. The sums are exact integers, and what follows is that of tile_loops.h, so
// the bits are those of all other instruction sets. Fewer positions wait for memory, not for
// products. (bf16: amx_bf16_loop.h.)
#include "runtime/kernels/amx_tiles.h"
#include "runtime/kernels/tile_loops.h"

namespace berth {
namespace {

constexpr std::size_t kAmxPositions = 16;

template <class Tiles>
struct TileProducts {
  const ActivationBlock* blocks;  // of the first position
  std::size_t stride;             // bytes from a position to the next
  Tiles tiles;
  Ints low[kAmxPositions];
  Ints high[kAmxPositions];
  Ints rest[kAmxPositions];

  template <int kPlanes, int kParts>
  BERTH_INLINE void begin(const Groups& groups, int part, std::size_t block) {
    constexpr int kWords = 8 / kParts;
    const int first = 4 * part * kWords;
    const ActivationBlock& x = blocks[block];
    tiles.template load<6>(&groups.word[part * kWords], sizeof(Bytes));
    multiply<0, 3>(x.low + first, low);
    if constexpr (kPlanes >= 2) multiply<1, 4>(x.high + first, high);
    if constexpr (kPlanes == 3) multiply<2, 5>(x.rest + first, rest);
  }

  template <MatrixFormat kFormat, int kPlanes, int kParts>
  BERTH_INLINE Floats of(const Groups&, int part, int p, const ActivationBlock& x) {
    return joined<kFormat, kPlanes>(low[p], high[p], rest[p], x, part);
  }

  template <int kSums, int kPlane>
  BERTH_INLINE void multiply(const std::int8_t* plane, Ints* to) {
    tiles.template zero<kSums>();
    tiles.template load<kPlane>(plane, stride);
    tiles.template multiply<kSums, kPlane, 6>();
    tiles.template store<kSums>(to, sizeof(Ints));
  }
};

template <class Tiles, MatrixFormat kFormat, int kPlanes>
void amx_loop(const ProductJob& job) {
  constexpr std::size_t kLeast = 5;
  constexpr std::uint8_t kWords = tile_shape(kFormat).scaled / 4;
  TileProducts<Tiles> products = {};
  products.stride = job.columns / 32 * sizeof(ActivationBlock);
  std::size_t configured = 0;
  std::size_t first = 0;
  while (first < job.positions && job.positions - first >= kLeast) {
    const std::size_t left = job.positions - first;
    const std::size_t count = left < kAmxPositions ? left : kAmxPositions;
    if (count != configured) {
      TileConfig config = {};
      config.palette = 1;
      for (int plane = 0; plane < 3; ++plane) {
        config.rows[plane] = config.rows[3 + plane] = static_cast<std::uint8_t>(count);
        config.row_bytes[plane] = sizeof(Ints);
        config.row_bytes[3 + plane] = 4 * kWords;
      }
      config.rows[6] = kWords;
      config.row_bytes[6] = sizeof(Bytes);
      products.tiles.configure(config);
      configured = count;
    }
    products.blocks = job.blocks + first * (job.columns / 32);
    tile_positions<kFormat, kPlanes, kAmxPositions>(job, first, count, products);
    first += count;
  }
  if (configured != 0) products.tiles.release();
  if (first == job.positions) return;
  ProductJob rest = job;
  rest.positions = job.positions - first;
  rest.blocks = job.blocks + first * (job.columns / 32);
  rest.out = job.out + first * job.stride;
  tile_loop<kFormat, kPlanes>(rest);
}

template <class Tiles, MatrixFormat kFormat>
constexpr ProductLoop kAmx[3] = {amx_loop<Tiles, kFormat, 1>, amx_loop<Tiles, kFormat, 2>,
                                 amx_loop<Tiles, kFormat, 3>};

// Null for formats that AMX is not used for.
template <class Tiles>
ProductLoop amx_products(MatrixFormat format, ActivationBits bits) {
  const auto planes = static_cast<std::size_t>(bits);
  switch (format) {
    case MatrixFormat::kQ8_0:
      return kAmx<Tiles, MatrixFormat::kQ8_0>[planes];
    case MatrixFormat::kQ4_0:
      return kAmx<Tiles, MatrixFormat::kQ4_0>[planes];
    case MatrixFormat::kQ4_1:
      return kAmx<Tiles, MatrixFormat::kQ4_1>[planes];
    case MatrixFormat::kQ5_0:
      return kAmx<Tiles, MatrixFormat::kQ5_0>[planes];
    case MatrixFormat::kQ5_1:
      return kAmx<Tiles, MatrixFormat::kQ5_1>[planes];
    case MatrixFormat::kQ4_K:
      return kAmx<Tiles, MatrixFormat::kQ4_K>[planes];
    case MatrixFormat::kQ5_K:
      return kAmx<Tiles, MatrixFormat::kQ5_K>[planes];
    case MatrixFormat::kQ6_K:
      return kAmx<Tiles, MatrixFormat::kQ6_K>[planes];
    case MatrixFormat::kMxfp4:
      return kAmx<Tiles, MatrixFormat::kMxfp4>[planes];
    default:
      return nullptr;
  }
}

}  // namespace
}  // namespace berth
