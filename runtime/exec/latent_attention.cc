#include "runtime/exec/latent_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>

namespace berth {
namespace {

// Queries of new positions: [heads, positions, plain + rotary].
Placed queries(Operations& operations, const LayerRecipe& layer, const Placed& input) {
  const auto name = [&](const char* module) { return layer.module(kLatentBlock, module); };
  const LatentSizes& sizes = *operations.recipe().latent;
  Placed query;
  if (operations.has(name("q_a_proj.weight"))) {
    query = operations.linear(input, name("q_a_proj"), false);
    query = operations.norm(query, name("q_a_layernorm"), kLatentEpsilon);
    query = operations.linear(query, name("q_b_proj"), false);
  } else {
    query = operations.linear(input, name("q_proj"), false);
  }
  query.value = query.value.view({-1, sizes.heads, sizes.query()}).transpose(0, 1);
  return query;
}

// Attention of queries [heads, positions, plain + rotary] over latents: values, [heads, positions,
// value]. `turned` is what of the queries rotates.
at::Tensor attend(Operations& operations, const std::string& up_name, const Placed& query,
                  const Placed& turned, KvCache& cache) {
  const LatentSizes& sizes = *operations.recipe().latent;
  const Placed up = operations.weight(up_name);
  // [heads, plain + value, rank]: what would make the keys of a latent, and its values.
  const at::Tensor matrices = up.value.view({sizes.heads, sizes.plain + sizes.value, sizes.rank})
                                  .to(query.value.scalar_type());
  const at::Tensor to_keys = matrices.narrow(1, 0, sizes.plain);
  const at::Tensor to_values = matrices.narrow(1, sizes.plain, sizes.value);
  const at::Tensor sought = at::bmm(query.value.narrow(2, 0, sizes.plain), to_keys);
  const Placed both{at::cat({sought, turned.value}, 2), query.device};
  const Placed sums = cache.attend(both, {sizes.scale, 0, 0});
  return at::bmm(sums.value, to_values.transpose(1, 2));
}

}  // namespace

Placed latent_attention(Operations& operations, const LayerRecipe& layer, const Placed& input,
                        const LatentPositions& positions, KvCache& cache) {
  const auto name = [&](const char* module) { return layer.module(kLatentBlock, module); };
  const LatentSizes& sizes = *operations.recipe().latent;
  const DeviceIndex home = operations.device(name("kv_b_proj.weight"));
  const Placed query = operations.move(queries(operations, layer, input), home);
  const Placed both = operations.linear(input, name("kv_a_proj_with_mqa"), false);
  Placed latent{both.value.narrow(1, 0, sizes.rank), both.device};
  Placed turning{both.value.narrow(1, sizes.rank, sizes.rotary).unsqueeze(0), both.device};
  turning = operations.move(turning, home);
  latent = operations.norm(latent, name("kv_a_layernorm"), kLatentEpsilon);
  latent = operations.move(latent, home);

  Heads rotated{{query.value.narrow(2, sizes.plain, sizes.rotary), query.device}, turning, {}, {}};
  operations.rotate(rotated, *layer.rotary, positions.first, positions.shape.positions);
  const at::Tensor key = at::cat({latent.value.unsqueeze(0), rotated.key.value}, 2);
  cache.append_latent({key, home}, sizes.rank, positions.shape);

  const at::Tensor values =
      attend(operations, name("kv_b_proj.weight"), query, rotated.query, cache);
  const Placed joined{values.transpose(0, 1).reshape({values.size(1), -1}), home};
  return operations.linear(joined, name("o_proj"), false);
}

}  // namespace berth
