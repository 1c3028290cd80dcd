#include "runtime/quant/read_part.h"

#include "berth/error.h"
#include "planner/base/quote.h"
#include "runtime/io/reader.h"

namespace berth {

void ReadPart::require(std::uint64_t least) const {
  if (count >= least) return;
  throw Error(position + "holds " + std::to_string(count) + " elements, but " +
              std::to_string(least) + " are needed");
}

std::string position_of(const Checkpoint& checkpoint, std::uint32_t source) {
  const TensorInfo& info = checkpoint.tensors[source];
  return checkpoint.shards[info.shard].path.string() + ": tensor " + quote(info.name) + ": ";
}

ReadPart read_part(const Checkpoint& checkpoint, std::uint32_t source, const ReadRange& read) {
  ReadPart part;
  if (source >= checkpoint.tensors.size()) return part;
  const TensorInfo& info = checkpoint.tensors[source];
  part.stored = true;
  part.position = position_of(checkpoint, source);
  part.dtype = info.dtype;
  part.count = 1;
  for (const std::uint64_t size : info.shape) part.count *= size;
  part.memory =
      HostArena(block_up(info.end) - block_down(info.begin), "tensor " + quote(info.name));
  std::byte* at_begin = part.memory.data() + info.begin % kBlock;
  part.data = at_begin;
  if (info.end > info.begin) read(info.shard, info.begin, info.end, at_begin);
  return part;
}

}  // namespace berth
