#include "runtime/calibrate/scratch_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "berth/error.h"
#include "runtime/calibrate/repeat.h"
#include "runtime/io/memory.h"
#include "runtime/io/reader.h"

namespace berth {
namespace {

constexpr std::uint64_t kLeast = 8 * kDiskChunk;  // bytes; fewer would tell nothing

// An open file without a name, readable and writable.
Descriptor open_nameless(const std::filesystem::path& folder) {
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return Descriptor(fd);
  const bool unknown = errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL;
  if (unknown) {  // not known to network file systems and old overlays
    std::string name = (folder / ".berth-calibrate-XXXXXX").string();
    Descriptor named(::mkostemp(name.data(), O_CLOEXEC));
    if (named.get() >= 0 && ::unlink(name.c_str()) == 0) return named;
  }
  throw Error(folder.string() + ": no file can be made there to measure the disk with: " +
              std::strerror(errno) + "; name another folder with --disk");
}

void fill(std::byte* data, std::uint64_t bytes) {
  std::mt19937_64 random(1);  // any seed will do
  for (std::uint64_t i = 0; i + 8 <= bytes; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(data + i, &word, 8);
  }
}

}  // namespace

bool set_direct(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
}

ScratchFile make_scratch_file(const ScratchOptions& options) {
  ScratchFile file;
  file.fd = open_nameless(options.folder);
  file.direct = (options.make_direct ? options.make_direct : set_direct)(file.fd.get());
  const HostArena buffer(kDiskChunk, "measuring the disk");
  fill(buffer.data(), kDiskChunk);
  int failure = 0;
  while (file.bytes < options.most) {
    check_cancelled(options.cancel);
    if (file.bytes >= kLeast && steady_seconds() > options.until) break;
    // Each block is made different from all others, so that a disk that looks for equal blocks
    // finds none.
    for (std::uint64_t at = 0; at < kDiskChunk; at += kBlock) {
      const std::uint64_t stamp = file.bytes + at;
      std::memcpy(buffer.data() + at, &stamp, sizeof stamp);
    }
    const ssize_t count =
        ::pwrite(file.fd.get(), buffer.data(), kDiskChunk, static_cast<off_t>(file.bytes));
    if (count == static_cast<ssize_t>(kDiskChunk)) {
      file.bytes += kDiskChunk;
      // Bytes that wait in the page cache have taken no time yet. They must not pile up until the
      // end.
      if (!file.direct && file.bytes % kLeast == 0 && ::fdatasync(file.fd.get()) != 0) {
        failure = errno;
        break;
      }
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EINVAL && file.direct && file.bytes == 0) {
      // Some file systems accept the flag and then refuse to write with it.
      ::fcntl(file.fd.get(), F_SETFL, ::fcntl(file.fd.get(), F_GETFL) & ~O_DIRECT);
      file.direct = false;
      continue;
    }
    failure = count < 0 ? errno : ENOSPC;
    break;
  }
  if (file.bytes < kLeast || (failure != 0 && failure != ENOSPC && failure != EDQUOT))
    throw Error(
        options.folder.string() + ": the disk could not be measured: writing failed after " +
        std::to_string(file.bytes) + " bytes: " + std::strerror(failure ? failure : ENOSPC) +
        "; name another folder with --disk");
  if (::fdatasync(file.fd.get()) != 0)
    throw Error(options.folder.string() +
                ": the disk could not be measured: " + std::strerror(errno));
  return file;
}

}  // namespace berth
