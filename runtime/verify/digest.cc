#include "runtime/verify/digest.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace berth {
namespace {

Digest hash(const void* data, std::size_t bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, bytes));
  Digest digest;
  static_assert(sizeof canonical.digest == sizeof digest.bytes);
  std::memcpy(digest.bytes.data(), canonical.digest, sizeof digest.bytes);
  return digest;
}

// The definition hashes the digests one after another; that is how they are in memory.
static_assert(sizeof(Digest) == 16);
Digest combine(const std::vector<Digest>& blocks) {
  return hash(blocks.data(), blocks.size() * sizeof(Digest));
}

std::uint64_t blocks_of(std::uint64_t bytes) { return (bytes + kDigestBlock - 1) / kDigestBlock; }

}  // namespace

std::string Digest::hex() const {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::optional<Digest> Digest::parse(std::string_view hex) {
  Digest digest;
  if (hex.size() != 2 * digest.bytes.size()) return std::nullopt;
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const char c = hex[i];
    const int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (value < 0) return std::nullopt;
    digest.bytes[i / 2] = static_cast<unsigned char>(digest.bytes[i / 2] << 4 | value);
  }
  return digest;
}

Digest digest_of(std::span<const std::byte> tensor) {
  std::vector<Digest> blocks;
  blocks.reserve(blocks_of(tensor.size()));
  for (std::uint64_t at = 0; at < tensor.size(); at += kDigestBlock) {
    blocks.push_back(hash(tensor.data() + at, std::min(kDigestBlock, tensor.size() - at)));
  }
  return combine(blocks);
}

// Bytes of a tensor of `size` bytes, from its byte `first` on, and the digests of those blocks that
// are in them as a whole.
struct TensorDigests::Fragment {
  Fragment(std::uint64_t first, std::span<const std::byte> data, std::uint64_t size)
      : from(first), bytes(data) {
    for (std::uint64_t block = blocks_of(from); block < blocks_of(size); ++block) {
      const std::uint64_t begin = block * kDigestBlock;
      const std::uint64_t end = std::min(begin + kDigestBlock, size);
      if (end > from + bytes.size()) break;
      whole.emplace_back(block, hash(bytes.data() + (begin - from), end - begin));
    }
  }
  std::uint64_t from;
  std::span<const std::byte> bytes;
  std::vector<std::pair<std::uint64_t, Digest>> whole;  // by number
};

// How far one tensor has come.
struct TensorDigests::Progress {
  // A block that is being put together.
  struct Half {
    std::unique_ptr<std::byte[]> bytes;
    std::uint64_t filled = 0;
  };
  std::vector<Digest> blocks;
  std::map<std::uint64_t, Half> halves;  // blocks that arrived in part, by number
  std::uint64_t left = 0;                // bytes not yet seen
  // Only for a tensor whose bytes may come again: begin and end of what was seen, neighbours
  // joined.
  std::map<std::uint64_t, std::uint64_t> seen;

  // Calls add(begin, end) for each range within [begin, end) that was not seen before, and
  // remembers that it has been seen now.
  template <class Add>
  void see(std::uint64_t begin, std::uint64_t end, const Add& add) {
    auto at = seen.upper_bound(begin);
    if (at != seen.begin() && std::prev(at)->second >= begin) --at;
    std::uint64_t joined = begin;
    std::uint64_t from = begin;
    while (at != seen.end() && at->first <= end) {
      if (at->first > from) add(from, at->first);
      joined = std::min(joined, at->first);
      from = std::max(from, at->second);
      at = seen.erase(at);
    }
    if (from < end) add(from, end);
    seen[joined] = std::max(from, end);
  }
};

// How the tensors of a checkpoint lie in their shards.
struct TensorDigests::Layout {
  explicit Layout(const std::vector<TensorInfo>& tensors)
      : reach(tensors.size()), shares(tensors.size()) {
    std::size_t furthest = 0;  // of the tensors of this shard so far, the one that ends last
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const TensorInfo& tensor = tensors[i];
      const TensorInfo& before = tensors[furthest];
      if (tensor.shard != before.shard) {
        furthest = i;
      } else if (i > 0) {
        if (tensor.begin < before.end && tensor.bytes() > 0) shares[i] = shares[furthest] = true;
        if (tensor.end > before.end) furthest = i;
      }
      reach[i] = tensors[furthest].end;
    }
  }
  // By tensor: the largest end among the tensors of its shard up to and including it.
  std::vector<std::uint64_t> reach;
  std::vector<bool> shares;  // by tensor: whether some of its bytes belong to another one, too
};

