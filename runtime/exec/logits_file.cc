#include "runtime/exec/logits_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "berth/error.h"

namespace berth {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

LogitsFile::LogitsFile(std::filesystem::path path, std::uint64_t positions,
                       std::uint64_t vocabulary)
    : path_(std::move(path)), temporary_(path_.string() + ".XXXXXX") {
  descriptor_ = ::mkostemp(temporary_.data(), O_CLOEXEC);
  if (descriptor_ < 0) fail("create");
  const std::string shape = std::to_string(positions) + "," + std::to_string(vocabulary);
  const std::string bytes = std::to_string(positions * vocabulary * sizeof(float));
  std::string header =
      R"({"logits":{"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[0,)" + bytes + "]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // keeps the data aligned
  const std::uint64_t length = header.size();
  try {
    write(&length, sizeof length);
    write(header.data(), header.size());
  } catch (...) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
    throw;
  }
}

LogitsFile::~LogitsFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void LogitsFile::append(std::span<const float> rows) { write(rows.data(), rows.size_bytes()); }

void LogitsFile::finish() {
  // mkostemp() made the file for its owner alone. Give it the usual permissions.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  if (::fchmod(descriptor_, 0666 & ~mask) != 0) fail("set the mode of");
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail("write");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename");
  ::close(descriptor_);
  descriptor_ = -1;
}

void LogitsFile::write(const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, at, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write");
    at += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void LogitsFile::fail(const char* action) const {
  throw Error(path_.string() + ": cannot " + action + " the logits file: " + std::strerror(errno));
}

}  // namespace berth
