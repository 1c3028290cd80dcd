// The text of a flag turned into its value.
#pragma once

#include <string>

#include "berth/error.h"
#include "cli/options/settings.h"

namespace berth {

// Runs `parse`, a function of cli/values.h on the flag's text. Whatever is wrong with that text is
// wrong with the call: every Error comes back as a UsageError that names the flag.
template <typename Parse>
auto flag_value(const std::string& flag, Parse parse) {
  try {
    return parse();
  } catch (const Error& error) {
    throw UsageError(flag + ": " + error.what());
  }
}

}  // namespace berth
