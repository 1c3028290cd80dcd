#include "planner/base/unfinished.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <cstdint>
#include <cstring>
#include <string>

namespace berth {
namespace {

enum class Slot : int { kFree, kFilling, kFilled };

struct Entry {
  std::atomic<Slot> state = Slot::kFree;
  std::array<char, PATH_MAX> path{};
};
std::array<Entry, 8> entries;
static_assert(std::atomic<Slot>::is_always_lock_free, "read in a signal handler");

// Where the parts of an entry stand that getdents64(2) writes. readdir() may allocate, which a
// signal handler must not.
constexpr std::size_t kBytesAt = 16;  // of the whole entry, 16 bits
constexpr std::size_t kNameAt = 19;   // ends with a NUL

bool is_dots(const char* name) {
  return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0;
}

// Removes the files of an open folder. Returns whether there was any that could be removed.
bool remove_files(int folder) {
  alignas(std::uint64_t) std::array<char, 4096> block;
  bool removed = false;
  ::lseek(folder, 0, SEEK_SET);
  for (;;) {
    const long count = ::syscall(SYS_getdents64, folder, block.data(), block.size());
    if (count <= 0) return removed;
    for (long at = 0; at < count;) {
      const char* entry = block.data() + at;
      const char* name = entry + kNameAt;
      if (!is_dots(name) && ::unlinkat(folder, name, 0) == 0) removed = true;
      std::uint16_t bytes = 0;
      std::memcpy(&bytes, entry + kBytesAt, sizeof bytes);
      at += bytes;
    }
  }
}

void remove_folder(const char* path) {
  const int folder = ::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return;
  // Again until nothing is left: a listing may leave out entries while others are removed, and
  // other threads are not stopped yet.
  while (remove_files(folder)) {
  }
  ::close(folder);
  ::rmdir(path);
}

}  // namespace

Unfinished::Unfinished(const std::filesystem::path& path) noexcept : slot_(-1) {
  const std::string& text = path.native();
  if (text.size() >= PATH_MAX) return;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    Slot free = Slot::kFree;
    if (!entries[i].state.compare_exchange_strong(free, Slot::kFilling)) continue;
    std::copy_n(text.c_str(), text.size() + 1, entries[i].path.begin());
    entries[i].state = Slot::kFilled;
    slot_ = static_cast<int>(i);
    return;
  }
}

Unfinished::~Unfinished() {
  if (slot_ >= 0) entries[static_cast<std::size_t>(slot_)].state = Slot::kFree;
}

void remove_unfinished() noexcept {
  for (const Entry& entry : entries) {
    if (entry.state != Slot::kFilled) continue;
    if (::unlink(entry.path.data()) != 0) remove_folder(entry.path.data());
  }
}

}  // namespace berth
