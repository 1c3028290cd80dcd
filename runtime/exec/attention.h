// Attention of new positions over all positions so far, and the cache of keys and values that it
// needs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "runtime/exec/placed.h"

namespace berth {

struct AttentionOptions {
  double scale = 1;
  double softcap = 0;        // 0: none
  std::uint64_t window = 0;  // how many keys a query sees, its own included; 0: all
};

// The keys and values of one layer, each [kv heads, capacity, head size]. They are allocated once
// and filled in place. For use by one thread.
class KvCache {
 public:
  // Appends `key` and `value`, each [kv heads, new positions, head size]. The first call allocates
  // the cache on their device, for `capacity` positions; later calls must use the same device.
  void append(const Placed& key, const Placed& value, std::int64_t capacity);

  // Attention of `query`, [heads, new positions, head size], whose positions were appended last.
  // There are n times as many heads as kv heads, and n heads in a row share a kv head. Returns the
  // same shape. Scores and their softmax are computed for a block of queries at a time, so that
  // memory stays bounded for long prompts, and in float32, as in transformers' default attention.
  Placed attend(const Placed& query, const AttentionOptions& options) const;

  std::int64_t positions() const { return positions_; }
  DeviceIndex device() const { return keys_.device; }

 private:
  Placed keys_;
  Placed values_;
  std::int64_t positions_ = 0;
};

}  // namespace berth
