// Attention of new positions over all positions so far, and the cache of keys and values that it
// needs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "runtime/exec/placed.h"

namespace berth {

struct AttentionOptions {
  double scale = 1;
  double softcap = 0;        // 0: none
  std::uint64_t window = 0;  // how many keys a query sees, its own included; 0: all
  at::Tensor sinks = {};     // [heads]: scores that have no value; undefined: none
};

// The memory of a KvCache, which the plan's ledger counts.
struct CacheShape {
  std::int64_t positions = 0;  // at most so many are kept: of a layer with a window, the last ones
  std::optional<at::ScalarType> dtype;  // Default: that of the keys
};

// The keys and values of one layer, each [kv heads, positions, head size]. They are allocated once
// and filled in place; where there are more positions than the cache keeps, the oldest go. For use
// by one thread.
class KvCache {
 public:
  // Appends `key` and `value`, each [kv heads, new positions, head size]. The first call allocates
  // the cache on their device; later calls must give the same device and shape. Where older
  // positions have to go, only the first call may append more than one.
  void append(const Placed& key, const Placed& value, const CacheShape& shape);

  // The same for latent attention: what is kept of a position is one vector, [1, new positions,
  // size], which is its key, and whose first `value_width` elements are its value.
  void append_latent(const Placed& latent, std::int64_t value_width, const CacheShape& shape);

  // Attention of `query`, [heads, new positions, head size], whose positions were appended last; to
  // be called once after each append(). A window must be as large as what is kept, or larger than
  // all positions. There are n times as many heads as kv heads, and n heads in a row share a kv
  // head. Returns the same shape, but as wide as values. Scores and their softmax are computed for
  // a block of queries at a time, so that memory stays bounded for long prompts, and in float32, as
  // in transformers' default attention.
  Placed attend(const Placed& query, const AttentionOptions& options);

  std::int64_t positions() const { return positions_; }
  DeviceIndex device() const { return keys_.device; }
  // Of the memory that is kept.
  std::uint64_t bytes() const {
    return keys_.value.nbytes() + (values_.value.defined() ? values_.value.nbytes() : 0);
  }

 private:
  void keep(const Placed& from, Placed& cache, const CacheShape& shape) const;
  at::Tensor values_of(const at::Tensor& keys) const;

  Placed keys_;
  Placed values_;                 // undefined: they are the beginnings of keys
  std::int64_t value_width_ = 0;  // where they are
  // All keys and values of a prompt that is longer than what is kept, until attend() has seen them.
  std::optional<std::pair<at::Tensor, at::Tensor>> prompt_;
  std::int64_t positions_ = 0;
};

}  // namespace berth
