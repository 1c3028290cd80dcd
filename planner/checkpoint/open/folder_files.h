// Which files of a folder hold its model. Every command asks here, so that all have one opinion.
//
// A folder often has weights beside those of the model: an adapter that was trained for it, the
// same weights in their maker's own form (consolidated.*), the state of an optimizer. They are told
// by their names. They are the folder's weights only where there are no others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "planner/checkpoint/open/weight_formats.h"

namespace berth {

enum class WeightsKind : std::uint8_t {
  kModel,      // as config.json beside them describes them, if it is there
  kOriginal,   // of Meta or Mistral (consolidated.*, with params.json): other names and layouts
  kAdapter,    // of PEFT or diffusers (adapter_model.*): changes to the weights of another model
  kProjector,  // of llama.cpp (mmproj): what turns images into input of a GGUF model beside it
  kTraining,   // the state of an optimizer and the like: no weights of a model
};

// By the file's name alone.
WeightsKind weights_kind(const std::filesystem::path& file);

// The files of one format and kind in a folder without the format's usual file and index, sorted;
// none where the folder has none. Throws Error where the folder cannot be listed, and where a file
// is missing of a series that counts itself ("model-00002-of-00005.safetensors").
std::vector<std::filesystem::path> files_of_kind(const std::filesystem::path& folder,
                                                 const WeightFormat& format, WeightsKind kind);

// The one variant of the weights in a folder that has none without: files such as
// STEM.fp16.safetensors, STEM.fp16-00001-of-00002.safetensors, STEM-00001-of-00002.fp16.safetensors
// and STEM.safetensors.index.fp16.json, as diffusers and transformers write them.
struct Variant {
  std::string name;                          // "fp16"; "" if the folder has no variant
  std::filesystem::path index;               // "" if it has none
  std::vector<std::filesystem::path> files;  // sorted; without an index they are all of it
};
// Throws Error if there are several variants, and if shards are missing of one without an index.
Variant find_variant(const std::filesystem::path& folder, const WeightFormat& format,
                     std::string_view stem);

// One line for each kind of weights in the folder besides the model's own.
std::vector<std::string> notes_of_others(const std::filesystem::path& folder,
                                         const WeightFormat& format);

// Whether a folder holds files of weights, or an index of some, whether Berth reads them or not.
// The state of an optimizer and the like do not count.
bool holds_weights(const std::filesystem::path& folder);

// What else lies in a folder without weights that could be opened, so that the error can say it.
[[noreturn]] void fail_without_weights(const std::filesystem::path& folder);

}  // namespace berth
