// Checksums of tensors, from bytes that arrive in any order, from many threads.
//
// A tensor is cut into blocks of 256 KiB, counted from its first byte; the last may be shorter. Its
// checksum is XXH3-128 over the XXH3-128 digests of its blocks, one after another, each in xxHash's
// canonical (big-endian) form. So threads hash blocks side by side, wherever these were read, and
// only a block that a read cuts in two is first put together in memory of its own. Tensors may
// share bytes, as they do in PyTorch's files.
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

// The checksums of a checkpoint's tensors, as their bytes arrive. Safe for use from many threads.
class TensorDigests {
 public:
  // Called for each tensor whose bytes have all been added, on the thread that added the last ones.
  // What it throws comes out of add().
  using Done = std::function<void(std::uint32_t tensor, const Digest& digest)>;

  // `done` is called once for each tensor, but never for an empty one. `checkpoint` must outlive
  // this object.
  TensorDigests(const Checkpoint& checkpoint, Done done);
  // Begins anew for the checkpoint of `like`, without the cost of looking at all its tensors again.
  TensorDigests(const TensorDigests& like, Done done);
  ~TensorDigests();

  // Adds bytes of a shard, from offset `begin` of its file on. Each byte must be added once; only
  // bytes of tensors that share some with others may come again. Bytes between tensors are passed
  // over. Keeps up to two blocks of memory for each range whose neighbours have not been added.
  void add(std::uint32_t shard, std::uint64_t begin, std::span<const std::byte> bytes);

  // How many tensors some bytes were added of, but not all.
  std::size_t unfinished() const;

 private:
  struct Progress;
  struct Fragment;
  struct Layout;
  void add_fragment(std::uint32_t tensor, std::uint64_t from, std::span<const std::byte> bytes);
  void add_new(Progress& progress, std::uint64_t size, const Fragment& fragment);

  const Checkpoint& checkpoint_;
  Done done_;
  std::shared_ptr<const Layout> layout_;
  mutable std::mutex mutex_;  // guards progress_
  std::map<std::uint32_t, std::unique_ptr<Progress>> progress_;
};

}  // namespace berth
