#include "runtime/calibrate/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "berth/error.h"
#include "planner/machine/sizes.h"
#include "runtime/calibrate/crew.h"
#include "runtime/calibrate/repeat.h"
#include "runtime/calibrate/scratch_file.h"
#include "runtime/io/memory.h"
#include "runtime/io/reader.h"
#include "runtime/load/sizing.h"

namespace berth {
namespace {

constexpr std::size_t kMostFiles = 64;  // open at once

struct Source {
  Descriptor fd;
  std::uint64_t bytes = 0;
};

// One of the reads that a pass makes.
struct Chunk {
  int fd = -1;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

bool direct_by(const DiskOptions& options, int fd) {
  return options.make_direct ? options.make_direct(fd) : set_direct(fd);
}

// Opens the given files for direct reads, until they have `most` bytes. Returns none, and says why
// in `why`, where they cannot be used.
std::vector<Source> open_files(const DiskOptions& options, std::string& why) {
  std::vector<Source> sources;
  std::uint64_t total = 0;
  for (const std::filesystem::path& path : options.files) {
    if (total >= options.most || sources.size() == kMostFiles) break;
    Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat facts {};
    if (fd.get() < 0 || ::fstat(fd.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) continue;
    const auto bytes = static_cast<std::uint64_t>(facts.st_size);
    // Holes are not on the disk: the kernel makes up zeros for them.
    if (static_cast<std::uint64_t>(facts.st_blocks) * 512 < bytes / 10 * 9) {
      why = path.filename().string() + " has holes";
      continue;
    }
    if (!direct_by(options, fd.get())) {
      why = "its file system does not support O_DIRECT";
      return {};
    }
    total += bytes;
    sources.push_back({std::move(fd), bytes});
  }
  if (total >= options.least_files) return sources;
  if (why.empty()) why = "its shards have less than " + format_size(options.least_files);
  return {};
}

// How many bytes a file in the folder may take.
std::uint64_t space_in(const DiskOptions& options) {
  struct statvfs facts {};
  if (::statvfs(options.folder.c_str(), &facts) != 0)
    throw Error(options.folder.string() + ": the disk could not be measured: " +
                std::strerror(errno) + "; name another folder with --disk");
  const std::uint64_t free = std::uint64_t{facts.f_bavail} * facts.f_frsize;
  return free - std::min(free, options.keep_free);
}

Source make_source(const DiskOptions& options, double start, DiskFigures& figures) {
  ScratchOptions scratch;
  scratch.folder = options.folder;
  scratch.most = std::min(options.most, space_in(options)) / kDiskChunk * kDiskChunk;
  scratch.until = start + options.seconds / 3;
  scratch.cancel = options.cancel;
  scratch.make_direct = options.make_direct;
  ScratchFile file = make_scratch_file(scratch);
  figures.made = true;
  figures.direct = file.direct;
  return {std::move(file.fd), file.bytes};
}

// Cuts the sources into chunks, `most` bytes at most. The end of a file that is less than a chunk
// is left out: O_DIRECT wants whole blocks, and it would tell nothing.
std::vector<Chunk> chunks_of(const std::vector<Source>& sources, std::uint64_t most) {
  std::vector<Chunk> chunks;
  for (const Source& source : sources)
    for (std::uint64_t at = 0; at + kColdChunk <= source.bytes; at += kColdChunk)
      if ((chunks.size() + 1) * kColdChunk <= most)
        chunks.push_back({source.fd.get(), at, kColdChunk});
  return chunks;
}

// Reads the chunks with several threads at once; each thread takes the next chunk in order.
class Passes {
 public:
  Passes(std::vector<Chunk> chunks, const DiskOptions& options)
      : chunks_(std::move(chunks)),
        cancel_(options.cancel),
        crew_(std::max(1u, options.threads)),
        buffer_(crew_.size() * kColdChunk, "measuring the disk") {
    for (std::uint64_t at = 0; at < buffer_.bytes(); at += kBlock) buffer_.data()[at] = {};
  }

  // Makes one pass and returns its bytes per second. It ends early at the moment `until`, but not
  // before each thread has read a chunk.
  double run(double until) {
    next_ = 0;
    done_ = 0;
    const double seconds = crew_.run([&](unsigned thread) { read(thread, until); });
    check_cancelled(cancel_);
    if (error_ != 0)
      throw Error(std::string("the disk could not be measured: reading failed: ") +
                  std::strerror(error_));
    return static_cast<double>(done_) / std::max(seconds, 1e-9);
  }
  std::uint64_t bytes_done() const { return done_; }

 private:
  void read(unsigned thread, double until) {
    std::byte* to = buffer_.data() + thread * kColdChunk;
    for (bool first = true;; first = false) {
      if (error_ != 0 || (cancel_ && cancel_->load())) return;
      if (!first && steady_seconds() > until) return;
      const std::size_t i = next_.fetch_add(1);
      if (i >= chunks_.size()) return;
      const Chunk& chunk = chunks_[i];
      const auto reader = make_pread_reader(chunk.fd);
      const ReadOutcome outcome =
          read_range(*reader, chunk.offset, chunk.offset + chunk.bytes, to, false);
      if (outcome.reached != chunk.offset + chunk.bytes) {
        error_ = outcome.error ? outcome.error : EIO;
        return;
      }
      done_ += chunk.bytes;
    }
  }

  std::vector<Chunk> chunks_;
  const std::atomic<bool>* cancel_;
  Crew crew_;
  HostArena buffer_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::uint64_t> done_{0};
  std::atomic<int> error_{0};
};

void note_cache(const DiskOptions& options, const std::vector<Source>& sources,
                DiskFigures& figures) {
  const FileSystemFacts system = file_system_of(options.folder);
  if (system.memory) {
    figures.notes.push_back(options.folder.string() + " is memory (" + system.name +
                            "), not a disk: name a folder of the model's disk with --disk");
  } else if (!figures.direct) {
    std::string note = options.folder.string() +
                       ": the file system does not support O_DIRECT; the disk was read through the "
                       "page cache, which was dropped before each pass";
    for (const Source& source : sources)
      if (resident_fraction(source.fd.get(), 0, source.bytes).value_or(0) > 0.5)
        note = options.folder.string() +
               ": the page cache could not be bypassed: the figure is of memory, not of the disk";
    figures.notes.push_back(note);
  }
}

void drop_pages(const std::vector<Source>& sources) {
  for (const Source& source : sources) ::posix_fadvise(source.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace

DiskFigures measure_disk(const DiskOptions& options) {
  const double start = steady_seconds();
  DiskFigures figures;
  std::string why;
  std::vector<Source> sources = open_files(options, why);
  figures.direct = !sources.empty();
  if (sources.empty()) {
    if (!options.files.empty())
      figures.notes.push_back("the model's files were not read (" + why + "): a file was made in " +
                              options.folder.string());
    sources.push_back(make_source(options, start, figures));
  }
  if (!figures.direct) drop_pages(sources);
  note_cache(options, sources, figures);

  Passes passes(chunks_of(sources, options.most), options);
  const double end = std::max(start + options.seconds, steady_seconds() + options.seconds / 4);
  Repeat several;
  several.seconds = end - steady_seconds();
  several.most = 5;
  several.cancel = options.cancel;
  const std::vector<double> rates = repeat(several, [&] {
    if (!figures.direct) drop_pages(sources);
    const double rate = passes.run(end);
    figures.bytes = std::max(figures.bytes, passes.bytes_done());
    return rate;
  });
  figures.read = median(rates);
  figures.passes = rates.size();
  return figures;
}

}  // namespace berth
