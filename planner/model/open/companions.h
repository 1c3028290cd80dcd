// The files that make weights a model: its config, its tokenizer, its chat template. They lie
// beside the weights, or are texts out of a file that is the whole model (formats.h).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/model.h"
#include "berth/tensor.h"

namespace berth {

// The folder in which the files that describe `model` are looked for.
std::filesystem::path folder_of(const Model& model);

// The file called `name` beside the weights of `model`. Empty where it does not exist, and for a
// whole model, whatever lies beside it.
std::filesystem::path file_beside(const Model& model, std::string_view name);

// The tokenizer.json of `model`: the file beside it, or its text. Nothing where there is neither.
// Throws Error where the text cannot be made.
std::optional<Companion> tokenizer_json(const Model& model);

// The files that go along with the tensors of `checkpoint` when they are converted.
// - If the checkpoint has its description beside it, these are the files of known names that lie
// there, to be copied. If `dtype` is given, config.json is a text instead, changed by with_dtype().
// - If a file is the whole model, these are its texts. `dtype` must be given, and config.json names
// it. `notes` says which texts could not be made.
// Throws Error for a config that cannot be read, and for a text that is needed and cannot be made.
std::vector<Companion> companions_of(const Checkpoint& checkpoint, std::optional<DType> dtype,
                                     std::vector<std::string>& notes);

// The text of a config.json with `torch_dtype` and `dtype`, those of them that stand in it at the
// top, set to `dtype`; nothing else is touched.
std::string with_dtype(const std::string& config, DType dtype, const std::string& source);

}  // namespace berth
