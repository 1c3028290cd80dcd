// The one exception type of the project: bad input, failed I/O, a device that refuses.
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

}  // namespace berth
