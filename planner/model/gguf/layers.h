// What the layers of a GGUF model keep and read, by the file's metadata and the names and shapes of
// its tensors: for files that are not mapped to a family of transformers. Follows llama.cpp's
// llama-hparams.cpp and load_hparams(), because the file is made for it. Internal to
// planner/model/gguf.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/checkpoint/gguf/header.h"

namespace berth {

struct GgufLayers {
  ModelFacts facts;  // of its layers no module is known yet, and no embedding or head
  std::string list;  // layer i is the module `list`.i: "blk", or "dec.blk"; empty: there are none
  // Layers of the list after those, which predict further tokens and are no part of the decoder.
  std::uint64_t prediction_layers = 0;
  bool language_model = false;     // has an output projection, of its own or tied to the embedding
  std::vector<std::string> notes;  // what was guessed, one line each
};

// `tensors` are those of all files of the model, under the names that they have there. Throws
// Error, naming the key or the tensor, where the metadata contradicts itself or the tensors.
GgufLayers gguf_layers(const GgufHeader& header, const std::vector<TensorInfo>& tensors);

}  // namespace berth
