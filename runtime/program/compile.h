// Compiles a model into a program: every tensor is found, every device is known, and nothing is
// left to look up while tokens are made.
#pragma once

#include <cstddef>
#include <optional>

#include "berth/plan.h"
#include "runtime/program/program.h"
#include "runtime/program/recipe.h"
#include "runtime/program/weights.h"

namespace berth {

/// `capacity`: how many positions the KV cache has. Where `kv_dtype` is empty, keys and values are
/// kept in the dtype of the embedding, beside packed weights in float32. Throws Error for tensors
/// that are missing and for a dtype of the cache that it cannot have.
Program compile(const Recipe& recipe, const ProgramWeights& weights, std::size_t capacity,
                std::optional<DType> kv_dtype);

}  // namespace berth
