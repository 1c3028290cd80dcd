// A GGUF file as a Hugging Face checkpoint: with the names, shapes, config.json and tokenizer.json
// that a converted checkpoint would have, so that everything else works on it unchanged.
//
// That is so for the architectures that are mapped to a family of transformers. Any other file, and
// one that holds more than its family has, keeps the names that are in it: its tree and what its
// layers keep follow from these and from its metadata.
//
// The checkpoint's byte ranges are those of the GGUF file itself. llama.cpp stores some tensors in
// another form than transformers (rotary rows interleaved, GPT-2's matrices transposed, Gemma's
// norm weights greater by one). Such a tensor has a StoredForm, and the load puts it right. Experts
// that share one stored tensor are one tensor each here. The functions may be called from many
// threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/checkpoint/limits.h"

namespace berth {

struct GgufModel {
  Checkpoint checkpoint;    // one shard for each file
  std::string config_json;  // what config.json would say, without dtype and quantisation
  // For a file that is not mapped, which has no config: makes its tree, with weights of a dtype or
  // as they are stored. Its notes say what was guessed.
  std::function<ModelTree(const Checkpoint&, std::optional<DType>)> tree;
};

// What a GGUF file is. Only a model has layers and a decoder.
enum class GgufKind : std::uint8_t {
  kModel,
  kProjector,  // the vision or audio tower of a model that is in another file ("mmproj")
  kImatrix,    // measured importances of weights, which quantisers read
  kAdapter,    // LoRA
};
// Of a file, by its metadata. Throws Error for a broken file.
GgufKind gguf_kind(const std::filesystem::path& file, const CheckpointLimits& limits = {});
// "a projector", for messages; "a model" for a model.
std::string_view gguf_kind_name(GgufKind kind);

// True for a file name that ends in .gguf, in upper or lower case.
bool is_gguf(const std::filesystem::path& path);

// True for a split that is not the first of its model: "model-00002-of-00003.gguf".
bool is_later_gguf_split(const std::filesystem::path& path);

// Opens a GGUF file. If the file is a split (model-00001-of-00003.gguf), opens the whole model.
// Reads no more of the vocabulary than its size. Throws Error for a broken file, for a split that
// is missing, for a tensor type of unknown size, and for metadata that contradict themselves or the
// tensors.
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
