// The index of a sharded checkpoint (model.safetensors.index.json, pytorch_model.bin.index.json),
// which says which shard holds which tensor.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/checkpoint/limits.h"
#include "planner/checkpoint/name_table.h"

namespace berth {

struct ShardIndex {
  struct Entry {
    std::string_view tensor;  // into `text` or `unescaped`
    std::uint32_t shard;      // into `shards`
  };
  std::unique_ptr<char[]> text;       // the file's text; names stay valid when the index is moved
  std::deque<std::string> unescaped;  // names that the file spells with backslashes
  std::vector<std::string> shards;    // paths from the index's folder on, sorted, unique
  std::vector<Entry> entries;         // in file order
  UniqueNames names;                  // the tensors' names; numbers are indices into entries

  // The index of `tensor` in entries, or NameTable::kAbsent. `hint` is where it probably is;
  // looking there first saves time.
  std::uint32_t find(std::string_view tensor, std::uint32_t hint = 0) const;
};

// Parses the text of an index; `source` names it in messages. Of a key that comes twice the last
// counts, as for Python. Throws Error if the text is not such an index, and if a shard's name does
// not end in `suffix` or leads out of the index's folder.
ShardIndex parse_shard_index(std::string_view json, const std::string& source,
                             const CheckpointLimits& limits = {},
                             std::string_view suffix = ".safetensors");

// Reads and parses the index in `file`. Throws Error as above, and if the file cannot be read.
ShardIndex read_shard_index(const std::filesystem::path& file, const CheckpointLimits& limits,
                            std::string_view suffix);

}  // namespace berth
