#include "runtime/exec/plain_errors.h"

#include <c10/util/Exception.h>

#include <string>

#include "berth/error.h"

namespace berth {

void with_plain_errors(const std::function<void()>& compute) {
  try {
    compute();
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    throw Error("computing failed: " + text.substr(0, text.find('\n')));
  }
}

}  // namespace berth
