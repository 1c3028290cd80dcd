#include "runtime/stream/digest.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "planner/base/error.h"
#include "planner/checkpoint/quote.h"

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

// The digests stand one after another in memory, as the definition has them.
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

struct TensorDigests::Progress {
  struct Half {
    std::unique_ptr<std::byte[]> bytes;
    std::uint64_t filled = 0;
  };
  std::vector<Digest> blocks;
  std::map<std::uint64_t, Half> halves;  // blocks that arrived in part, by number
  std::uint64_t left = 0;                // bytes not yet seen
};

TensorDigests::TensorDigests(const Checkpoint& checkpoint, Done done)
    : checkpoint_(checkpoint), done_(std::move(done)) {
  const std::vector<TensorInfo>& tensors = checkpoint.tensors;
  for (std::size_t i = 1; i < tensors.size(); ++i) {
    const TensorInfo& before = tensors[i - 1];
    if (before.shard != tensors[i].shard || before.end <= tensors[i].begin) continue;
    throw Error(checkpoint.shards[before.shard].path.string() + ": tensors " + quote(before.name) +
                " and " + quote(tensors[i].name) +
                " share bytes, and checksums are of tensors that do not: convert it first (berth "
                "convert)");
  }
}

TensorDigests::~TensorDigests() = default;

void TensorDigests::add(std::uint32_t shard, std::uint64_t begin,
                        std::span<const std::byte> bytes) {
  const std::vector<TensorInfo>& tensors = checkpoint_.tensors;
  const std::uint64_t end = begin + bytes.size();
  // The first tensor that ends after `begin`: ends ascend as begins do.
  auto at = std::partition_point(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) {
    return std::pair(tensor.shard, tensor.end) <= std::pair(shard, begin);
  });
  for (; at != tensors.end() && at->shard == shard && at->begin < end; ++at) {
    const std::uint64_t from = std::max(at->begin, begin);
    const std::uint64_t to = std::min(at->end, end);
    if (from >= to) continue;
    add_part(static_cast<std::uint32_t>(at - tensors.begin()), from - at->begin,
             bytes.subspan(from - begin, to - from));
  }
}

void TensorDigests::add_part(std::uint32_t tensor, std::uint64_t from,
                             std::span<const std::byte> bytes) {
  const std::uint64_t size = checkpoint_.tensors[tensor].bytes();
  if (bytes.size() == size) return done_(tensor, digest_of(bytes));

  struct Part {
    std::uint64_t block;
    std::uint64_t offset;  // within the block
    std::span<const std::byte> bytes;
  };
  const auto block_bytes = [&](std::uint64_t block) {
    return std::min(kDigestBlock, size - block * kDigestBlock);
  };
  std::vector<std::pair<std::uint64_t, Digest>> whole;
  std::vector<Part> parts;
  for (std::uint64_t at = 0; at < bytes.size();) {
    const std::uint64_t block = (from + at) / kDigestBlock;
    const std::uint64_t offset = (from + at) % kDigestBlock;
    const std::uint64_t count = std::min(block_bytes(block) - offset, bytes.size() - at);
    if (count == block_bytes(block)) {
      whole.emplace_back(block, hash(bytes.data() + at, count));
    } else {
      parts.push_back({block, offset, bytes.subspan(at, count)});
    }
    at += count;
  }

  std::unique_ptr<Progress> finished;
  {
    const std::scoped_lock lock(mutex_);
    std::unique_ptr<Progress>& progress = progress_[tensor];
    if (!progress) {
      progress = std::make_unique<Progress>();
      progress->blocks.resize(blocks_of(size));
      progress->left = size;
    }
    for (const auto& [block, digest] : whole) progress->blocks[block] = digest;
    for (const Part& part : parts) {
      Progress::Half& half = progress->halves[part.block];
      if (!half.bytes) half.bytes.reset(new std::byte[block_bytes(part.block)]);
      std::memcpy(half.bytes.get() + part.offset, part.bytes.data(), part.bytes.size());
      half.filled += part.bytes.size();
      if (half.filled < block_bytes(part.block)) continue;
      progress->blocks[part.block] = hash(half.bytes.get(), half.filled);
      progress->halves.erase(part.block);
    }
    progress->left -= bytes.size();
    if (progress->left > 0) return;
    finished = std::move(progress);
    progress_.erase(tensor);
  }
  done_(tensor, combine(finished->blocks));
}

std::size_t TensorDigests::unfinished() const {
  const std::scoped_lock lock(mutex_);
  return progress_.size();
}

}  // namespace berth
