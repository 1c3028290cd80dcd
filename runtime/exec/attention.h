// Attention of new positions over all positions so far, with its cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "runtime/exec/placed.h"

namespace berth {

struct AttentionOptions {
  double scale = 1;
  double softcap = 0;        // 0: none
  std::uint64_t window = 0;  // keys a query sees, itself included; 0: all
};

// Keys and values of one layer: [kv heads, capacity, head size], allocated once, filled in place.
class KvCache {
 public:
  // Appends `key` and `value` [kv heads, new positions, head size]; the first call allocates on
  // their device, which every later call must use.
  void append(const Placed& key, const Placed& value, std::int64_t capacity);

  // `query` [heads, new positions, head size] of the positions appended last; heads are a multiple
  // of the kv heads, neighbours sharing one. Returns the same shape. Scores and their softmax are
  // computed for a block of queries at a time, so that memory stays bounded for long prompts.
  Placed attend(const Placed& query, const AttentionOptions& options) const;

  std::int64_t positions() const { return positions_; }
  DeviceIndex device() const { return keys_.device; }

 private:
  Placed keys_;
  Placed values_;
  std::int64_t positions_ = 0;
};

}  // namespace berth
