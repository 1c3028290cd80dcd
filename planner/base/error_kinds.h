// Errors of which a program may want to know more than the message: interfaces for other languages
// make exceptions of their own of them. Whoever catches Error catches these.
#pragma once

#include "berth/error.h"

namespace berth {

// There is less memory than is needed.
class DoesNotFit : public Error {
 public:
  using Error::Error;
};

// A file of weights was cut short, has changed since its header was read, or cannot be read. A
// malformed header is a plain Error of whoever opens it.
class BrokenFile : public Error {
 public:
  using Error::Error;
};

// A request names what is not there: a machine, a device, a module.
class NoSuchName : public Error {
 public:
  using Error::Error;
};

}  // namespace berth
