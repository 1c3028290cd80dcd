#include "planner/base/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

// The path for a message: one line, whatever characters it has.
std::string name_of(const std::filesystem::path& path) { return printable(path.string(), 4096); }

// What a path is that cannot be read as a file, for a message.
const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

[[noreturn]] void fail_special(const std::filesystem::path& path, mode_t mode) {
  throw Error(name_of(path) + ": is " + kind_of(mode) + ", which is not a regular file");
}

}  // namespace

File::File(const std::filesystem::path& path) {
  // Looked at before it is opened, as opening alone can do something to a device. O_NONBLOCK:
  // should a pipe take its place in between, the open must not wait for a writer.
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) fail_special(path, info.st_mode);
  descriptor_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (descriptor_.get() < 0 || ::fstat(descriptor_.get(), &info) != 0) {
    throw Error(name_of(path) + ": cannot be opened: " + std::strerror(errno));
  }
  if (!S_ISREG(info.st_mode)) fail_special(path, info.st_mode);
  identity_.path = path;
  identity_.file_bytes = static_cast<std::uint64_t>(info.st_size);
  identity_.device = static_cast<std::uint64_t>(info.st_dev);
  identity_.inode = static_cast<std::uint64_t>(info.st_ino);
  identity_.mtime_ns = std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

void File::read_exactly(std::uint64_t offset, char* out, std::uint64_t count) const {
  while (count > 0) {
    const std::size_t want = std::min<std::uint64_t>(count, 1u << 30);
    const ssize_t got = ::pread(descriptor_.get(), out, want, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      const char* why = got == 0 ? "the file ended: it is truncated" : std::strerror(errno);
      throw Error(name_of(identity_.path) + ": cannot read " + std::to_string(count) +
                  " bytes at byte " + std::to_string(offset) + ": " + why);
    }
    out += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::uint64_t>(got);
  }
}

std::string File::read_all() const {
  std::string text(size(), '\0');
  read_exactly(0, text.data(), text.size());
  return text;
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t limit) {
  const File file(path);
  if (file.size() > limit) {
    throw Error(name_of(path) + ": has " + std::to_string(file.size()) +
                " bytes, the limit for such a file is " + std::to_string(limit));
  }
  return file.read_all();
}

}  // namespace berth
