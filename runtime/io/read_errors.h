// How errors name a position in a shard, and what it means when a read ends early.
#pragma once

#include <cstdint>
#include <string>

#include "berth/checkpoint.h"
#include "runtime/io/reader.h"

namespace berth {

// Where byte `offset` of a shard is, for an error about it: "model-00001.safetensors: tensor 'x',
// byte 4096". Names no tensor where the byte belongs to none.
std::string position_in_shard(const Checkpoint& checkpoint, std::uint32_t shard,
                              std::uint64_t offset);

// Returns where the read reached `end`. Else throws the Error for it: that the disk failed, or that
// the file was cut short, with the size that the file has by then.
void require_complete(const Checkpoint& checkpoint, std::uint32_t shard, std::uint64_t end,
                      const ReadOutcome& outcome);

}  // namespace berth