TensorDigests::TensorDigests(const Checkpoint& checkpoint, Done done)
    : checkpoint_(checkpoint),
      done_(std::move(done)),
      layout_(std::make_shared<Layout>(checkpoint.tensors)) {}

TensorDigests::TensorDigests(const TensorDigests& like, Done done)
    : checkpoint_(like.checkpoint_), done_(std::move(done)), layout_(like.layout_) {}

TensorDigests::~TensorDigests() = default;

void TensorDigests::add(std::uint32_t shard, std::uint64_t begin,
                        std::span<const std::byte> bytes) {
  const std::vector<TensorInfo>& tensors = checkpoint_.tensors;
  const std::uint64_t end = begin + bytes.size();
  // From the first tensor that ends after `begin`.
  auto at = std::partition_point(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) {
    const auto i = static_cast<std::size_t>(&tensor - tensors.data());
    return std::pair(tensor.shard, layout_->reach[i]) <= std::pair(shard, begin);
  });
  for (; at != tensors.end() && at->shard == shard && at->begin < end; ++at) {
    const std::uint64_t from = std::max(at->begin, begin);
    const std::uint64_t to = std::min(at->end, end);
    if (from >= to) continue;
    add_fragment(static_cast<std::uint32_t>(at - tensors.begin()), from - at->begin,
                 bytes.subspan(from - begin, to - from));
  }
}

void TensorDigests::add_fragment(std::uint32_t tensor, std::uint64_t from,
                                 std::span<const std::byte> bytes) {
  const std::uint64_t size = checkpoint_.tensors[tensor].bytes();
  const bool shares = layout_->shares[tensor];
  if (bytes.size() == size && !shares) return done_(tensor, digest_of(bytes));

  const Fragment fragment(from, bytes, size);  // hashed before the lock is taken
  std::vector<Digest> blocks;
  {
    const std::scoped_lock lock(mutex_);
    std::unique_ptr<Progress>& progress = progress_[tensor];
    if (!progress) {
      progress = std::make_unique<Progress>();
      progress->blocks.resize(blocks_of(size));
      progress->left = size;
    }
    if (progress->left == 0) return;  // all of it came before
    if (shares) {
      progress->see(from, from + bytes.size(), [&](std::uint64_t begin, std::uint64_t end) {
        const bool all = end - begin == bytes.size();
        add_new(*progress, size,
                all ? fragment : Fragment(begin, bytes.subspan(begin - from, end - begin), size));
      });
    } else {
      add_new(*progress, size, fragment);
    }
    if (progress->left > 0) return;
    blocks = std::move(progress->blocks);
    // One that shares bytes is kept, so that it is not done again when its bytes come again.
    if (!shares) progress_.erase(tensor);
  }
  done_(tensor, combine(blocks));
}

// Adds bytes of a tensor none of which was added before.
void TensorDigests::add_new(Progress& progress, std::uint64_t size, const Fragment& fragment) {
  for (const auto& [block, digest] : fragment.whole) progress.blocks[block] = digest;
  for (std::uint64_t at = 0; at < fragment.bytes.size();) {
    const std::uint64_t block = (fragment.from + at) / kDigestBlock;
    const std::uint64_t offset = (fragment.from + at) % kDigestBlock;
    const std::uint64_t block_bytes = std::min(kDigestBlock, size - block * kDigestBlock);
    const std::uint64_t count = std::min(block_bytes - offset, fragment.bytes.size() - at);
    if (count < block_bytes) {
      Progress::Half& half = progress.halves[block];
      if (!half.bytes) half.bytes.reset(new std::byte[block_bytes]);
      std::memcpy(half.bytes.get() + offset, fragment.bytes.data() + at, count);
      half.filled += count;
      if (half.filled == block_bytes) {
        progress.blocks[block] = hash(half.bytes.get(), half.filled);
        progress.halves.erase(block);
      }
    }
    at += count;
  }
  progress.left -= fragment.bytes.size();
}

std::size_t TensorDigests::unfinished() const {
  const std::scoped_lock lock(mutex_);
  return static_cast<std::size_t>(std::count_if(
      progress_.begin(), progress_.end(), [](const auto& each) { return each.second->left > 0; }));
}

}  // namespace berth
