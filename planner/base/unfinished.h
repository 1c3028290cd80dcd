// Files and folders that are being made, so that a program can take them away when a signal ends it
// (cli/process/signals.h). Destructors do so in all other cases.
#pragma once

#include <filesystem>

namespace berth {

// Registers a file, or a folder that holds nothing but files, while this object lives. To be made
// right after the file was, so that nothing that belongs to others is ever registered. A path that
// is too long, or one above the few that can be registered at a time, is not registered. Safe for
// use from many threads.
class Unfinished {
 public:
  explicit Unfinished(const std::filesystem::path& path) noexcept;
  ~Unfinished();
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;

 private:
  int slot_;  // -1: not registered
};

// Removes everything that is registered; what cannot be removed stays. Async-signal-safe. Each
// library that contains this room has a register of its own.
void remove_unfinished() noexcept;

}  // namespace berth
