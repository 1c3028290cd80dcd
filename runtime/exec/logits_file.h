// The file that --logits asks for: safetensors with one tensor, `logits` [positions, vocabulary]
// F32.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "berth/error.h"

namespace berth {

// Rows are written as they come, to a file with a temporary name beside `path`; only finish() gives
// the file its own name. Where it is destroyed before that, no file is left behind. All functions
// throw Error that names the file and the reason. For use by one thread.
class LogitsFile {
 public:
  LogitsFile(std::filesystem::path path, std::uint64_t positions, std::uint64_t vocabulary);
  ~LogitsFile();
  LogitsFile(const LogitsFile&) = delete;
  LogitsFile& operator=(const LogitsFile&) = delete;

  // Appends whole rows; as many as `positions` in all.
  void append(std::span<const float> rows);
  // Waits until the file is on the disk, and renames it.
  void finish();

 private:
  void write(const void* data, std::size_t bytes);
  [[noreturn]] void fail(const char* action) const;  // reads errno

  std::filesystem::path path_;
  std::string temporary_;
  int descriptor_ = -1;
};

}  // namespace berth
