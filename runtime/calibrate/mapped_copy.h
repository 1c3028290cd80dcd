// A copy of some memory in a mapped file, where plain weights are by default.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace berth {

// The file has no name, so nobody has to remove it, and its pages are in the page cache. They are
// small ones, or as large as the file system makes them: products read them slower than anonymous
// memory in huge pages.
class MappedCopy {
 public:
  // Throws Error where the folder cannot have such a file, or has less than a GiB free beside it.
  MappedCopy(std::span<const std::byte> bytes, const std::filesystem::path& folder);
  ~MappedCopy();
  MappedCopy(const MappedCopy&) = delete;
  MappedCopy& operator=(const MappedCopy&) = delete;

  const std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace berth
