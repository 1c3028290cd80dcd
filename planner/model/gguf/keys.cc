#include "planner/model/gguf/keys.h"

#include <algorithm>
#include <functional>

namespace berth {

std::optional<std::uint64_t> GgufKeys::find(std::string_view name) const {
  return header_.unsigned_integer(key(name));
}

std::vector<std::uint64_t> GgufKeys::numbers(std::string_view name) const {
  std::vector<std::uint64_t> out;
  for (const std::int64_t number : header_.integers(key(name))) {
    if (number < 0) fail(name, "holds a negative number");
    out.push_back(static_cast<std::uint64_t>(number));
  }
  return out;
}

std::optional<std::uint64_t> GgufKeys::first_of(std::string_view name) const {
  const std::vector<std::uint64_t> all = numbers(name);
  if (all.empty()) return std::nullopt;
  const auto found = std::ranges::find_if(all, [](std::uint64_t number) { return number != 0; });
  return found == all.end() ? 0 : *found;
}

std::uint64_t GgufKeys::greatest(std::string_view name) const {
  const std::vector<std::uint64_t> all = numbers(name);
  return all.empty() ? 0 : *std::ranges::max_element(all);
}

std::vector<std::uint64_t> GgufKeys::by_layer(std::string_view name, std::uint64_t layers) const {
  if (!header_.has(key(name))) return {};
  std::vector<std::uint64_t> all = numbers(name);
  if (!header_.is_list(key(name))) return std::vector<std::uint64_t>(layers, all.at(0));
  if (all.size() != layers) {
    fail(name, "has " + std::to_string(all.size()) + " elements for " + std::to_string(layers) +
                   " layers");
  }
  return all;
}

bool GgufKeys::varies(std::string_view name) const {
  const std::vector<std::uint64_t> all = numbers(name);
  return std::ranges::adjacent_find(all, std::not_equal_to()) != all.end();
}

}  // namespace berth
