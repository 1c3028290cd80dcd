#include "berth/checkpoint.h"

#include <algorithm>
#include <utility>

namespace berth {

std::uint64_t Checkpoint::bytes() const {
  std::uint64_t sum = 0;
  std::uint64_t reach = 0;  // the bytes of this shard before `reach` have been counted
  std::uint32_t shard = 0;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.shard != std::exchange(shard, tensor.shard)) reach = 0;
    const std::uint64_t begin = std::max(tensor.begin, reach);
    if (tensor.end > begin) sum += tensor.end - begin;
    reach = std::max(reach, tensor.end);
  }
  return sum;
}

bool has_tiles(const Checkpoint& checkpoint) {
  return std::any_of(checkpoint.forms.begin(), checkpoint.forms.end(),
                     [](const StoredForm& form) { return form.tiled; });
}

}  // namespace berth
