// Running what was loaded: greedy decoding with a KV cache, each layer where it was placed.
//
// Torch-free on the outside; the implementation is the only part of the project that sees ATen.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "berth/load.h"
#include "berth/plan.h"

namespace berth {

struct RunOptions {
  std::optional<std::string> prompt;  // text; else prompt_ids
  std::vector<std::int64_t> prompt_ids;
  std::uint64_t new_tokens = 20;                     // -n
  bool stop_at_end_of_text = true;                   // stop at the model's eos token
  std::optional<std::filesystem::path> logits_file;  // safetensors, `logits` [positions, vocab] F32
  const std::atomic<bool>* cancel = nullptr;
  std::function<void(const std::string&)> on_text;  // valid UTF-8 pieces as they are decided
};

struct RunReport {
  std::vector<std::int64_t> prompt_ids;
  std::vector<std::int64_t> new_ids;
  std::string text;  // decoded new ids; empty without a tokenizer
  double prefill_seconds = 0;
  double decode_seconds = 0;  // of all new tokens but the first
  std::uint64_t hops = 0;     // activations moved between devices, per forward pass
};

// Throws Error for a model family that cannot be run, a prompt that is empty or too long, an id
// outside the vocabulary, a missing or unsupported tokenizer.json (text only). Needs no weights: to
// be asked before they are loaded.
void check_run(const Model& model, const RunOptions& options);

// Generates. Throws Error for all that check_run() refuses, for weights that cannot be computed
// with, and when cancelled; no logits file is left behind then.
RunReport run(const Model& model, const Plan& plan, const LoadedModel& loaded,
              const RunOptions& options);

}  // namespace berth
