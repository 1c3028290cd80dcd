// The file that --logits asks for: safetensors, one tensor `logits` [positions, vocabulary] F32.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "planner/base/output_file.h"

namespace berth {

// Rows are written as they come, as OutputFile writes: only finish() gives the file its name.
class LogitsFile {
 public:
  LogitsFile(std::filesystem::path path, std::uint64_t positions, std::uint64_t vocabulary);

  void append(std::span<const float> rows);
  void finish();

 private:
  OutputFile file_;
};

}  // namespace berth
