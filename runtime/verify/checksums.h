// The checksum file: `berth checksum` writes it beside the model, with a checksum for each tensor,
// and a load can compare what it reads with it.
//
// The file is JSON. It lists the shards with their sizes, and for every tensor its name, shard,
// byte range, dtype and checksum (see digest.h). It belongs to exactly these files: where the
// model's shards, their sizes or its tensors are others, the file is stale, which is an error. So
// is a missing file.
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

// The text of the checksum file.
std::string format_checksums(const Checkpoint& checkpoint, const Checksums& checksums);
// The checksums in `text`, which comes from `source`. Throws Error that names `source`, and says
// what to do, for text that is malformed or stale.
Checksums parse_checksums(std::string_view text, const std::string& source,
                          const Checkpoint& checkpoint);

// Reads the file and parses it; throws Error as parse_checksums() does, and where it is missing.
Checksums read_checksums(const std::filesystem::path& file, const Checkpoint& checkpoint);

// Compares the bytes that a load reads with the checksums in a file. Safe for use from many
// threads.
class Verifier {
 public:
  // Reads `file`, and throws Error as read_checksums() does. `checkpoint` must outlive this object.
  Verifier(const Checkpoint& checkpoint, std::filesystem::path file);

  // Adds bytes of a shard, as TensorDigests::add() does. Throws Error naming the tensor where one
  // is complete now and its checksum differs.
  void add(std::uint32_t shard, std::uint64_t begin, std::span<const std::byte> bytes) {
    digests_.add(shard, begin, bytes);
  }
  // Compares a checksum that was computed elsewhere, of all bytes of a tensor as stored. Throws as
  // add() does.
  void check(std::uint32_t tensor, const Digest& found) const;

  // The tensors that add() could not compare, as TensorDigests::deferred(). Whoever reads each of
  // them once more passes its checksum to compare().
  std::vector<std::uint32_t> deferred() const { return digests_.deferred(); }
  // As check(), and counts the tensor as verified.
  void compare(std::uint32_t tensor, const Digest& found) {
    check(tensor, found);
    verified_.fetch_add(1, std::memory_order_relaxed);
  }

  // How many tensors add() and compare() have found to be right.
  std::uint64_t verified() const { return verified_.load(std::memory_order_relaxed); }

 private:
  const Checkpoint& checkpoint_;
  std::filesystem::path file_;
  Checksums expected_;
  std::atomic<std::uint64_t> verified_ = 0;
  TensorDigests digests_;
};

}  // namespace berth
