// Layers of multi-token prediction: what a checkpoint stores to draft the tokens after the next
// one, and what transformers leaves out when it loads the model.
//
// They are known by their names: `mtp` as a part of a name (Qwen3-Next, Nemotron-H, MiMo, ERNIE
// 4.5), globs that a template gives (`checkpoint: mtp:`), and layers beyond the last one of the
// decoder (DeepSeek-V3, GLM-4.5), where config.json counts them or they hold what joins a draft to
// the decoder (`eh_proj`, `shared_head`).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/model/tree/config.h"

namespace berth {

// Which of the stored tensors `candidates`, which the model itself has no use for, are those of
// multi-token prediction; in order. `layers`: the stored name of the list of decoder layers, such
// as "model.layers"; empty where it is unknown, and then any list with layers that join a draft
// counts. `count`: the number of layers of the decoder; 0 if it is unknown.
std::vector<std::uint32_t> prediction_tensors(const Checkpoint& checkpoint,
                                              const ModelConfig* config,
                                              const std::vector<std::string>& globs,
                                              std::span<const std::uint32_t> candidates,
                                              std::string_view layers, std::uint64_t count);

// The bytes of stored tensors.
std::uint64_t stored_bytes(const Checkpoint& checkpoint, std::span<const std::uint32_t> tensors);

// "9.51 GB of multi-token-prediction weights are stored and not loaded (--mtp loads them)"
std::string prediction_note(std::uint64_t bytes, Prediction prediction);

// The tree that the names of a checkpoint spell (names_tree.h), without those tensors: they are in
// ModelTree::predicted.
ModelTree build_from_names_alone(const Checkpoint& checkpoint, const ModelConfig* config,
                                 std::optional<DType> dtype);

// Adds those tensors to the tree, by the modules that their names spell. What has an attention
// keeps keys and values as the decoder's last layer with such a cache does. They run after the
// decoder's layers and before its norm and head.
void add_prediction(ModelTree& tree, const Checkpoint& checkpoint, const ModelConfig* config,
                    std::span<const std::uint32_t> tensors, std::optional<DType> dtype);

}  // namespace berth
