// A file as its readers see it: a size and exact reads, so that parsers run on memory in tests.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace berth {

struct ByteSource {
  std::string name;  // for messages
  std::uint64_t size = 0;
  // Fills `out` with `count` bytes from `offset`; throws Error where it cannot.
  std::function<void(std::uint64_t offset, char* out, std::uint64_t count)> read;
};

}  // namespace berth
