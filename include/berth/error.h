// The exceptions that Berth throws: for bad input, failed I/O, failing devices and cancelled work.
//
// A function of the public headers that fails throws Error; if memory runs out, std::bad_alloc. The
// message is one line without a newline. It says what was wrong, where (file, line, field, tensor
// or offset) and, where that helps, what to do: print it as it is. A model that does not fit is no
// Error, it is a value: Plan::shortfall.
#pragma once

#include <stdexcept>
#include <string>

// What libberth_loader.so exports. Its other names are hidden, so that they cannot clash with those
// of a program. The exceptions carry the mark, too, so that program and library share their types.
#define BERTH_API __attribute__((visibility("default")))

namespace berth {

class BERTH_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

// Thrown where work was asked to stop (LoadOptions::cancel). The message is a whole sentence.
class BERTH_API Interrupted : public Error {
 public:
  explicit Interrupted(const std::string& message = "interrupted; nothing was kept")
      : Error(message) {}
};

}  // namespace berth
