// Which of the numbered lists of blocks in a tree of names is the decoder, and what the others are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/model.h"
#include "planner/model/tree/text_keys.h"

namespace berth {

struct DecoderBlocks {
  ModuleId list = kNone;  // kNone: the tree has no list of blocks
  std::vector<ModuleId>
      blocks;  // of the decoder, in order; those of multi-token prediction are out
  std::vector<std::size_t> numbers;  // of the blocks: layers without a tensor leave gaps
  std::size_t count = 0;             // layers that the decoder has: by the config, if it says so
};

// Chooses among `lists`, the outermost numbered lists whose items are blocks: the one with as many
// blocks as the language model's config has layers, and with a name that speaks of no tower; where
// no config says it, the longest. Then marks what runs for the prompt alone (Module::prompt_only):
// encoders and towers, their projectors, and layers of multi-token prediction, which no token
// needs. Adds to `guesses` what had to be guessed.
DecoderBlocks choose_decoder(ModelTree& tree, const std::vector<ModuleId>& lists,
                             const TextKeys& keys, std::vector<std::string>& guesses);

// Whether the name of a module speaks of an encoder, in any of its components.
bool names_encoder(std::string_view name);

}  // namespace berth
