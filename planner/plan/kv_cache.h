// What the layers of a model keep of the sequences between two tokens. Pure.
#pragma once

#include <cstdint>

#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

// What one layer keeps and reads for all sequences of a workload. Figures that are far too large
// saturate instead of wrapping around.
struct LayerCache {
  std::uint64_t positions = 0;       // of each sequence: the context, or the window if smaller
  std::uint64_t position_bytes = 0;  // of all `positions`: what a token reads at the end of them
  std::uint64_t constant_bytes = 0;  // whatever the context: cross attention and constant states
  std::uint64_t kept_bytes = 0;      // what the layer takes of its device's memory
};

LayerCache layer_cache(const LayerFacts& layer, const Workload& workload);

// Bytes of KV cache that one layer needs for the workload, constant states included:
// (kv_elements x min(context, window) + cross_elements) x batch x bytes an element
// + state_bytes x batch, without the first term for a layer that shares the cache of another.
std::uint64_t kv_cache_bytes(const LayerFacts& layer, const Workload& workload);

}  // namespace berth
