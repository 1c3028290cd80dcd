// The shards of a checkpoint, open for reading; each read goes through the engine that suits it.
//
// A shard is opened for its first read and closed after its last, so that thousands of shards need
// only a handful of descriptors. When it is opened and when it is closed, the file is compared with
// what it was when its header was read. Safe for use from many threads.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/load.h"
#include "planner/base/descriptor.h"
#include "runtime/io/file_facts.h"
#include "runtime/io/reader.h"

namespace berth {

// Wraps a reader of `engine` before it is used; tests inject faults with it.
using WrapReader = std::function<std::unique_ptr<Reader>(std::unique_ptr<Reader> reader,
                                                         std::uint32_t shard, IoEngine engine)>;

// Throws Error where the file at shard.path (or open as `fd`) is not the one whose header was read:
// its size, device, inode or time of last change differs.
void check_unchanged(const Shard& shard);
void check_unchanged(const Shard& shard, int fd);

// The size in bytes of the file at shard.path now; nothing where another file is there by now.
std::optional<std::uint64_t> bytes_now(const Shard& shard);

// Opens a shard for buffered reading and checks that it is unchanged. Throws Error.
Descriptor open_shard(const Shard& shard);

// Whether reads of the shard by `engine` will mostly come from the disk. Engines that bypass the
// page cache always read from it, unless the file system is in memory; for the others the page
// cache is sampled. Throws Error as open_shard() does.
bool is_cold(const Shard& shard, const FileSystemFacts& system, IoEngine engine);

struct ReadPolicy {
  IoEngine engine = IoEngine::kAuto;  // where io_uring is not available: O_DIRECT, and a note
  // Drop from the page cache what buffered reads brought there. Default: leave it.
  bool drop_behind = false;
};

class ShardFiles {
 public:
  // `systems` and `uses` have an entry for each shard: its file system, and how many read() calls
  // will be made for it. `wrap` may be empty. `shards` must outlive this object.
  ShardFiles(const std::vector<Shard>& shards, std::vector<FileSystemFacts> systems,
             const std::vector<std::uint32_t>& uses, ReadPolicy policy, WrapReader wrap);
  ~ShardFiles();

  // Reads bytes [begin, end) of a shard to `at_begin`, which must be as far above a multiple of
  // kBlock as `begin` is. Memory down to the block boundary below the range and up to the one above
  // it must be writable. Throws Error if the file cannot be opened or has changed; the outcome says
  // of any other failure.
  ReadOutcome read(std::uint32_t shard, std::uint64_t begin, std::uint64_t end,
                   std::byte* at_begin);

  // How many bytes that were asked for engines have delivered. What O_DIRECT reads besides, to fill
  // blocks, does not count.
  std::uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }
  // How a shard was read and why: "direct (0% in page cache, ext4)". Empty where it was never read.
  std::string choice(std::uint32_t shard) const;
  // Why the engine that was asked for is not used; empty where it is.
  const std::string& note() const { return note_; }

 private:
  struct Open;
  struct Use;
  struct Tally;
  std::shared_ptr<Open> open(std::uint32_t shard);
  std::shared_ptr<Open> open_anew(std::uint32_t shard);
  void close_after_last_use(std::uint32_t shard);
  struct Choice {
    IoEngine engine;
    bool resident;  // most of it was in the page cache already
  };
  Choice choose(std::uint32_t shard, const Open& file, std::uint64_t begin, std::uint64_t end);
  void drop(std::uint32_t shard, int fd, std::uint64_t begin, std::uint64_t end);

  const std::vector<Shard>& shards_;
  std::vector<FileSystemFacts> systems_;
  IoEngine wanted_;
  bool drop_behind_;
  std::string note_;
  WrapReader wrap_;
  std::shared_ptr<UringPool> rings_;
  std::atomic<std::uint64_t> bytes_read_{0};
  std::unique_ptr<Use[]> uses_;       // by shard
  std::unique_ptr<Tally[]> tallies_;  // by shard
};

}  // namespace berth
