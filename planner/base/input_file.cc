#include "planner/base/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "berth/error.h"

namespace berth {

File::File(const std::filesystem::path& path) {
  // O_NONBLOCK: a named pipe in the folder must not block the open.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &info) != 0) {
    const int error = errno;
    if (descriptor_ >= 0) ::close(descriptor_);
    throw Error(path.string() + ": cannot be opened: " + std::strerror(error));
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(descriptor_);
    throw Error(path.string() + ": is not a regular file");
  }
  identity_.path = path;
  identity_.file_bytes = static_cast<std::uint64_t>(info.st_size);
  identity_.device = static_cast<std::uint64_t>(info.st_dev);
  identity_.inode = static_cast<std::uint64_t>(info.st_ino);
  identity_.mtime_ns = std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

File::~File() { ::close(descriptor_); }

void File::read_exactly(std::uint64_t offset, char* out, std::uint64_t count) const {
  while (count > 0) {
    const std::size_t want = std::min<std::uint64_t>(count, 1u << 30);
    const ssize_t got = ::pread(descriptor_, out, want, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      const char* why = got == 0 ? "the file ended: it is truncated" : std::strerror(errno);
      throw Error(identity_.path.string() + ": cannot read " + std::to_string(count) +
                  " bytes at byte " + std::to_string(offset) + ": " + why);
    }
    out += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::uint64_t>(got);
  }
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t limit) {
  const File file(path);
  if (file.size() > limit) {
    throw Error(path.string() + ": has " + std::to_string(file.size()) +
                " bytes, the limit for such a file is " + std::to_string(limit));
  }
  std::string text(file.size(), '\0');
  file.read_exactly(0, text.data(), text.size());
  return text;
}

}  // namespace berth
