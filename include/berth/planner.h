// The planner: opening a model by its metadata, and deciding where every tensor of it will live.
//
// Nothing here makes a CUDA context, needs a GPU or reads a byte of weights, except that
// open_model() compares tied tensors of which a checkpoint stores both. The functions keep no state
// and may be called from several threads at once, each with values of its own.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "berth/machine.h"
#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

// Opens the model at `path`, which is
//   a folder with config.json and weights (safetensors, or PyTorch's .bin), or with one GGUF model,
//   a Hugging Face cache folder (models--org--name), or FOLDER@REVISION for one of its revisions,
//   a file of weights: .safetensors, .bin, .pt, .pth, .gguf, or one of another name that begins as
//   they do; a config.json beside it is used; FILE@NAME is one state dict of a PyTorch file,
//   a folder of a diffusers pipeline (model_index.json), or one component of it,
//   a config.json alone: the model can be planned before its weights are there, or
//   a module tree as JSON.
// `dtype` is what floating-point weights become in memory (float16, bfloat16 or float32); without
// it, every tensor stays as it is stored. With Dequantize::kYes quantised weights become plain.
// With Prediction::kLoaded layers of multi-token prediction that are stored become part of it.
// Weights without a config.json, and those of a family that Berth has no template for, get the tree
// that the names of their tensors spell. A config.json alone of such a family gets the tree that a
// model of its numbers would have if it were built as Llama is (ModelTree::estimated). What had to
// be guessed is in ModelTree::guesses, and in the notes.
// Throws Error naming the file: missing, malformed, tensors that are missing or of other shapes
// than the config says, a quantisation that cannot be dequantised; a config that contradicts itself
// or, alone and of an unknown family, says too little for an estimate.
Model open_model(const std::filesystem::path& path, std::optional<DType> dtype,
                 Dequantize dequantize = Dequantize::kNo,
                 Prediction prediction = Prediction::kLeftOut);

// Places `tree` on `machine`, whose defaults were filled in (fill_defaults()), as `request` asks.
// The same input gives the same plan. A model that does not fit gives a plan with `shortfall`.
// For budgets without a machine, pass what budget_machine() makes of them.
// Throws Error for a request that makes no sense: an unknown device in a map or an override, a
// device map that names no module of this model or leaves tensors uncovered.
Plan make_plan(const ModelTree& tree, const Machine& machine, const Request& request);

// What a run of a plan is expected to take, where everything is computed where it stands: a run
// does not stream.
struct Forecast {
  struct Unit {
    ModuleId module = kNone;   // such as a decoder layer
    std::uint32_t device = 0;  // that computes it: an index into Plan::devices
    double prefill_seconds = 0;
    double seconds_per_token = 0;
  };
  Estimate estimate;
  std::vector<Unit> units;  // in the order in which they run; a unit on two devices is there twice
  double bytes_per_step =
      0;  // of weights and KV cache that a decoding step reads, for all sequences
  // The time that a step takes if every device reads its bytes at its memory's rate: nothing is
  // quicker.
  double limit_seconds_per_step = 0;
};

// The forecast for `workload`, with the tensors where `plan` has them. Nothing if `machine` lacks a
// device of the plan, or nothing is known of the model's times.
std::optional<Forecast> forecast(const ModelTree& tree, const Machine& machine, const Plan& plan,
                                 const Workload& workload);

// Compares a plan, perhaps made elsewhere or earlier, with what is free on `now`. Gives an empty
// string if the plan still fits, else one sentence that names the device and what it lacks. With
// `emulate`, devices that `now` lacks are skipped; without, the sentence says that one is absent.
std::string recheck(const Plan& plan, const Machine& now, bool emulate);

}  // namespace berth
