// The shards of a checkpoint, open for reading, each chunk through the engine that suits it.
//
// A shard is opened at its first chunk and closed after its last, so that thousands of shards need
// a handful of descriptors. On opening and on closing the file is compared with what it was when
// its header was read. Safe for use from many threads.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/load.h"
#include "planner/base/descriptor.h"
#include "runtime/io/file_facts.h"
#include "runtime/io/reader.h"

namespace berth {

// Wraps an engine's reader before use; tests inject faults with it. `engine` is what it reads with.
using WrapReader = std::function<std::unique_ptr<Reader>(std::unique_ptr<Reader> reader,
                                                         std::uint32_t shard, IoEngine engine)>;

// Throws Error where the file at shard.path is not the one whose header was read.
void check_unchanged(const Shard& shard);
void check_unchanged(const Shard& shard, int fd);

// The size of the file at shard.path; nothing where that is not the file whose header was read.
std::optional<std::uint64_t> bytes_now(const Shard& shard);

// Opens a shard for buffered reading and checks that it is unchanged. Throws Error.
Descriptor open_shard(const Shard& shard);

// Whether reads of the shard by `engine` will come from the disk: by samples of what the page cache
// holds; those that bypass it always do. Throws Error as open_shard().
bool is_cold(const Shard& shard, const FileSystemFacts& system, IoEngine engine);

struct ReadPolicy {
  IoEngine engine = IoEngine::kAuto;  // io_uring that is not to be had: O_DIRECT, and a note
  // Leave nothing in the page cache that buffered reads brought there.
  bool drop_behind = false;
};

class ShardFiles {
 public:
  // `uses[shard]` is how many read() calls will be made for each shard.
  ShardFiles(const std::vector<Shard>& shards, std::vector<FileSystemFacts> systems,
             std::vector<std::uint32_t> uses, ReadPolicy policy, WrapReader wrap);
  ~ShardFiles();

  // Reads [begin, end) of a shard to `at_begin`. Memory down to the block boundary below and up to
  // the one above the range must be writable, and file offset 0 stand at a multiple of kBlock.
  // Throws Error where the file cannot be opened or has changed; other failures are the outcome's.
  ReadOutcome read(std::uint32_t shard, std::uint64_t begin, std::uint64_t end,
                   std::byte* at_begin);

  // Payload bytes that engines have delivered. O_DIRECT's rounding to blocks is not in it.
  std::uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }
  // "direct (0% in page cache, ext4)"; empty for a shard that was never read.
  std::string choice(std::uint32_t shard) const;
  // Why the engine asked for was not used; empty where it was.
  const std::string& note() const { return note_; }

 private:
  struct Open;
  struct Tally;
  std::shared_ptr<Open> open(std::uint32_t shard);
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
  std::mutex mutex_;  // guards open_ and left_
  std::vector<std::shared_ptr<Open>> open_;
  std::vector<std::uint32_t> left_;
  std::unique_ptr<Tally[]> tallies_;
};

}  // namespace berth
