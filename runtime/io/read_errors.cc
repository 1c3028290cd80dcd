#include "runtime/io/read_errors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "planner/base/error_kinds.h"
#include "planner/base/quote.h"
#include "runtime/io/shard_files.h"

namespace berth {

std::string position_in_shard(const Checkpoint& checkpoint, std::uint32_t shard,
                              std::uint64_t offset) {
  const auto& tensors = checkpoint.tensors;
  auto after = std::upper_bound(tensors.begin(), tensors.end(), std::pair(shard, offset),
                                [](const auto& position, const TensorInfo& tensor) {
                                  return position < std::pair(tensor.shard, tensor.begin);
                                });
  std::string text = checkpoint.shards[shard].path.string() + ": ";
  // Empty tensors may come between the tensor that the byte belongs to and the byte.
  while (after != tensors.begin() && (--after)->shard == shard) {
    if (after->end > offset) {
      text += "tensor " + quote(after->name) + ", ";
      break;
    }
  }
  return text + "byte " + std::to_string(offset);
}

void require_complete(const Checkpoint& checkpoint, std::uint32_t shard, std::uint64_t end,
                      const ReadOutcome& outcome) {
  if (outcome.reached == end) return;
  const std::string position = position_in_shard(checkpoint, shard, outcome.reached) + ": ";
  if (outcome.error != 0)
    throw BrokenFile(position + "cannot read: " + std::strerror(outcome.error));
  // A read that began behind the end of the file says only that. Where the end is, the file tells.
  const Shard& file = checkpoint.shards[shard];
  const std::optional<std::uint64_t> bytes = bytes_now(file);
  if (!bytes || *bytes > outcome.reached) {
    throw BrokenFile(position + "the file is truncated: reading it ends here, " +
                     std::to_string(end - outcome.reached) + " bytes short");
  }
  throw BrokenFile(position + "the file is truncated: it has " + std::to_string(*bytes) +
                   " bytes now, " + std::to_string(file.file_bytes) + " when its header was read");
}

}  // namespace berth
