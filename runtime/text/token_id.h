// Ids of tokens in a tokenizer.json.
#pragma once

#include <cstdint>
#include <limits>

#include "planner/base/json_value.h"

namespace berth {

// Throws Error naming the field where `value` is no whole number of 32 bits.
inline std::uint32_t token_id(const JsonValue& value) {
  const std::uint64_t id = value.unsigned_integer();
  if (id > std::numeric_limits<std::uint32_t>::max()) value.fail("is no token id");
  return static_cast<std::uint32_t>(id);
}

}  // namespace berth
