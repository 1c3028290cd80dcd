// The file that --logits asks for: safetensors with one tensor, `logits` [positions, vocabulary]
// F32.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "planner/base/output_file.h"

namespace berth {

// Rows are written as they come, as OutputFile writes: only finish() gives the file its name. Where
// it is destroyed before that, no file is left behind. All functions throw Error that names the
// file and the reason. For use by one thread.
class LogitsFile {
 public:
  LogitsFile(std::filesystem::path path, std::uint64_t positions, std::uint64_t vocabulary);

  // Appends whole rows; as many as `positions` in all.
  void append(std::span<const float> rows);
  // Waits until the file is on the disk, and renames it.
  void finish();

 private:
  OutputFile file_;
};

}  // namespace berth
