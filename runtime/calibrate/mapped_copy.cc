#include "runtime/calibrate/mapped_copy.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "berth/error.h"
#include "planner/base/output_file.h"

namespace berth {
namespace {

[[noreturn]] void fail(const std::filesystem::path& folder, const std::string& why) {
  throw Error(folder.string() + ": no weights can be mapped from a file there: " + why);
}

void write_all(int fd, std::span<const std::byte> bytes, const std::filesystem::path& folder) {
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t count = ::write(fd, bytes.data() + at, bytes.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(folder, std::strerror(count < 0 ? errno : ENOSPC));
    at += static_cast<std::size_t>(count);
  }
}

}  // namespace

MappedCopy::MappedCopy(std::span<const std::byte> bytes, const std::filesystem::path& folder)
    : bytes_(bytes.size()) {
  constexpr std::uintmax_t kKeepFree = 1u << 30;
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(folder, error);
  if (error) fail(folder, error.message());
  if (space.available < bytes.size() + kKeepFree) fail(folder, "the disk is nearly full");
  const Descriptor file = make_nameless_file(folder);
  if (file.get() < 0) fail(folder, std::strerror(errno));
  write_all(file.get(), bytes, folder);
  void* const data = ::mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail(folder, std::strerror(errno));
  data_ = static_cast<std::byte*>(data);
#ifdef MADV_POPULATE_READ  // else, and before Linux 5.14, the first products do it
  ::madvise(data, bytes_, MADV_POPULATE_READ);
#endif
}

MappedCopy::~MappedCopy() { ::munmap(data_, bytes_); }

}  // namespace berth
