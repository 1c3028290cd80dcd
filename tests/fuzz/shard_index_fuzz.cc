// Runs the index parser on arbitrary bytes. It must answer or throw Error, and no shard name that
// it accepts may lead out of the folder.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "berth/error.h"
#include "planner/checkpoint/safetensors/shard_index.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const berth::ShardIndex index = berth::parse_shard_index(text, "input");
    for (const auto& entry : index.entries) {
      if (entry.shard >= index.shards.size()) std::abort();
      const std::filesystem::path shard(index.shards[entry.shard]);
      if (shard.empty() || shard.is_absolute()) std::abort();
      for (const auto& part : shard) {
        if (part == "..") std::abort();
      }
    }
  } catch (const berth::Error&) {
  }
  return 0;
}
