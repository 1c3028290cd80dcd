// What a checkpoint may have at most.
#pragma once

#include <cstdint>

namespace berth {

// Opening a checkpoint that has more is an Error. These are the limits of the format's reference
// implementation, and our own where it has none.
struct CheckpointLimits {
  std::uint64_t header_bytes = 100'000'000;  // of one shard
  std::uint64_t tensors = 2'000'000;         // in all shards
  std::uint64_t shards = 100'000;
  std::uint64_t rank = 64;  // dimensions of a tensor
  std::uint64_t name_bytes = 4096;
};

}  // namespace berth
