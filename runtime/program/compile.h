// Compiles a model into a program: every tensor is found, every device is known, and nothing is
// left to look up while tokens are made.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "berth/plan.h"
#include "runtime/program/family.h"
#include "runtime/program/steps.h"
#include "runtime/program/weights.h"

namespace berth {

struct Program {
  std::vector<std::unique_ptr<Step>> body;  // from ids to the stream after the last layer
  std::vector<std::unique_ptr<Step>> head;  // from the stream to logits
  std::size_t hidden = 0;                   // width of the stream
  std::size_t vocabulary = 0;               // logits of a position
};

/// `capacity`: how many positions the KV cache has. Where `kv_dtype` is empty, keys and values are
/// kept in the dtype of the embedding. Throws Error for tensors that are missing and for a dtype of
/// the cache that it cannot have.
Program compile(const Recipe& recipe, const ProgramWeights& weights, std::size_t capacity,
                std::optional<DType> kv_dtype);

}  // namespace berth
