// Writing results: whole files or none, and stdout with its errors looked at.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "planner/base/descriptor.h"
#include "planner/base/unfinished.h"

namespace berth {

// A file that is written piece by piece, under a temporary name beside it; only finish() gives it
// its name. Destroyed before that, it leaves what was there before, and nothing else.
//
// Of a symbolic link the target is written so, and the link stays. A pipe, a device (/dev/null) and
// an open file by its number (/dev/stdout) have no name that could be replaced: they are written to
// as they are, and the constructor waits until a named pipe has a reader.
//
// All throw Error that names the file and the reason.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path file);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::string_view bytes);
  // Returns when the bytes are on the disk and the file has its name.
  void finish();

 private:
  [[noreturn]] void fail(int error) const;
  void make_temporary();

  std::filesystem::path file_;    // as it was asked for, for messages
  std::filesystem::path target_;  // what is replaced: the end of a chain of links
  std::string temporary_;         // empty: nothing is replaced
  Descriptor descriptor_;
  std::optional<Unfinished> unfinished_;  // temporary_
};

// Writes all of `file` at once, as OutputFile.
void write_file(const std::filesystem::path& file, std::string_view content);

// `stem` and six letters and digits at random, for a name that nothing has yet.
std::string temporary_name(std::string stem);

// An open file in `folder` that has no name, for reading and writing: nobody finds it, and closing
// it removes it. Where none can be made the descriptor is -1 and errno says why.
Descriptor make_nameless_file(const std::filesystem::path& folder);

// Writes to stdout and flushes. Throws Error when the receiver is gone or full.
void write_stdout(std::string_view text);

}  // namespace berth
