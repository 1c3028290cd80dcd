// Checksums of tensors, from bytes that arrive in any order, from many threads.
//
// A tensor is cut into blocks of 256 KiB, counted from its first byte; the last may be shorter. Its
// checksum is XXH3-128 over the XXH3-128 digests of its blocks, one after another, each in xxHash's
// canonical (big-endian) form. So threads hash blocks side by side, wherever these were read, and
// only a block that a read cuts in two is first put together in memory of its own. Tensors may
// share bytes, as they do in PyTorch's files; where so many do that their blocks would take too
// much memory, some tensors are deferred, to be read once more, each from its beginning to its end.
// XXH3: https://github.com/Cyan4973/xxHash.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"

namespace berth {

inline constexpr std::uint64_t kDigestBlock = 256u << 10;  // bytes

struct Digest {
  std::array<unsigned char, 16> bytes{};

  bool operator==(const Digest&) const = default;
  std::string hex() const;  // 32 lower-case digits
  // The inverse of hex(). Nothing for any other text.
  static std::optional<Digest> parse(std::string_view hex);
};

// The checksum of a tensor whose bytes are all at hand.
Digest digest_of(std::span<const std::byte> tensor);

// The checksum of a tensor whose bytes come one after another. Takes about 1 KiB of memory, however
// large the tensor is. Not safe for use from several threads.
class OrderedDigest {
 public:
  OrderedDigest();
  ~OrderedDigest();
  // Adds the next bytes, any number of them.
  void add(std::span<const std::byte> bytes);
  // To be called once, when all bytes have been added.
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The checksums of a checkpoint's tensors, as their bytes arrive. Safe for use from many threads.
class TensorDigests {
 public:
  // How many bytes are held at most of blocks that are being put together, and of what is known
  // about unfinished tensors; one call of add() may go above it by two blocks. Sixteen threads that
  // read in the order of the files hold 8 MiB.
  static constexpr std::uint64_t kMostHeld = 32u << 20;

  // Called for each tensor whose bytes have all been added, on the thread that added the last ones.
  // What it throws comes out of add().
  using Done = std::function<void(std::uint32_t tensor, const Digest& digest)>;

  // `done` is called once for each tensor that is not deferred, but never for an empty one.
  // `checkpoint` must outlive this object.
  TensorDigests(const Checkpoint& checkpoint, Done done);
  ~TensorDigests();

  // Adds bytes of a shard, from offset `begin` of its file on. Each byte must be added once; only
  // bytes of tensors that share some with others may come again. Bytes between tensors are passed
  // over. Defers a tensor where more than kMostHeld bytes would be held otherwise.
  void add(std::uint32_t shard, std::uint64_t begin, std::span<const std::byte> bytes);

  // The tensors that were deferred: `done` will not be called for them, whatever is added.
  std::vector<std::uint32_t> deferred() const;
  // How many tensors some bytes were added of, but not all; without those that were deferred.
  std::size_t unfinished() const;
  // How many bytes are held now.
  std::uint64_t held() const;

 private:
  struct Progress;
  struct Fragment;
  void add_fragment(std::uint32_t tensor, std::uint64_t from, std::span<const std::byte> bytes);
  void add_new(Progress& progress, std::uint64_t size, const Fragment& fragment);
  bool wants(std::uint32_t tensor, bool all);
  void defer(std::uint32_t tensor);
  bool settle(std::uint32_t tensor);

  const Checkpoint& checkpoint_;
  Done done_;
  // By tensor: the largest end among the tensors of its shard up to and including it.
  std::vector<std::uint64_t> reach_;
  std::vector<bool> shares_;  // by tensor: whether some of its bytes belong to another one, too
  mutable std::mutex mutex_;  // guards what follows
  std::map<std::uint32_t, std::unique_ptr<Progress>> progress_;
  std::vector<bool> settled_;  // by tensor: done or deferred
  std::vector<std::uint32_t> deferred_;
  std::uint64_t held_ = 0;
};

}  // namespace berth
