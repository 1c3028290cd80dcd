// What an action says when it fails.
#pragma once

#include <functional>
#include <string>

#include "berth/error.h"

namespace berth::testing {

// The message of the Error that `action` throws, or "no error".
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace berth::testing
