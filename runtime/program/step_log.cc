#include "runtime/program/step_log.h"

namespace berth {

void StepLog::add(std::uint32_t step, double begin) {
  if (events.size() == kMostEvents) {
    ++forgotten;
    return;
  }
  events.push_back({step, begin, now()});
}

void StepLog::add_pass(std::uint64_t rows, double begin) { passes.push_back({rows, begin, now()}); }

}  // namespace berth
