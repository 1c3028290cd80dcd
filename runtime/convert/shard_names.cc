#include "runtime/convert/shard_names.h"

namespace berth {

std::string shard_name(std::size_t number, std::size_t count, std::string_view extension) {
  if (count == 1) return "model" + std::string(extension);
  const auto digits = [](std::size_t value) {
    const std::string text = std::to_string(value);
    return text.size() < 5 ? std::string(5 - text.size(), '0') + text : text;
  };
  return "model-" + digits(number + 1) + "-of-" + digits(count) + std::string(extension);
}

}  // namespace berth
