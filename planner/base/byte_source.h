// A file as the parsers of this project see it: a size, and a function that reads exact byte
// ranges. Tests and fuzzers hand the parsers memory instead of a file.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace berth {

struct ByteSource {
  std::string name;  // for messages
  std::uint64_t size = 0;
  // Fills `out` with the `count` bytes that begin at `offset`. Throws Error where it cannot.
  std::function<void(std::uint64_t offset, char* out, std::uint64_t count)> read;
};

}  // namespace berth
