#include "planner/plan/kv_cache.h"

#include <algorithm>

#include "planner/base/saturating.h"

namespace berth {
namespace {

std::uint64_t bytes_of(std::uint64_t elements, std::uint64_t bits) {
  return elements > kMost / 64 ? kMost : (elements * bits + 7) / 8;
}

}  // namespace

LayerCache layer_cache(const LayerFacts& layer, const Workload& workload) {
  const std::uint64_t bits = dtype_bits(workload.kv_dtype.value_or(DType::kF16));
  LayerCache out;
  out.positions = workload.context;
  if (layer.window > 0) out.positions = std::min(out.positions, layer.window);
  out.position_bytes =
      bytes_of(times(times(layer.kv_elements, out.positions), workload.batch), bits);
  out.constant_bytes = plus(bytes_of(times(layer.cross_elements, workload.batch), bits),
                            times(layer.state_bytes, workload.batch));
  out.kept_bytes = plus(layer.shares_cache ? 0 : out.position_bytes, out.constant_bytes);
  return out;
}

std::uint64_t kv_cache_bytes(const LayerFacts& layer, const Workload& workload) {
  return layer_cache(layer, workload).kept_bytes;
}

}  // namespace berth
