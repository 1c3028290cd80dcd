#include "runtime/io/reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace berth {
namespace {

class PreadReader final : public Reader {
 public:
  explicit PreadReader(int fd) : fd_(fd) {}
  std::int64_t read_some(std::uint64_t offset, std::size_t bytes, std::byte* buffer) override {
    const ssize_t count = pread(fd_, buffer, bytes, static_cast<off_t>(offset));
    return count < 0 ? -errno : count;
  }

 private:
  int fd_;
};

}  // namespace

std::unique_ptr<Reader> make_pread_reader(int fd) { return std::make_unique<PreadReader>(fd); }

ReadOutcome read_range(Reader& reader, std::uint64_t begin, std::uint64_t end, std::byte* at_begin,
                       bool whole_blocks) {
  std::uint64_t at = whole_blocks ? block_down(begin) : begin;
  const std::uint64_t stop = whole_blocks ? block_up(end) : end;
  while (at < end) {
    std::byte* to = at_begin + static_cast<std::ptrdiff_t>(at - begin);  // below it by < kBlock
    const std::int64_t count = reader.read_some(at, stop - at, to);
    if (count == -EINTR) continue;
    if (count < 0) return {std::max(at, begin), static_cast<int>(-count)};
    if (count == 0) return {std::max(at, begin), 0};
    const std::uint64_t reached = at + static_cast<std::uint64_t>(count);
    if (!whole_blocks || reached >= end) {
      at = reached;
    } else if (block_down(reached) > at) {
      at = block_down(reached);
    } else {
      return {std::max(at, begin), EINVAL};
    }
  }
  return {end, 0};
}

}  // namespace berth
