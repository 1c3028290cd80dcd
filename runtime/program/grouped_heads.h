// Query, key and value of one matrix that makes them key by key: the queries that share a key, then
// the key and its value, then those of the next key (GPT-NeoX, Falcon).
#pragma once

#include "runtime/program/steps.h"

namespace berth {

/// kHeads = all queries, all keys and all values of kWide.
struct SplitGroupsStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "split heads"; }
  std::size_t groups = 0;   // keys
  std::size_t queries = 0;  // of each
  std::size_t head_dim = 0;
};

}  // namespace berth
