// A model of which nothing is there but the config.json of a family without a template: what its
// numbers say, taken for a decoder of Llama's shape.
#pragma once

#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "planner/model/tree/config.h"

namespace berth {

struct EstimatedTensors {
  Checkpoint checkpoint;             // of tensors that no file holds
  bool tied = false;                 // `lm_head` to `model.embed_tokens`
  std::vector<std::string> guesses;  // what they rest on, a sentence each
  // Why there is no estimate: keys that are missing, or layers whose weights no numbers tell. Then
  // there are no tensors either. "" for an estimate.
  std::string refused;
};

// The tensors that a model of these numbers has if it is built as Llama is: grouped or latent
// attention, a gated feed-forward block or a mixture of experts in each layer, towers of plain
// blocks. What the config leaves open is read as what takes more memory. Weights have the config's
// dtype, or float32 as in transformers if it names none.
// Throws Error naming the key if the config contradicts itself.
EstimatedTensors estimate_tensors(const ModelConfig& config);

}  // namespace berth
