// The index parser on arbitrary bytes: it answers or throws Error, and no shard name it lets
// through leads out of the folder.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "berth/error.h"
#include "planner/checkpoint/safetensors/shard_index.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const berth::ShardIndex index = berth::parse_shard_index(text, "input");
    for (const auto& entry : index.entries) {
      if (entry.shard >= index.shards.size()) std::abort();
      if (index.shards[entry.shard].find('/') != std::string::npos) std::abort();
    }
  } catch (const berth::Error&) {
  }
  return 0;
}
