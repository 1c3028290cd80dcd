// Keeps exceptions on this side of the C interface: what is thrown becomes a status and a message.
#pragma once

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "berth/berth_c.h"
#include "berth/error.h"
#include "planner/base/error_kinds.h"

namespace berth {

// An argument of the caller makes no sense.
class BadArgument : public Error {
 public:
  using Error::Error;
};

// There is no file where one was named.
class NoFile : public Error {
 public:
  using Error::Error;
};

inline berth_status fill_error(berth_error* error, berth_status status,
                               std::string_view message) noexcept {
  if (error == nullptr) return status;
  error->status = status;
  std::size_t bytes = std::min(message.size(), sizeof error->message - 1);
  // No character is cut in two.
  while (bytes < message.size() && bytes > 0 &&
         (static_cast<unsigned char>(message[bytes]) & 0xC0u) == 0x80u) {
    --bytes;
  }
  std::memcpy(error->message, message.data(), bytes);
  error->message[bytes] = '\0';
  std::replace(error->message, error->message + bytes, '\n', ' ');
  return status;
}

// Runs `work`. An Error that says no more of itself has the status `otherwise`.
template <typename Work>
berth_status guarded(berth_error* error, berth_status otherwise, const Work& work) noexcept {
  try {
    work();
    return BERTH_OK;
  } catch (const Interrupted& e) {
    return fill_error(error, BERTH_INTERRUPTED, e.what());
  } catch (const DoesNotFit& e) {
    return fill_error(error, BERTH_DOES_NOT_FIT, e.what());
  } catch (const BrokenFile& e) {
    return fill_error(error, BERTH_BROKEN_FILE, e.what());
  } catch (const NoFile& e) {
    return fill_error(error, BERTH_NO_FILE, e.what());
  } catch (const NoSuchName& e) {
    return fill_error(error, BERTH_USAGE, e.what());
  } catch (const BadArgument& e) {
    return fill_error(error, BERTH_USAGE, e.what());
  } catch (const Error& e) {
    return fill_error(error, otherwise, e.what());
  } catch (const std::bad_alloc&) {
    return fill_error(error, BERTH_DOES_NOT_FIT, "out of host memory");
  } catch (const std::exception& e) {
    return fill_error(error, BERTH_ERROR, e.what());
  } catch (...) {
    return fill_error(error, BERTH_ERROR, "an exception of an unknown kind");
  }
}

}  // namespace berth
