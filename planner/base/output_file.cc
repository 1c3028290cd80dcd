#include "planner/base/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>
#include <system_error>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // as many as Linux follows

// Writes all of `text`; false with errno set where that fails.
bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written == 0) errno = EIO;  // nothing says that it would go on
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// What has no name that could be replaced.
bool is_special(const fs::path& file) {
  struct stat status {};
  return ::stat(file.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

// Whether a link is one that the kernel makes for an open file (/proc/self/fd/1). What it says is
// no path to replace: whoever opened the file would go on with the old one.
bool is_open_file(const fs::path& link) {
  std::error_code ignored;
  const fs::path folder = fs::canonical(link.parent_path(), ignored);
  return folder.native().starts_with("/proc/");
}

}  // namespace

OutputFile::OutputFile(fs::path file) : file_(std::move(file)), target_(file_) {
  bool as_it_is = is_special(file_);
  std::error_code ignored;
  for (int links = 0; !as_it_is && fs::is_symlink(target_, ignored); ++links) {
    if (links == kMostLinks) fail(ELOOP);
    as_it_is = is_open_file(target_);
    std::error_code error;
    const fs::path next = fs::read_symlink(target_, error);
    if (error) fail(error.value());
    target_ = target_.parent_path() / next;  // `next` alone where it begins at the root
  }
  if (!as_it_is) {
    make_temporary();
    return;
  }
  descriptor_ = Descriptor(::open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (descriptor_.get() < 0) fail(errno);
}

OutputFile::~OutputFile() {
  if (descriptor_.get() >= 0 && !temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::write(std::string_view bytes) {
  if (!write_all(descriptor_.get(), bytes)) fail(errno);
}

void OutputFile::finish() {
  // What cannot be synchronised, as a pipe or a device, says EINVAL; some file systems ENOTSUP.
  if (::fsync(descriptor_.get()) != 0 && errno != EINVAL && errno != ENOTSUP) fail(errno);
  if (!temporary_.empty() && ::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
  unfinished_.reset();
  if (!descriptor_.close()) fail(errno);
}

void OutputFile::fail(int error) const {
  throw Error(printable(file_.string(), 4096) + ": cannot be written: " + std::strerror(error));
}

// Not by mkstemp: that makes files private, and a result is as readable as any other new file.
void OutputFile::make_temporary() {
  for (;;) {
    std::string name = temporary_name(target_.string() + '.');
    descriptor_ = Descriptor(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (descriptor_.get() >= 0) {
      temporary_ = std::move(name);
      unfinished_.emplace(temporary_);
      return;
    }
    if (errno != EEXIST) fail(errno);
  }
}

std::string temporary_name(std::string stem) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  for (int i = 0; i < 6; ++i) stem += kLetters[random() % kLetters.size()];
  return stem;
}

void write_file(const fs::path& file, std::string_view content) {
  OutputFile out(file);
  out.write(content);
  out.finish();
}

Descriptor make_nameless_file(const fs::path& folder) {
  Descriptor file(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const bool unknown = errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL;
  if (file.get() >= 0 || !unknown) return file;
  // Network file systems and old overlays: a name, for a moment.
  std::string name = (folder / ".berth-XXXXXX").string();
  Descriptor named(::mkostemp(name.data(), O_CLOEXEC));
  if (named.get() >= 0 && ::unlink(name.c_str()) != 0) return Descriptor();
  return named;
}

void write_stdout(std::string_view text) {
  if (!write_all(STDOUT_FILENO, text)) {
    throw Error(std::string("standard output: ") + std::strerror(errno));
  }
}

}  // namespace berth
