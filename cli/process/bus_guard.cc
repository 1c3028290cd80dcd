#include "cli/process/bus_guard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "cli/process/signals.h"

namespace berth {
namespace {

// All that follows runs in a signal handler: no allocation, no locks, no stdio.

void say(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDERR_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

void say_number(std::uint64_t number) {
  std::array<char, 20> digits{};
  std::size_t at = digits.size();
  do {
    digits[--at] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number > 0);
  say({digits.data() + at, digits.size() - at});
}

// Takes a hexadecimal number off the front of `text`.
std::uint64_t take_hex(std::string_view& text) {
  std::uint64_t number = 0;
  while (!text.empty()) {
    const char c = text.front();
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) break;
    number = number << 4 | static_cast<std::uint64_t>(digit);
    text.remove_prefix(1);
  }
  return number;
}

void skip_word(std::string_view& text) {
  while (!text.empty() && text.front() != ' ') text.remove_prefix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
}

// One line of /proc/self/maps: "begin-end perms offset device inode   path".
bool explain(std::string_view line, std::uint64_t address) {
  const std::uint64_t begin = take_hex(line);
  if (line.empty()) return false;
  line.remove_prefix(1);
  const std::uint64_t end = take_hex(line);
  if (address < begin || address >= end) return false;
  skip_word(line);
  skip_word(line);
  const std::uint64_t offset = take_hex(line);
  for (int i = 0; i < 3; ++i) skip_word(line);
  if (line.empty() || line.front() != '/') return false;
  say("error: ");
  say(line);
  say(": byte ");
  say_number(offset + (address - begin));
  say(": cannot be read any more: the file was cut short while it was mapped, or its disk fails; "
      "load again, with --cpu-memory private where files may change\n");
  return true;
}

bool explain_fault(std::uint64_t address) {
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (maps < 0) return false;
  std::array<char, 4096 + 256> line{};  // a path, and what stands before it
  std::size_t length = 0;
  std::array<char, 4096> block{};
  for (;;) {
    const ssize_t count = ::read(maps, block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    for (ssize_t i = 0; i < count; ++i) {
      const char c = block[static_cast<std::size_t>(i)];
      if (c != '\n') {
        if (length < line.size()) line[length++] = c;
        continue;
      }
      if (explain({line.data(), length}, address)) {
        ::close(maps);
        return true;
      }
      length = 0;
    }
  }
  ::close(maps);
  return false;
}

void on_bus_error(int, siginfo_t* info, void*) {
  tidy_up();
  if (explain_fault(reinterpret_cast<std::uintptr_t>(info->si_addr))) ::_exit(1);
  // SA_RESETHAND has put the default back: the access is made again and ends the process.
}

}  // namespace

void explain_bus_errors() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_RESETHAND;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace berth
