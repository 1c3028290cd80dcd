// The file that --logits asks for: safetensors, one tensor `logits` [positions, vocabulary] F32.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "berth/error.h"

namespace berth {

// Rows are written as they come, under a temporary name beside `path`; only finish() gives the file
// its name. Destroyed before that, nothing is left behind. Throws Error naming file and reason.
class LogitsFile {
 public:
  LogitsFile(std::filesystem::path path, std::uint64_t positions, std::uint64_t vocabulary);
  ~LogitsFile();
  LogitsFile(const LogitsFile&) = delete;
  LogitsFile& operator=(const LogitsFile&) = delete;

  void append(std::span<const float> rows);
  void finish();

 private:
  void write(const void* data, std::size_t bytes);
  [[noreturn]] void fail(const char* action) const;  // reads errno

  std::filesystem::path path_;
  std::string temporary_;
  int descriptor_ = -1;
};

}  // namespace berth
