// A part of a quantised weight as it was read from its shard: its scales, zero points and the like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "berth/checkpoint.h"
#include "runtime/io/memory.h"

namespace berth {

// Reads bytes [begin, end) of a shard to `at_begin`, which is as far above a multiple of kBlock as
// `begin` is. Memory down to the block boundary below and up to the one above may be written, too.
using ReadRange = std::function<void(std::uint32_t shard, std::uint64_t begin, std::uint64_t end,
                                     std::byte* at_begin)>;

// The numbers of a part, in the order of the file. It has no shape: the stored one was compared
// with the one that the weight's form gives when the model was opened, and may leave out dimensions
// of size 1 (shape_fits()). Where each number belongs follows from the form alone.
struct ReadPart {
  std::string position;  // the beginning of an error about it
  DType dtype = DType::kF32;
  std::uint64_t count = 0;
  HostArena memory;
  const std::byte* data = nullptr;
  bool stored = false;  // else the weight has no such part

  explicit operator bool() const { return stored; }
  std::uint32_t word(std::uint64_t index) const {
    std::uint32_t word = 0;
    std::memcpy(&word, data + 4 * index, sizeof word);
    return word;
  }
  // Throws Error if there are fewer numbers than that.
  void require(std::uint64_t least) const;
};

// The beginning of an error about stored tensor `source`: its file and its name.
std::string position_of(const Checkpoint& checkpoint, std::uint32_t source);

// Reads stored tensor `source`; gives a part that is false if there is no such tensor.
ReadPart read_part(const Checkpoint& checkpoint, std::uint32_t source, const ReadRange& read);

}  // namespace berth
