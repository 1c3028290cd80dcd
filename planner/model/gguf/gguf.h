// A GGUF file as a Hugging Face checkpoint: the same names, shapes, config.json and tokenizer.json
// as if it had been converted, so that everything behind it works unchanged.
//
// The checkpoint's byte ranges are those of the GGUF file itself. Where llama.cpp stores a tensor
// in another form than transformers (rotary rows interleaved, GPT-2's matrices transposed, Gemma's
// norm weights greater by one) it has a StoredForm, and the load puts it right; experts that are
// stored in one tensor are one tensor each here.
#pragma once

#include <filesystem>
#include <string>

#include "berth/checkpoint.h"

namespace berth {

struct GgufModel {
  Checkpoint checkpoint;    // one shard a file
  std::string config_json;  // what config.json would say; no dtype, no quantisation
};

// True for a file name that ends in .gguf, in any case.
bool is_gguf(const std::filesystem::path& path);

// True for a part of a split file that is not its first: "model-00002-of-00003.gguf".
bool is_later_gguf_split(const std::filesystem::path& path);

// Opens a GGUF file, or from any part of a split one (model-00001-of-00003.gguf) all of it. Of the
// vocabulary only the size is looked at. Throws Error for a broken file, a tensor type or an
// architecture that is not read, and a tensor that has no place in it.
GgufModel open_gguf(const std::filesystem::path& file, const CheckpointLimits& limits = {});

// The tokenizer.json of a GGUF file with a vocabulary of byte-level BPE or of SentencePiece's.
// Throws Error for any other kind of vocabulary or pre-tokenizer, naming it.
std::string gguf_tokenizer_json(const std::filesystem::path& file,
                                const CheckpointLimits& limits = {});

// The tokenizer_config.json of a GGUF file: its special tokens, its chat template and the longest
// text. Needs no tokenizer that Berth knows. Throws Error for a file without a vocabulary, and for
// a special token outside it.
std::string gguf_tokenizer_config_json(const std::filesystem::path& file,
                                       const CheckpointLimits& limits = {});

// The generation_config.json of a GGUF file: where a text begins and ends.
std::string gguf_generation_config_json(const std::filesystem::path& file,
                                        const CheckpointLimits& limits = {});

}  // namespace berth
