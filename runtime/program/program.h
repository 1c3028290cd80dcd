// What a model is compiled into.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "runtime/program/steps.h"

namespace berth {

struct Program {
  std::vector<std::unique_ptr<Step>> body;  // from ids to the stream after the last layer
  std::vector<std::unique_ptr<Step>> head;  // from the stream to logits
  std::size_t hidden = 0;                   // width of the stream
  std::size_t vocabulary = 0;               // logits of a position
};

}  // namespace berth
