// Runs a model that was loaded: greedy decoding of one or several sequences with a KV cache, each
// layer on the device where the plan placed it.
//
// The kernels of the project compute where they can. Where they cannot, or where it is asked for,
// libtorch does, whose decoder is opened then.
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
#include "runtime/kernels/choice.h"
#include "runtime/program/decoder.h"
#include "runtime/program/step_log.h"

namespace berth {

struct RunOptions {
  // The prompts, as text or as ids: one of the two is empty. Where the plan is for more sequences
  // than there are prompts, they are taken again from the first on.
  std::vector<std::string> prompts;
  std::vector<std::vector<std::int64_t>> prompt_ids;
  std::uint64_t new_tokens = 20;    // -n: at most so many, of each sequence
  bool stop_at_end_of_text = true;  // stop at the model's eos token
  Kernels kernels = Kernels::kOwn;
  ActivationBits activations = ActivationBits::k24;  // beside packed weights, by own kernels
  // Opens libtorch's decoder; throws Error where that cannot be. Empty: there is none.
  std::function<MakeDecoder()> open_reference;
  // A safetensors file to write, with one tensor `logits` [positions of the prompt, vocabulary]
  // F32.
  std::optional<std::filesystem::path> logits_file;
  StepLog* log = nullptr;  // gets the time of every step. Default: nothing is timed
  const std::atomic<bool>* cancel = nullptr;
  // Called with the next text of a sequence as soon as no later token can change it; each time it
  // is valid UTF-8.
  std::function<void(std::size_t sequence, const std::string& text)> on_text;
};

struct Generated {
  std::vector<std::int64_t> prompt_ids;
  std::vector<std::int64_t> new_ids;
  std::string text;  // the new ids as text; empty without a tokenizer
};

struct RunReport {
  std::vector<Generated> sequences;
  double prefill_seconds = 0;
  double decode_seconds = 0;  // of all new tokens but the first of each sequence
  std::uint64_t hops = 0;     // how many times the last pass moved an activation to another device
  std::string kernels;        // what computed: "AVX2", or "libtorch: weights are on a GPU"
};

// Throws Error where run() would fail: for a model family that cannot be run, a prompt that is
// empty or too long, an id outside the vocabulary, or (for a prompt of text) a tokenizer.json that
// is missing or not supported. Needs no weights, so call it before they are loaded. Returns how
// many positions of KV cache the longest sequence needs: the last new token is never fed back, so
// it needs none.
std::uint64_t check_run(const Model& model, const RunOptions& options);

// Empty where the kernels of this project can compute with the model's weights as they will be
// loaded, on host memory; else why they cannot, in a few words. Needs no weights. Says nothing of
// whether the model can be run otherwise.
std::string why_not_as_stored(const Model& model);

// Throws Error where a run with `positions` positions would not keep to the plan's workload:
// Workload::batch sequences, Workload::context positions of each (0: not limited), and a KV cache
// of a dtype that can be computed with. Needs no weights either.
void check_workload(const Plan& plan, const RunOptions& options, std::uint64_t positions);

// Generates tokens. Throws Error for all that check_run() and check_workload() refuse, for weights
// whose dtype cannot be computed with, and where computing fails; Interrupted when cancelled. After
// an error in the prompt's pass no logits file is left behind.
RunReport run(const Model& model, const Plan& plan, const LoadedModel& loaded,
              const RunOptions& options);

}  // namespace berth
