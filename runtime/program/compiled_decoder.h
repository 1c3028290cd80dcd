// A decoder that runs a compiled program on host memory.
#pragma once

#include <memory>
#include <string>

#include "berth/load.h"
#include "berth/model.h"
#include "berth/plan.h"
#include "runtime/kernels/choice.h"
#include "runtime/program/decoder.h"
#include "runtime/program/recipe.h"
#include "runtime/program/step_log.h"

namespace berth {

/// Empty where make_compiled_decoder() can run the model as it was loaded; else why it cannot.
std::string why_not_compiled(const Recipe& recipe, const Model& model, const Plan& plan,
                             const LoadedModel& loaded);

/// `capacity` is how many positions the KV cache has. `bits`: of activations beside packed weights.
/// `cancel` (may be null) is looked at before every step. `log`, where it is not null, gets the
/// time of every step. All arguments but `capacity` must outlive the decoder. A prompt is computed
/// 256 positions at a time. Throws Error where tensors are missing.
std::unique_ptr<Decoder> make_compiled_decoder(const Recipe& recipe, const Model& model,
                                               const Plan& plan, const LoadedModel& loaded,
                                               std::int64_t capacity,
                                               const std::atomic<bool>* cancel,
                                               ActivationBits bits = ActivationBits::k24,
                                               StepLog* log = nullptr);

}  // namespace berth
