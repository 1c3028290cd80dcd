#include "runtime/exec/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "berth/error.h"

namespace berth {
namespace {

constexpr std::int64_t kScoreElements = 16
                                        << 20;  // scores of one block of queries: 64 MiB in float32

// A mask, true where the query in row r (at position first + r) must not see the key in column c
// (at position low + c).
at::Tensor hidden_keys(std::int64_t first, std::int64_t rows, std::int64_t low,
                       std::int64_t columns, std::uint64_t window, at::Device device) {
  const auto options = at::TensorOptions(at::kLong).device(device);
  const at::Tensor query = at::arange(first, first + rows, options).unsqueeze(1);
  const at::Tensor key = at::arange(low, low + columns, options).unsqueeze(0);
  at::Tensor hidden = key.gt(query);
  if (window > 0) hidden = hidden.logical_or(key.le(query - static_cast<std::int64_t>(window)));
  return hidden;
}

// A block of queries, and what they attend to. `hidden` is undefined where each sees all keys.
struct QueryBlock {
  at::Tensor queries;       // [kv heads, queries of all heads that share one, head size]
  at::Tensor keys;          // [kv heads, columns, head size]
  at::Tensor values;        // likewise
  at::Tensor hidden;        // [rows, columns]
  std::int64_t groups = 1;  // how many heads share a kv head
};

// transformers' default, sdpa: products, their scaling and the softmax are computed in float32 also
// where the activations are of half precision, whose largest value, 65,504, products may exceed.
at::Tensor attend_plain(const QueryBlock& block, double scale) {
  std::optional<at::Tensor> seen;
  if (block.hidden.defined()) seen = block.hidden.logical_not().repeat({block.groups, 1});
  return at::scaled_dot_product_attention(block.queries.unsqueeze(0), block.keys.unsqueeze(0),
                                          block.values.unsqueeze(0), seen, /*dropout_p=*/0.0,
                                          /*is_causal=*/false, scale)
      .squeeze(0);
}

// What sdpa cannot do: scores that are capped. Here transformers rounds products to the
// activations' dtype; one that overflows comes to the cap.
at::Tensor attend_capped(const QueryBlock& block, double scale, double cap) {
  at::Tensor scores = at::bmm(block.queries, block.keys.transpose(1, 2)).mul_(scale);
  scores.div_(cap).tanh_().mul_(cap);
  if (block.hidden.defined()) {
    const std::int64_t rows = block.hidden.size(0);
    scores.view({scores.size(0), block.groups, rows, scores.size(2)})
        .masked_fill_(block.hidden, -std::numeric_limits<double>::infinity());
  }
  const at::Tensor weights = at::softmax(scores, -1, at::kFloat).to(block.queries.scalar_type());
  return at::bmm(weights, block.values);
}

// A score of each head takes part in the softmax, and has no value. As transformers computes it,
// products are rounded to the activations' dtype.
at::Tensor attend_with_sinks(const QueryBlock& block, double scale, const at::Tensor& sinks) {
  at::Tensor scores = at::bmm(block.queries, block.keys.transpose(1, 2)).mul_(scale);
  const std::int64_t kv_heads = scores.size(0), rows = scores.size(1) / block.groups;
  if (block.hidden.defined()) {
    scores.view({kv_heads, block.groups, rows, scores.size(2)})
        .masked_fill_(block.hidden, -std::numeric_limits<double>::infinity());
  }
  const at::Tensor own = sinks.to(scores.scalar_type())
                             .view({kv_heads, block.groups, 1, 1})
                             .expand({kv_heads, block.groups, rows, 1})
                             .reshape({kv_heads, block.groups * rows, 1});
  const at::Tensor weights = at::softmax(at::cat({scores, own}, 2), -1);
  return at::bmm(weights.narrow(2, 0, scores.size(2)), block.values);
}

}  // namespace

// Allocates the cache at first. Position p goes to place p modulo its size: the newest replace the
// oldest. Attention to all that is kept does not depend on their order, as rotary embedding is done
// before.
void KvCache::keep(const Placed& from, Placed& cache, const CacheShape& shape) const {
  if (!cache.value.defined()) {
    const auto options = from.value.options();
    cache = {at::empty({from.value.size(0), shape.positions, from.value.size(2)},
                       shape.dtype ? options.dtype(*shape.dtype) : options),
             from.device};
  }
  require_together({&from, &cache});
  const std::int64_t size = cache.value.size(1);
  const std::int64_t count = from.value.size(1);
  const std::int64_t last = std::min(count, size);
  for (std::int64_t done = 0; done < last;) {
    const std::int64_t place = (positions_ + count - last + done) % size;
    const std::int64_t step = std::min(last - done, size - place);
    cache.value.narrow(1, place, step).copy_(from.value.narrow(1, count - last + done, step));
    done += step;
  }
}

void KvCache::append(const Placed& key, const Placed& value, const CacheShape& shape) {
  require_together({&key, &value});
  const std::int64_t count = key.value.size(1);
  if (count > 1 && positions_ + count > shape.positions) {
    if (positions_ > 0) throw Error("internal error: positions that are needed would be dropped");
    prompt_.emplace(key.value, value.value);
  }
  keep(key, keys_, shape);
  keep(value, values_, shape);
  positions_ += count;
}

void KvCache::append_latent(const Placed& latent, std::int64_t value_width,
                            const CacheShape& shape) {
  value_width_ = value_width;
  keep(latent, keys_, shape);
  positions_ += latent.value.size(1);
}

at::Tensor KvCache::values_of(const at::Tensor& keys) const {
  return values_.value.defined() ? values_.value : keys.narrow(2, 0, value_width_);
}

Placed KvCache::attend(const Placed& query, const AttentionOptions& options) {
  require_together({&query, &keys_});
  const std::int64_t heads = query.value.size(0);
  const std::int64_t count = query.value.size(1);
  const std::int64_t head_dim = query.value.size(2);
  const std::int64_t kv_heads = keys_.value.size(0);
  const std::int64_t groups = heads / kv_heads;
  const auto [all_keys, all_values] =
      prompt_ ? *prompt_ : std::pair(keys_.value, values_of(keys_.value));
  // Where positions were dropped, all that is left is what the one query sees.
  const std::int64_t held = std::min(positions_, all_keys.size(1));
  const std::int64_t past = held - count;
  const std::int64_t step = std::clamp<std::int64_t>(kScoreElements / (heads * held), 1, count);
  const std::int64_t width = all_values.size(2);
  at::Tensor result = at::empty({heads, count, width}, query.value.options());
  for (std::int64_t begin = 0; begin < count; begin += step) {
    const std::int64_t rows = std::min(step, count - begin);
    const std::int64_t first = past + begin;  // position of the first query in the block
    const auto window = static_cast<std::int64_t>(
        std::min<std::uint64_t>(options.window, std::numeric_limits<std::int64_t>::max()));
    const std::int64_t low = window > 0 ? std::max<std::int64_t>(0, first - window + 1) : 0;
    const std::int64_t columns = first + rows - low;
    QueryBlock block;
    block.queries = query.value.narrow(1, begin, rows).reshape({kv_heads, groups * rows, head_dim});
    block.keys = all_keys.narrow(1, low, columns).to(query.value.scalar_type());
    block.values = all_values.narrow(1, low, columns).to(query.value.scalar_type());
    block.groups = groups;
    if (rows > 1) {  // a single query sees all keys from `low` on
      block.hidden = hidden_keys(first, rows, low, columns, options.window, block.queries.device());
    }
    const at::Tensor attended =
        options.sinks.defined() ? attend_with_sinks(block, options.scale, options.sinks)
        : options.softcap > 0   ? attend_capped(block, options.scale, options.softcap)
                                : attend_plain(block, options.scale);
    result.narrow(1, begin, rows).copy_(attended.reshape({heads, rows, width}));
  }
  prompt_.reset();
  return {result, query.device};
}

}  // namespace berth
