// How errors name a place in a shard, and what a read that came to an early end means.
#pragma once

#include <cstdint>
#include <string>

#include "berth/checkpoint.h"
#include "runtime/io/reader.h"

namespace berth {

// "model-00001.safetensors: tensor 'x', byte 4096: ": how errors name a place in a shard.
std::string position_in_shard(const Checkpoint& checkpoint, std::uint32_t shard,
                              std::uint64_t offset);

// Throws the Error for a read of [begin, end) that did not come to its end: of a file that was cut,
// with the size that it has by then.
void require_complete(const Checkpoint& checkpoint, std::uint32_t shard, std::uint64_t end,
                      const ReadOutcome& outcome);

}  // namespace berth
