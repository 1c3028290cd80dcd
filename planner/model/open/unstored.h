// What a model without a template has besides the tensors of its checkpoint.
#pragma once

#include "berth/model.h"
#include "planner/model/tree/config.h"

namespace berth {

// Adds to a tree that was spelled by the names of a checkpoint what the config says the model has
// and files do not store, so that plans count it and device maps cover it:
//   - `lm_head`, tied to the input embedding, where `architectures` names a model that gives logits
//     of tokens, no tensor but the embedding has a row for each token, and tie_word_embeddings does
//     not say false
//   - `rotary_emb` beside the decoder's layers, without tensors, where there are rotary settings:
//     the name that transformers gives it in every family that it registers it in
void add_unstored(ModelTree& tree, const ModelConfig& config);

}  // namespace berth
