// What `berth checksum` writes: a file beside the model with a checksum per tensor, which a load
// can compare with what it reads.
//
// The file is JSON: which shards of what size, and for every tensor its name, shard, byte range,
// dtype and checksum (see digest.h). It belongs to these very files: other shards, sizes or
// tensors make it stale, which is an error, and so is a file that is not there.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "runtime/verify/digest.h"

namespace berth {

// By index into Checkpoint::tensors.
using Checksums = std::vector<Digest>;

std::string format_checksums(const Checkpoint& checkpoint, const Checksums& checksums);
// Throws Error naming `source`, and what to do, for text that is malformed or stale.
Checksums parse_checksums(std::string_view text, const std::string& source,
                          const Checkpoint& checkpoint);

Checksums read_checksums(const std::filesystem::path& file, const Checkpoint& checkpoint);

// Compares what a load reads with what was written down.
class Verifier {
 public:
  // Reads `file`. `checkpoint` must outlive it.
  Verifier(const Checkpoint& checkpoint, std::filesystem::path file);

  // Bytes of a shard from `begin` on, as TensorDigests::add() takes them; throws Error naming the
  // first tensor that differs.
  void add(std::uint32_t shard, std::uint64_t begin, std::span<const std::byte> bytes) {
    digests_.add(shard, begin, bytes);
  }
  // Of a whole tensor, as stored, that was hashed elsewhere; throws as add() does.
  void check(std::uint32_t tensor, const Digest& found) const;

  // To begin others like it with.
  const TensorDigests& digests() const { return digests_; }

  std::uint64_t verified() const { return verified_.load(std::memory_order_relaxed); }

 private:
  const Checkpoint& checkpoint_;
  std::filesystem::path file_;
  Checksums expected_;
  std::atomic<std::uint64_t> verified_ = 0;
  TensorDigests digests_;
};

}  // namespace berth
