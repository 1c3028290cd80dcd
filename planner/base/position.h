// Errors that say where: what is thrown deep inside learns its file and field further out.
#pragma once

#include <concepts>
#include <string>

#include "berth/error.h"

namespace berth {

// Runs `action` and returns what it returns. An Error that it throws comes back with its position:
// by where.fail(message) where `where` is a value that knows its file and field (YamlValue,
// JsonValue); as "where: message" where it is a text, or a function that makes one, which is called
// only then. The message of Interrupted is a whole sentence, and passes as it is.
template <typename Where, typename Action>
decltype(auto) with_position(const Where& where, Action&& action) {
  try {
    return action();
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    if constexpr (requires { where.fail(std::string()); }) {
      where.fail(error.what());  // throws
      throw;
    } else if constexpr (std::invocable<const Where&>) {
      throw Error(where() + ": " + error.what());
    } else {
      throw Error(std::string(where) + ": " + error.what());
    }
  }
}

}  // namespace berth
