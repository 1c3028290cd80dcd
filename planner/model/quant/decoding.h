// What config.json and quantize_config.json say of how quantised weights are decoded, besides their
// layout. Internal to planner/model.
#pragma once

#include <optional>
#include <string>

#include "planner/model/quant/quantization.h"
#include "planner/model/tree/config.h"

namespace berth {

// The text under `key` in lower case; "" if there is none.
std::string lower_text(const ModelConfig& config, const std::string& key);

// The boolean under `key`; nullopt if there is none.
std::optional<bool> said(const ModelConfig& config, const std::string& key);

// Sets what GPTQ's zero points mean, and whether weights are symmetric: by quantization_config,
// which transformers reads, and by quantize_config.json, which GPTQModel reads. Also sets a note
// where the two disagree, and `known` and `undecodable` for a checkpoint_format of another layout.
void read_gptq_zeros(const ModelConfig& config, Quantization& quantization);

// Whether the config says of GPTQ's weights that inputs are in the order of their groups: desc_act
// is false wherever it is set, and is set.
bool gptq_inputs_in_order(const ModelConfig& config);

// Why weights cannot be decoded as if they were a plain model's: some tools rotate weights and,
// while the model runs, activations too. "" if nothing is rotated.
std::string rotation_problem(const ModelConfig& config);

}  // namespace berth
