#include "planner/model/open/guess_notes.h"

namespace berth {
namespace {

// "1 layer", "6 of 12 layers", "all 12 layers".
std::string of_layers(std::size_t count, std::size_t all) {
  if (count == all) return all == 1 ? "the layer" : "all " + std::to_string(all) + " layers";
  return std::to_string(count) + " of " + std::to_string(all) + " layers";
}

}  // namespace

std::vector<std::string> guess_notes(const GuessCounts& counts) {
  std::vector<std::string> notes;
  const auto add = [&](std::size_t count, const std::string& before, const std::string& after) {
    if (count > 0) notes.push_back(before + of_layers(count, counts.layers) + after);
  };
  if (counts.all_experts > 0) {
    notes.push_back("no key says how many of the " + std::to_string(counts.all_experts) +
                    " experts a token uses: priced with all of them");
  }
  add(counts.unsized, "neither shapes nor config tell how large the keys of ",
      " are: their KV cache is not counted");
  add(counts.unnamed, "no tensors of ",
      std::string(" are called as keys and values are: ") +
          (counts.by_config ? "their KV cache is counted by the config alone"
                            : "their KV cache, if they have one, is not counted"));
  add(counts.unlike, "",
      " are built otherwise than the others, and no key says that they attend otherwise: counted "
      "as "
      "attention to all positions");
  add(counts.compressed, "",
      " keep entries that are made of several positions each, and nothing says of how many: "
      "counted as if of one");
  add(counts.borrowed, "",
      " attend without keys of their own: a KV cache is counted as in the layer next to them");
  add(counts.unknown_states, "what ",
      " with linear attention or a recurrence keep is not told and not counted");
  add(counts.guessed_states, "how the states of ",
      " with linear attention or a recurrence are divided is not told: counted as in models of "
      "this kind");
  if (counts.source_positions) {
    notes.push_back("cross attention is counted for " + std::to_string(*counts.source_positions) +
                    " positions of what it attends to");
  }
  return notes;
}

}  // namespace berth
