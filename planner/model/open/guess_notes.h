// What a model without a template rests on, in sentences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace berth {

// How many of a decoder's layers a guess was made for.
struct GuessCounts {
  std::size_t layers = 0;          // that the decoder has
  std::size_t unsized = 0;         // neither shapes nor config tell the size of their keys
  std::size_t unnamed = 0;         // no tensors are called as keys are
  bool by_config = false;          // ... and the config tells the size of their keys
  std::size_t unlike = 0;          // fuse keys with queries, where other layers do not
  std::size_t compressed = 0;      // keep entries that are made of several positions each
  std::size_t borrowed = 0;        // attend without keys of their own
  std::size_t unknown_states = 0;  // keep a state whose size is not told
  std::size_t guessed_states = 0;  // keep one whose division into heads or groups is not told
  // Experts of a layer of which no key says how many a token uses; 0 where one does.
  std::uint64_t all_experts = 0;
  // Positions that cross attention was counted for, if no key says it.
  std::optional<std::uint64_t> source_positions;
};

std::vector<std::string> guess_notes(const GuessCounts& counts);

}  // namespace berth
