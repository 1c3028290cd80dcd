// A decoder that computes by libtorch's operations, on any device that libtorch has. What the
// kernels of Berth compute is compared with it. This header does not include torch.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "berth/load.h"
#include "berth/model.h"
#include "berth/plan.h"
#include "runtime/program/decoder.h"
#include "runtime/program/recipe.h"
#include "runtime/program/step_log.h"

namespace berth {

// The decoder runs one sequence. `capacity` is how many positions the KV cache has, which the first
// pass allocates. `cancel` (may be null) is looked at before every layer. `log`, where it is not
// null, gets the time of every half of a layer; on a GPU that is the time to start it. All
// arguments but `capacity` must outlive the decoder. Throws Error for weights that are missing or
// whose dtype cannot be computed with.
std::unique_ptr<Decoder> make_reference_decoder(const Recipe& recipe, const Model& model,
                                                const Plan& plan, const LoadedModel& loaded,
                                                std::int64_t capacity,
                                                const std::atomic<bool>* cancel,
                                                StepLog* log = nullptr);

}  // namespace berth
