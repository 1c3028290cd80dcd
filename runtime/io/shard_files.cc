#include "runtime/io/shard_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

#include "berth/error.h"
#include "planner/base/error_kinds.h"
#include "planner/base/join.h"
#include "runtime/io/engines.h"

namespace berth {
namespace {

void compare(const Shard& shard, const struct stat& now) {
  const std::int64_t mtime_ns =
      static_cast<std::int64_t>(now.st_mtim.tv_sec) * 1'000'000'000 + now.st_mtim.tv_nsec;
  const auto bytes = static_cast<std::uint64_t>(now.st_size);
  if (bytes != shard.file_bytes) {
    throw BrokenFile(shard.path.string() + ": the file changed since its header was read: " +
                     std::to_string(shard.file_bytes) + " bytes then, " + std::to_string(bytes) +
                     " now; load again when nothing writes to it");
  }
  if (now.st_dev != shard.device || now.st_ino != shard.inode || mtime_ns != shard.mtime_ns) {
    throw BrokenFile(
        shard.path.string() +
        ": the file was replaced or written to since its header was read; load again when "
        "nothing writes to it");
  }
}

[[noreturn]] void fail_errno(const Shard& shard, const char* doing) {
  throw BrokenFile(shard.path.string() + ": " + doing + ": " + std::strerror(errno));
}

}  // namespace

void check_unchanged(const Shard& shard) {
  struct stat now {};
  if (stat(shard.path.c_str(), &now) != 0) fail_errno(shard, "cannot look at the shard");
  compare(shard, now);
}

void check_unchanged(const Shard& shard, int fd) {
  struct stat now {};
  if (fstat(fd, &now) != 0) fail_errno(shard, "cannot look at the shard");
  compare(shard, now);
}

std::optional<std::uint64_t> bytes_now(const Shard& shard) {
  struct stat now {};
  if (stat(shard.path.c_str(), &now) != 0) return std::nullopt;
  if (now.st_dev != shard.device || now.st_ino != shard.inode) return std::nullopt;
  return static_cast<std::uint64_t>(now.st_size);
}

Descriptor open_shard(const Shard& shard) {
  Descriptor fd(::open(shard.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) fail_errno(shard, "cannot open the shard");
  check_unchanged(shard, fd.get());
  return fd;
}

bool is_cold(const Shard& shard, const FileSystemFacts& system, IoEngine engine) {
  if (system.memory) return false;
  if (row_of(engine).direct) return true;
  const Descriptor fd = open_shard(shard);
  return resident_estimate(fd.get(), shard.file_bytes).value_or(1) < 0.5;
}

struct ShardFiles::Open {
  Descriptor buffered;
  Descriptor direct;                       // -1 where the file system refuses O_DIRECT
  std::atomic<bool> direct_works = false;  // true until a read is refused (EINVAL)
  bool was_cold = false;                   // drop what buffered reads bring into the page cache
  std::array<std::unique_ptr<Reader>, kIoEngines.size()> readers;
};

// Each shard has a lock of its own: to open one may take long, and others are read meanwhile.
struct ShardFiles::Use {
  std::mutex mutex;  // guards what follows
  std::shared_ptr<Open> open;
  std::uint32_t left = 0;  // reads that are still to come
};

struct ShardFiles::Tally {
  std::array<std::atomic<std::uint64_t>, kIoEngines.size()> bytes{};  // delivered, by engine
  std::atomic<std::uint64_t> probed = 0;    // bytes whose residency was asked for
  std::atomic<std::uint64_t> resident = 0;  // of those, found in the page cache
  std::atomic<bool> refused = false;        // O_DIRECT was wanted and refused
  std::atomic<std::uint64_t> dropped = 0;   // bytes not left in the page cache
};

ShardFiles::ShardFiles(const std::vector<Shard>& shards, std::vector<FileSystemFacts> systems,
                       const std::vector<std::uint32_t>& uses, ReadPolicy policy, WrapReader wrap)
    : shards_(shards),
      systems_(std::move(systems)),
      wanted_(policy.engine),
      drop_behind_(policy.drop_behind),
      wrap_(std::move(wrap)),
      uses_(std::make_unique<Use[]>(shards.size())),
      tallies_(std::make_unique<Tally[]>(shards.size())) {
  for (std::size_t i = 0; i < shards.size(); ++i) uses_[i].left = uses[i];
  if (wanted_ != IoEngine::kUring) return;
  try {
    rings_ = UringPool::create();
  } catch (const Error& error) {
    wanted_ = IoEngine::kDirect;
    note_ = error.what();
  }
}

ShardFiles::~ShardFiles() = default;

std::shared_ptr<ShardFiles::Open> ShardFiles::open(std::uint32_t shard) {
  Use& use = uses_[shard];
  const std::scoped_lock lock(use.mutex);
  if (!use.open) use.open = open_anew(shard);
  return use.open;
}

std::shared_ptr<ShardFiles::Open> ShardFiles::open_anew(std::uint32_t shard) {
  auto file = std::make_shared<Open>();
  file->buffered = open_shard(shards_[shard]);
  if (drop_behind_) {
    // Asked once, before the first read: the kernel reads ahead, so later chunks will be in the
    // page cache when they are asked about, though they were not there before.
    file->was_cold =
        resident_estimate(file->buffered.get(), shards_[shard].file_bytes).value_or(1) < 0.5;
  }
  const FileSystemFacts& system = systems_[shard];
  const bool automatic = wanted_ == IoEngine::kAuto && !system.network && !system.memory;
  if (automatic || row_of(wanted_).direct) {
    file->direct = Descriptor(::open(shards_[shard].path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (file->direct.get() >= 0) {
      check_unchanged(shards_[shard], file->direct.get());
      file->direct_works = true;
    } else {
      tallies_[shard].refused = true;
    }
  }
  const auto add = [&](IoEngine engine, std::unique_ptr<Reader> reader) {
    if (wrap_) reader = wrap_(std::move(reader), shard, engine);
    file->readers[index_of(engine)] = std::move(reader);
  };
  add(IoEngine::kBuffered, make_pread_reader(file->buffered.get()));
  const int direct = file->direct.get();
  if (direct >= 0) add(IoEngine::kDirect, make_pread_reader(direct));
  if (rings_) {
    add(IoEngine::kUring, rings_->make_reader(direct >= 0 ? direct : file->buffered.get()));
  }
  return file;
}

void ShardFiles::close_after_last_use(std::uint32_t shard) {
  std::shared_ptr<Open> last;
  {
    Use& use = uses_[shard];
    const std::scoped_lock lock(use.mutex);
    if (--use.left > 0) return;
    last = std::move(use.open);
  }
  if (!last) return;
  // drop() leaves the blocks that two chunks share, and what the kernel read ahead for nobody.
  if (last->was_cold) posix_fadvise(last->buffered.get(), 0, 0, POSIX_FADV_DONTNEED);
  check_unchanged(shards_[shard], last->buffered.get());
}

ShardFiles::Choice ShardFiles::choose(std::uint32_t shard, const Open& file, std::uint64_t begin,
                                      std::uint64_t end) {
  const bool direct = file.direct_works.load(std::memory_order_relaxed);
  if (wanted_ == IoEngine::kUring) return {wanted_, false};
  if (wanted_ == IoEngine::kDirect && direct) return {wanted_, false};
  if (wanted_ == IoEngine::kBuffered || !direct) return {IoEngine::kBuffered, !file.was_cold};
  const std::optional<double> fraction = resident_fraction(file.buffered.get(), begin, end - begin);
  if (!fraction) return {IoEngine::kDirect, false};
  Tally& tally = tallies_[shard];
  tally.probed.fetch_add(end - begin, std::memory_order_relaxed);
  tally.resident.fetch_add(static_cast<std::uint64_t>(*fraction * static_cast<double>(end - begin)),
                           std::memory_order_relaxed);
  const bool resident = *fraction >= 0.5;
  return {resident ? IoEngine::kBuffered : IoEngine::kDirect, resident};
}

void ShardFiles::drop(std::uint32_t shard, int fd, std::uint64_t begin, std::uint64_t end) {
  const std::uint64_t from = block_down(begin);
  const std::uint64_t to = block_down(end);  // the next chunk may share the block that `end` is in
  posix_fadvise(fd, static_cast<off_t>(from), static_cast<off_t>(to - from), POSIX_FADV_DONTNEED);
  tallies_[shard].dropped.fetch_add(to - from, std::memory_order_relaxed);
}

ReadOutcome ShardFiles::read(std::uint32_t shard, std::uint64_t begin, std::uint64_t end,
                             std::byte* at_begin) {
  const std::shared_ptr<Open> file = open(shard);
  Tally& tally = tallies_[shard];
  auto [engine, resident] = choose(shard, *file, begin, end);
  ReadOutcome outcome{begin, 0};
  for (;;) {
    const std::uint64_t from = outcome.reached;
    const bool blocks = row_of(engine).direct && file->direct.get() >= 0;
    outcome =
        read_range(*file->readers[index_of(engine)], from, end, at_begin + (from - begin), blocks);
    tally.bytes[index_of(engine)].fetch_add(outcome.reached - from, std::memory_order_relaxed);
    bytes_read_.fetch_add(outcome.reached - from, std::memory_order_relaxed);
    const bool refused = outcome.error == EINVAL || outcome.error == EOPNOTSUPP;
    if (!refused || engine == IoEngine::kBuffered) break;
    tally.refused = true;
    file->direct_works = false;
    engine = IoEngine::kBuffered;
  }
  if (!resident && file->was_cold && !row_of(engine).direct) {
    drop(shard, file->buffered.get(), begin, end);
  }
  close_after_last_use(shard);
  return outcome;
}

std::string ShardFiles::choice(std::uint32_t shard) const {
  const Tally& tally = tallies_[shard];
  std::vector<std::string_view> used;
  for (const IoEngineRow& row : kIoEngines) {
    if (tally.bytes[index_of(row.engine)] > 0) used.push_back(row.name);
  }
  if (used.empty()) return "";
  std::string why;
  if (wanted_ != IoEngine::kAuto) why = "asked for, ";
  if (tally.refused) why += "O_DIRECT refused, ";
  if (tally.probed > 0) {
    why += std::to_string(tally.resident * 100 / tally.probed) + "% in page cache, ";
  }
  if (tally.dropped > 0) why += "memory is tight: not left in page cache, ";
  return join(used, " and ") + " (" + why + systems_[shard].name +
         (systems_[shard].network ? ", network or user space" : "") + ")";
}

}  // namespace berth
