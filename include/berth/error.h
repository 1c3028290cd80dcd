// The exception type of the project: bad input, failed I/O, a device that refuses.
//
// A message is one line that says what was wrong, where (file, line, field, tensor, offset) and,
// where it helps, what to do. A model that does not fit is not an Error: it is a value (Plan).
#pragma once

#include <stdexcept>
#include <string>

namespace berth {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

// Work that was asked to stop. The message is a whole sentence, and needs no word on where.
class Interrupted : public Error {
 public:
  explicit Interrupted(const std::string& message = "interrupted; nothing was kept")
      : Error(message) {}
};

}  // namespace berth
