#include "planner/model/open/ties.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "planner/base/input_file.h"
#include "planner/base/quote.h"
#include "planner/model/tree/dequantization.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

// The first read is small, because tensors that differ differ at once.
constexpr std::uint64_t kFirstRead = 4u << 10;
constexpr std::uint64_t kLargestRead = 1u << 20;

bool same_form(const StoredForm* a, const StoredForm* b) {
  return a == nullptr || b == nullptr ? a == b : *a == *b;
}

bool share_storage(const TensorInfo& a, const TensorInfo& b) {
  return a.shard == b.shard && a.begin == b.begin;
}

bool same_bytes(const Checkpoint& checkpoint, const TensorInfo& a, const TensorInfo& b) {
  const File left(checkpoint.shards[a.shard].path);
  const File right(checkpoint.shards[b.shard].path);
  const std::uint64_t bytes = a.bytes();
  std::vector<char> from_left(std::min(bytes, kLargestRead));
  std::vector<char> from_right(from_left.size());
  std::uint64_t step = kFirstRead;
  for (std::uint64_t at = 0; at < bytes; step = kLargestRead) {
    const std::uint64_t count = std::min(bytes - at, step);
    left.read_exactly(a.begin + at, from_left.data(), count);
    right.read_exactly(b.begin + at, from_right.data(), count);
    if (std::memcmp(from_left.data(), from_right.data(), count) != 0) return false;
    at += count;
  }
  return true;
}

bool are_copies(const Checkpoint& checkpoint, const TensorInfo& a, const TensorInfo& b) {
  if (a.dtype != b.dtype || a.shape != b.shape) return false;
  if (!same_form(checkpoint.form_of(a), checkpoint.form_of(b))) return false;
  return share_storage(a, b) || same_bytes(checkpoint, a, b);
}

// Tensors that are stored apart from those that they should be tied to.
class StoredApart {
 public:
  void add(Name tensor, Name tied_to) {
    if (count_++ > 0) return;
    first_ = quote(tensor) + " to " + quote(tied_to);
  }
  // "" if there are none.
  std::string note(const std::string& config) const {
    if (count_ == 0) return "";
    const std::string more =
        count_ > 1 ? ", and " + std::to_string(count_ - 1) + " more tensors likewise" : "";
    return config + " ties " + first_ + more +
           ", but the checkpoint stores both and they differ: both are kept, as in transformers";
  }

 private:
  std::string first_;
  std::size_t count_ = 0;
};

}  // namespace

void settle_ties(ModelTree& tree, const Checkpoint& checkpoint, std::optional<DType> wanted,
                 const std::string& config) {
  StoredApart apart;
  for (std::vector<TensorId>& group : tree.ties) {
    const auto first =
        std::ranges::find_if(group, [&](TensorId id) { return tree.tensors[id].source != kNone; });
    if (first == group.end()) continue;
    const Name name = tree.tensors[*first].name;
    const std::uint32_t source = tree.tensors[*first].source;
    const TensorInfo& stored = checkpoint.tensors[source];
    std::erase_if(group, [&](TensorId id) {
      ModelTensor& tensor = tree.tensors[id];
      if (tensor.source == kNone || tensor.source == source) return false;
      const TensorInfo& own = checkpoint.tensors[tensor.source];
      if (are_copies(checkpoint, stored, own)) {
        if (!share_storage(stored, own)) tree.ignored_bytes += own.bytes();
        return false;
      }
      apart.add(tensor.name, name);
      tensor.tied_to = kNone;
      return true;
    });
    for (const TensorId id : group) {
      ModelTensor& tensor = tree.tensors[id];
      if (tensor.dequantization == kNone) adopt_stored(tensor, checkpoint, source, wanted);
      tensor.source = id == group[0] ? source : kNone;
    }
  }
  std::erase_if(tree.ties, [](const auto& group) { return group.size() < 2; });
  if (std::string note = apart.note(config); !note.empty()) tree.notes.push_back(std::move(note));
  if (tree.quantized != nullptr) follow_ties(tree);
}

}  // namespace berth
