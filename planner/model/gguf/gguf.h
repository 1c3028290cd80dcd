// A GGUF file as a Hugging Face checkpoint: with the names, shapes, config.json and tokenizer.json
// that a converted checkpoint would have, so that everything else works on it unchanged.
//
// The checkpoint's byte ranges are those of the GGUF file itself. llama.cpp stores some tensors in
// another form than transformers (rotary rows interleaved, GPT-2's matrices transposed, Gemma's
// norm weights greater by one). Such a tensor has a StoredForm, and the load puts it right. Experts
// that share one stored tensor are one tensor each here. The functions may be called from many
// threads.
#pragma once

#include <filesystem>
#include <string>

#include "berth/checkpoint.h"
#include "planner/checkpoint/limits.h"

namespace berth {

struct GgufModel {
  Checkpoint checkpoint;    // one shard for each file
  std::string config_json;  // what config.json would say, without dtype and quantisation
};

// True for a file name that ends in .gguf, in upper or lower case.
bool is_gguf(const std::filesystem::path& path);

// True for a split that is not the first of its model: "model-00002-of-00003.gguf".
bool is_later_gguf_split(const std::filesystem::path& path);

// Opens a GGUF file. If the file is a split (model-00001-of-00003.gguf), opens the whole model.
// Reads no more of the vocabulary than its size. Throws Error for a broken file, for a split that
// is missing, for a tensor type or an architecture that is not supported, and for a tensor that the
// architecture does not have.
GgufModel open_gguf(const std::filesystem::path& file, const CheckpointLimits& limits = {});

// The tokenizer.json of a GGUF file whose vocabulary is byte-level BPE or SentencePiece's. Throws
// Error for any other kind of vocabulary or pre-tokenizer, and names it.
std::string gguf_tokenizer_json(const std::filesystem::path& file,
                                const CheckpointLimits& limits = {});

// The tokenizer_config.json of a GGUF file: its special tokens, its chat template and the length of
// the longest text. It does not need a tokenizer that Berth knows. Throws Error for a file without
// a vocabulary, and for a special token outside it.
std::string gguf_tokenizer_config_json(const std::filesystem::path& file,
                                       const CheckpointLimits& limits = {});

// The generation_config.json of a GGUF file: which tokens begin and end a text.
std::string gguf_generation_config_json(const std::filesystem::path& file,
                                        const CheckpointLimits& limits = {});

}  // namespace berth
