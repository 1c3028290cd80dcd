// model.safetensors.index.json, pytorch_model.bin.index.json: which shard holds which tensor.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/name_table.h"

namespace berth {

struct ShardIndex {
  struct Entry {
    std::string_view tensor;  // into `text` or `unescaped`
    std::uint32_t shard;      // into `shards`
  };
  std::unique_ptr<char[]> text;       // the file; moving the index keeps the names in place
  std::deque<std::string> unescaped;  // names that the file spells with backslashes
  std::vector<std::string> shards;    // file names in the index's folder, sorted, unique
  std::vector<Entry> entries;         // in file order
  UniqueNames names;                  // of the tensors; numbers are indices into entries

  // Index into entries, or NameTable::kAbsent. `hint`: where it may be, found sooner there.
  std::uint32_t find(std::string_view tensor, std::uint32_t hint = 0) const;
};

// Throws Error for text that is not such an index, a tensor named twice, and a shard name that is
// not a plain file name ending in `suffix` (an index must not lead out of its folder).
ShardIndex parse_shard_index(std::string_view json, const std::string& source,
                             const CheckpointLimits& limits = {},
                             std::string_view suffix = ".safetensors");

// The same from a file.
ShardIndex read_shard_index(const std::filesystem::path& file, const CheckpointLimits& limits,
                            std::string_view suffix);

}  // namespace berth
