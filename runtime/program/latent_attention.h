// Latent attention as a step of a program.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "runtime/kernels/attention.h"
#include "runtime/kernels/head_product.h"
#include "runtime/program/builder.h"

namespace berth {

/// kAttended = latent attention of kHeads, which has the queries of all heads, over the latents of
/// earlier positions and those in kLatent: for each position a latent, and the part of its key that
/// rotates.
///
/// What the cache has of a position is the latent after its norm and the rotated part, for all
/// heads together: neither keys nor values are ever made. Instead a query goes through the matrix
/// that would make keys, transposed, and is compared with latents; and the weighted sum of latents
/// goes through the matrix that would make values ("absorbed" weights, section 2.1.2 of arXiv
/// 2405.04434).
struct LatentAttentionStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "latent attention"; }
  bool by_sequence() const override { return true; }
  std::size_t kept_bytes() const override { return bytes_of_all(caches); }
  LatentSizes sizes;
  NormWeights norm;                      // of latents
  StoredMatrix up;                       // kv_b_proj: [heads x (plain + value), rank]
  std::shared_ptr<RotaryAngles> rotary;  // of `sizes.rotary` dimensions
  CacheFormat format = CacheFormat::kF32;
  std::size_t capacity = 0;                       // positions that the cache keeps
  OfEachSequence<std::vector<std::byte>> caches;  // [capacity, rank + rotary]

 private:
  void cache_rows(Pass& pass, const CacheView& view) const;
  void attend_rows(Pass& pass, const CacheView& view, const Matrix& matrix, std::size_t begin,
                   std::size_t count, float* out) const;
};

/// Where latents are kept.
struct LatentCache {
  CacheFormat format = CacheFormat::kF32;
  std::size_t capacity = 0;
};

/// Compiles the latent attention of a layer: kChange is made of kInput.
void compile_latent_attention(Builder& builder, const LayerRecipe& layer,
                              std::shared_ptr<RotaryAngles> rotary, const LatentCache& cache);

}  // namespace berth
