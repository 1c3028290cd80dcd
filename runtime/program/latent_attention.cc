#include "runtime/program/latent_attention.h"

#include <algorithm>
#include <utility>

namespace berth {
namespace {

// Queries in the space of latents take much memory: so many positions are computed at a time.
constexpr std::size_t kPositionsAtOnce = 32;

NormWeights latent_norm(Builder& builder, const std::string& module) {
  NormWeights norm = builder.norm_weights(module, Norm::kRms);
  norm.epsilon = static_cast<float>(kLatentEpsilon);
  return norm;
}

std::size_t size(std::int64_t value) { return static_cast<std::size_t>(value); }

}  // namespace

// Puts the latents of the pass into the cache, and rotates queries.
void LatentAttentionStep::cache_rows(Pass& pass, const CacheView& view) const {
  const std::size_t rank = size(sizes.rank), cached = size(sizes.cached());
  const std::size_t heads = size(sizes.heads), query = size(sizes.query());
  float* const latents = pass.of(Buffer::kLatent);
  float* const queries = pass.of(Buffer::kHeads);
  rotary->prepare(pass.first, pass.rows(), pass.length);
  for_rows(pass, [&](std::size_t row) {
    const std::size_t position = pass.first + row;
    float* const own = latents + row * cached;
    norm.apply(own, own);
    rotary->turn(position, own + rank);
    store_vector(format, std::span(own, cached), view.key(position, 0));
    for (std::size_t head = 0; head < heads; ++head) {
      rotary->turn(position, queries + (row * heads + head) * query + size(sizes.plain));
    }
  });
}

// The rows begin to begin + count - 1.
void LatentAttentionStep::attend_rows(Pass& pass, const CacheView& view, const Matrix& matrix,
                                      std::size_t begin, std::size_t count, float* out) const {
  const std::size_t rank = size(sizes.rank), cached = size(sizes.cached());
  const std::size_t plain = size(sizes.plain), value = size(sizes.value);
  const std::size_t heads = size(sizes.heads), query = size(sizes.query());
  const float* const from = pass.of(Buffer::kHeads) + begin * heads * query;
  float* const wide = pass.need(Buffer::kWide, heads * cached, count);
  float* const sums = pass.need(Buffer::kGated, heads * rank, count);
  HeadRows rows{matrix, heads, plain + value, 0, plain};
  multiply_heads_transposed(rows, count, {from, heads * query, query},
                            {wide, heads * cached, cached}, pass.team);
  for (std::size_t i = 0; i < count * heads; ++i) {
    std::copy_n(from + i * query + plain, cached - rank, wide + i * cached + rank);
  }
  AttentionSettings settings;
  settings.heads = heads;
  settings.scale = static_cast<float>(sizes.scale);
  attend(view, settings, pass.first + begin, count, wide, heads * cached, sums,
         pass.attention_space, pass.team);
  rows.first_row = plain;
  rows.rows = value;
  multiply_heads(rows, count, {sums, heads * rank, rank},
                 {out + begin * heads * value, heads * value, value}, pass.team);
}

void LatentAttentionStep::run(Pass& pass) {
  std::vector<std::byte>& cache = caches[pass.sequence];
  cache.resize(capacity * cache_vector_bytes(format, size(sizes.cached())));
  CacheView view;
  view.format = format;
  view.kv_heads = 1;
  view.key_dim = size(sizes.cached());
  view.value_dim = size(sizes.rank);
  view.capacity = capacity;
  view.keys = cache.data();
  cache_rows(pass, view);
  HostBlock block;
  const Matrix matrix = up.resident(block);
  float* const out = pass.need(Buffer::kAttended, size(sizes.heads * sizes.value));
  for (std::size_t begin = 0; begin < pass.rows(); begin += kPositionsAtOnce) {
    attend_rows(pass, view, matrix, begin, std::min(kPositionsAtOnce, pass.rows() - begin), out);
  }
}

void compile_latent_attention(Builder& builder, const LayerRecipe& layer,
                              std::shared_ptr<RotaryAngles> rotary, const LatentCache& cache) {
  const ProgramWeights& weights = builder.weights();
  const auto name = [&](std::string_view module) { return layer.module(kLatentBlock, module); };
  const DeviceIndex input = builder.at();
  const DeviceIndex home = weights.device(name("kv_b_proj.weight"));
  if (weights.has(name("q_a_proj.weight"))) {
    builder.product(name("q_a_proj"), false, Buffer::kInput, Buffer::kWide);
    builder.move_to(weights.device(name("q_a_layernorm.weight")));
    NormWeights query_norm = latent_norm(builder, name("q_a_layernorm"));
    auto& step = builder.emit<NormStep>();
    step.norm = std::move(query_norm);
    step.from = step.to = Buffer::kWide;
    builder.product(name("q_b_proj"), false, Buffer::kWide, Buffer::kHeads);
  } else {
    builder.product(name("q_proj"), false, Buffer::kInput, Buffer::kHeads);
  }
  builder.hop(builder.at(), home);
  builder.stand_at(input);
  builder.product(name("kv_a_proj_with_mqa"), false, Buffer::kInput, Buffer::kLatent);
  builder.hop(builder.at(), home);  // the part that rotates
  builder.move_to(weights.device(name("kv_a_layernorm.weight")));
  builder.move_to(home);
  NormWeights norm = latent_norm(builder, name("kv_a_layernorm"));
  auto& step = builder.emit<LatentAttentionStep>();
  step.sizes = *builder.recipe().latent;
  step.norm = std::move(norm);
  step.up = weights.matrix(name("kv_b_proj.weight"));
  step.rotary = std::move(rotary);
  step.format = cache.format;
  step.capacity = cache.capacity;
  builder.product(name("o_proj"), false, Buffer::kAttended, Buffer::kChange);
}

}  // namespace berth
