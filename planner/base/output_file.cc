#include "planner/base/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "berth/error.h"

namespace berth {
namespace {

// Writes all of `text`; false with errno set where that fails.
bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

[[noreturn]] void fail(const std::filesystem::path& file, int error) {
  throw Error(fmt::format("{}: cannot be written: {}", file.string(), std::strerror(error)));
}

// A pipe or a device (/dev/stdout): what is renamed over would be lost to everybody.
bool is_special(const std::filesystem::path& file) {
  struct stat status {};
  return ::stat(file.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

void write_special(const std::filesystem::path& file, std::string_view content) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) fail(file, errno);
  const bool good = write_all(descriptor, content);
  const int failure = errno;
  if (::close(descriptor) != 0 && good) fail(file, errno);
  if (!good) fail(file, failure);
}

}  // namespace

void write_file(const std::filesystem::path& file, std::string_view content) {
  if (is_special(file)) return write_special(file, content);
  std::string temporary = file.string() + ".XXXXXX";
  const int descriptor = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (descriptor < 0) fail(file, errno);
  // mkostemp makes files private; a result is as readable as any other new file.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  bool good = ::fchmod(descriptor, 0666 & ~mask) == 0 && write_all(descriptor, content);
  int failure = errno;
  if (::close(descriptor) != 0 && good) {
    good = false;
    failure = errno;
  }
  if (good && std::rename(temporary.c_str(), file.c_str()) != 0) {
    good = false;
    failure = errno;
  }
  if (!good) {
    ::unlink(temporary.c_str());
    fail(file, failure);
  }
}

void write_stdout(std::string_view text) {
  if (!write_all(STDOUT_FILENO, text)) {
    throw Error(fmt::format("standard output: {}", std::strerror(errno)));
  }
}

}  // namespace berth
