#include "runtime/verify/digest.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <utility>

namespace berth {
namespace {

Digest canonical(XXH128_hash_t hash) {
  XXH128_canonical_t form;
  XXH128_canonicalFromHash(&form, hash);
  Digest digest;
  static_assert(sizeof form.digest == sizeof digest.bytes);
  std::memcpy(digest.bytes.data(), form.digest, sizeof digest.bytes);
  return digest;
}

Digest hash(const void* data, std::size_t bytes) { return canonical(XXH3_128bits(data, bytes)); }

// XXH3-128 of bytes that come one after another.
class Hasher {
 public:
  Hasher() : state_(XXH3_createState()) {
    if (!state_) throw std::bad_alloc();
    reset();
  }
  void reset() { XXH3_128bits_reset(state_.get()); }
  void add(const void* data, std::size_t bytes) { XXH3_128bits_update(state_.get(), data, bytes); }
  Digest digest() const { return canonical(XXH3_128bits_digest(state_.get())); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

// Combines the digests of a tensor's blocks. These may come in any order; those that come before
// their turn are held.
class BlockDigests {
 public:
  void add(std::uint64_t block, const Digest& digest) {
    if (block != next_) {
      waiting_.emplace(block, digest);
      return;
    }
    append(digest);
    for (auto at = waiting_.begin(); at != waiting_.end() && at->first == next_;) {
      append(at->second);
      at = waiting_.erase(at);
    }
  }
  Digest digest() const { return hasher_.digest(); }
  std::size_t waiting() const { return waiting_.size(); }

 private:
  // The definition hashes the digests one after another.
  void append(const Digest& digest) {
    hasher_.add(digest.bytes.data(), digest.bytes.size());
    ++next_;
  }

  Hasher hasher_;
  std::uint64_t next_ = 0;  // the block whose turn it is
  std::map<std::uint64_t, Digest> waiting_;
};

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
  BlockDigests blocks;
  for (std::uint64_t at = 0; at < tensor.size(); at += kDigestBlock) {
    blocks.add(at / kDigestBlock,
               hash(tensor.data() + at, std::min(kDigestBlock, tensor.size() - at)));
  }
  return blocks.digest();
}

struct OrderedDigest::State {
  BlockDigests blocks;
  Hasher block;  // the one that is not complete
  std::uint64_t complete = 0;
  std::uint64_t filled = 0;  // bytes of the one that is not

  void end_block() {
    blocks.add(complete++, block.digest());
    block.reset();
    filled = 0;
  }
};

OrderedDigest::OrderedDigest() : state_(std::make_unique<State>()) {}
OrderedDigest::~OrderedDigest() = default;

void OrderedDigest::add(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), kDigestBlock - state_->filled);
    state_->block.add(bytes.data(), count);
    state_->filled += count;
    if (state_->filled == kDigestBlock) state_->end_block();
    bytes = bytes.subspan(count);
  }
}

Digest OrderedDigest::finish() {
  if (state_->filled > 0) state_->end_block();
  return state_->blocks.digest();
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
  BlockDigests blocks;
  std::map<std::uint64_t, Half> halves;  // blocks that arrived in part, by number
  std::uint64_t half_bytes = 0;          // of the memory of these
  std::uint64_t left = 0;                // bytes not yet seen
  // Only for a tensor whose bytes may come again: begin and end of what was seen, neighbours
  // joined.
  std::map<std::uint64_t, std::uint64_t> seen;

  // How many bytes of memory all this takes, about.
  std::uint64_t held() const {
    constexpr std::uint64_t kEntry = 96;  // of a map
    constexpr std::uint64_t kHasher = 640;
    return sizeof(Progress) + kHasher + half_bytes +
           kEntry * (halves.size() + blocks.waiting() + seen.size());
  }

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

TensorDigests::TensorDigests(const Checkpoint& checkpoint, Done done)
    : checkpoint_(checkpoint),
      done_(std::move(done)),
      reach_(checkpoint.tensors.size()),
      shares_(checkpoint.tensors.size()),
      settled_(checkpoint.tensors.size()) {
  const std::vector<TensorInfo>& tensors = checkpoint.tensors;
  std::size_t furthest = 0;  // of the tensors of this shard so far, the one that ends last
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo& tensor = tensors[i];
    const TensorInfo& before = tensors[furthest];
    if (tensor.shard != before.shard) {
      furthest = i;
    } else if (i > 0) {
      if (tensor.begin < before.end && tensor.bytes() > 0) shares_[i] = shares_[furthest] = true;
      if (tensor.end > before.end) furthest = i;
    }
    reach_[i] = tensors[furthest].end;
  }
}

TensorDigests::~TensorDigests() = default;

