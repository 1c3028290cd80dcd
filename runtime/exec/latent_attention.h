// Multi-head latent attention (DeepSeek-AI, "DeepSeek-V2", arXiv 2405.04434) with a cache of
// latents: neither keys nor values are made of them, which is the same sum in another order
// ("absorbed" weights, section 2.1.2).
#pragma once

#include <cstdint>

#include "runtime/exec/attention.h"
#include "runtime/exec/operations.h"
#include "runtime/exec/placed.h"

namespace berth {

// Where new positions are, and what the cache of a layer may take.
struct LatentPositions {
  std::int64_t first = 0;
  CacheShape shape;
};

// Computes the latent attention of a layer for new positions, [positions, width of the stream], and
// its output projection. The cache is on the device of kv_b_proj.
Placed latent_attention(Operations& operations, const LayerRecipe& layer, const Placed& input,
                        const LatentPositions& positions, KvCache& cache);

}  // namespace berth
