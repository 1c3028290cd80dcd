// How the files of a model that is written are called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace berth {

// File `number` of `count`, from 0 on: "model.gguf" where there is one, else
// "model-00002-of-00003.gguf". `extension` is ".gguf".
std::string shard_name(std::size_t number, std::size_t count, std::string_view extension);

// Divides things in their order among files of at most `most` bytes: adds the next one, of `bytes`,
// and says whether a new file begins with it. What is larger than that gets a file of its own.
class FilesBySize {
 public:
  explicit FilesBySize(std::uint64_t most) : most_(most) {}
  bool begins(std::uint64_t bytes) {
    const bool full = any_ && (bytes > most_ || filled_ > most_ - bytes);
    const bool first = !any_ || full;
    filled_ = first ? bytes : filled_ + bytes;
    any_ = true;
    return first;
  }

 private:
  std::uint64_t most_;
  std::uint64_t filled_ = 0;
  bool any_ = false;
};

}  // namespace berth