void TensorDigests::add(std::uint32_t shard, std::uint64_t begin,
                        std::span<const std::byte> bytes) {
  const std::vector<TensorInfo>& tensors = checkpoint_.tensors;
  const std::uint64_t end = begin + bytes.size();
  // From the first tensor that ends after `begin`.
  auto at = std::partition_point(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) {
    const auto i = static_cast<std::size_t>(&tensor - tensors.data());
    return std::pair(tensor.shard, reach_[i]) <= std::pair(shard, begin);
  });
  for (; at != tensors.end() && at->shard == shard && at->begin < end; ++at) {
    const std::uint64_t from = std::max(at->begin, begin);
    const std::uint64_t to = std::min(at->end, end);
    if (from >= to) continue;
    add_fragment(static_cast<std::uint32_t>(at - tensors.begin()), from - at->begin,
                 bytes.subspan(from - begin, to - from));
  }
}

// Forgets how far a tensor has come: nothing more is to be found out about it. Returns false where
// that was so before. The caller holds the lock.
bool TensorDigests::settle(std::uint32_t tensor) {
  if (settled_[tensor]) return false;
  settled_[tensor] = true;
  if (const auto at = progress_.find(tensor); at != progress_.end()) {
    held_ -= at->second->held();
    progress_.erase(at);
  }
  return true;
}

void TensorDigests::defer(std::uint32_t tensor) {
  if (settle(tensor)) deferred_.push_back(tensor);
}

// Whether bytes of the tensor, perhaps all of them, are of use. Where a block would have to be put
// together and there is no space left for it, the tensor is deferred before its bytes are hashed.
bool TensorDigests::wants(std::uint32_t tensor, bool all) {
  const std::scoped_lock lock(mutex_);
  if (settled_[tensor]) return false;
  if (all || held_ + kDigestBlock <= kMostHeld || progress_.contains(tensor)) return true;
  defer(tensor);
  return false;
}

void TensorDigests::add_fragment(std::uint32_t tensor, std::uint64_t from,
                                 std::span<const std::byte> bytes) {
  const std::uint64_t size = checkpoint_.tensors[tensor].bytes();
  if (bytes.size() == size && !shares_[tensor]) return done_(tensor, digest_of(bytes));
  if (!wants(tensor, bytes.size() == size)) return;
  Digest digest;
  if (bytes.size() == size) {
    digest = digest_of(bytes);
    const std::scoped_lock lock(mutex_);
    if (!settle(tensor)) return;
  } else {
    const Fragment fragment(from, bytes, size);  // hashed before the lock is taken
    const std::scoped_lock lock(mutex_);
    if (settled_[tensor]) return;
    std::unique_ptr<Progress>& progress = progress_[tensor];
    if (!progress) {
      progress = std::make_unique<Progress>();
      progress->left = size;
    } else {
      held_ -= progress->held();
    }
    if (shares_[tensor]) {
      progress->see(from, from + bytes.size(), [&](std::uint64_t begin, std::uint64_t end) {
        const bool all = end - begin == bytes.size();
        add_new(*progress, size,
                all ? fragment : Fragment(begin, bytes.subspan(begin - from, end - begin), size));
      });
    } else {
      add_new(*progress, size, fragment);
    }
    held_ += progress->held();
    if (progress->left > 0) {
      if (held_ > kMostHeld) defer(tensor);
      return;
    }
    digest = progress->blocks.digest();
    settle(tensor);
  }
  done_(tensor, digest);
}

// Adds bytes of a tensor none of which was added before.
void TensorDigests::add_new(Progress& progress, std::uint64_t size, const Fragment& fragment) {
  for (const auto& [block, digest] : fragment.whole) progress.blocks.add(block, digest);
  for (std::uint64_t at = 0; at < fragment.bytes.size();) {
    const std::uint64_t block = (fragment.from + at) / kDigestBlock;
    const std::uint64_t offset = (fragment.from + at) % kDigestBlock;
    const std::uint64_t block_bytes = std::min(kDigestBlock, size - block * kDigestBlock);
    const std::uint64_t count = std::min(block_bytes - offset, fragment.bytes.size() - at);
    if (count < block_bytes) {
      Progress::Half& half = progress.halves[block];
      if (!half.bytes) {
        half.bytes.reset(new std::byte[block_bytes]);
        progress.half_bytes += block_bytes;
      }
      std::memcpy(half.bytes.get() + offset, fragment.bytes.data() + at, count);
      half.filled += count;
      if (half.filled == block_bytes) {
        progress.blocks.add(block, hash(half.bytes.get(), half.filled));
        progress.halves.erase(block);
        progress.half_bytes -= block_bytes;
      }
    }
    at += count;
  }
  progress.left -= fragment.bytes.size();
}

std::vector<std::uint32_t> TensorDigests::deferred() const {
  const std::scoped_lock lock(mutex_);
  return deferred_;
}

std::size_t TensorDigests::unfinished() const {
  const std::scoped_lock lock(mutex_);
  return progress_.size();
}

std::uint64_t TensorDigests::held() const {
  const std::scoped_lock lock(mutex_);
  return held_;
}

}  // namespace berth
