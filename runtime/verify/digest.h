// Checksums of tensors, from bytes that arrive in any order, from many threads.
//
// A tensor is cut into blocks of 256 KiB from its first byte (the last may be shorter). Its
// checksum is XXH3-128 over the XXH3-128 digests of its blocks, one after another, each in xxHash's
// canonical (big-endian) form. So blocks are hashed wherever they are read, side by side, and only
// those that a read cuts in two are put together in memory of their own first. Tensors may share
// bytes, as in PyTorch's files they do.
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

inline constexpr std::uint64_t kDigestBlock = 256u << 10;

struct Digest {
  std::array<unsigned char, 16> bytes{};

  bool operator==(const Digest&) const = default;
  std::string hex() const;  // 32 lower-case digits
  static std::optional<Digest> parse(std::string_view hex);
};

// Of a whole tensor at once.
Digest digest_of(std::span<const std::byte> tensor);

class TensorDigests {
 public:
  // Called on the thread that brought a tensor's last byte; what it throws comes out of add().
  using Done = std::function<void(std::uint32_t tensor, const Digest& digest)>;

  // `checkpoint` must outlive it. Empty tensors are never `done`, others once.
  TensorDigests(const Checkpoint& checkpoint, Done done);
  // The same anew, without another look at all tensors of the checkpoint.
  TensorDigests(const TensorDigests& like, Done done);
  ~TensorDigests();

  // Bytes of a shard from `begin` on, each once; but those of tensors that share some may come
  // again. What lies between tensors is passed over. Safe for use from many threads. Holds up to
  // two blocks for each range whose neighbours have not been added.
  void add(std::uint32_t shard, std::uint64_t begin, std::span<const std::byte> bytes);

  // Tensors of which a part was added and a part was not.
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
