// The functions that are compiled once for each instruction set, and which of them this processor
// runs. Only this room includes it.
#pragma once

#include <span>

#include "runtime/kernels/jobs.h"

namespace berth {

struct InstructionSet {
  const char* name;
  bool (*supported)();
  ProductLoops products;
  // Whether products of BF16 read Activations::pairs(), or of several positions
  // Activations::split().
  bool (*reads_pairs)();
  bool (*reads_split)();
  std::size_t (*ahead)();  // ProductJob::ahead
  TransposedLoops transposed;
  QuantizeLoop quantize;
  AttentionLoop attention;
  NormLoop rms_norm;
  NormLoop layer_norm;
  ActivateLoop activate;
  DeltaLoop delta_rule;
};

/// From the best to the plainest; the last one runs on every processor.
std::span<const InstructionSet> instruction_sets();

/// The first of them that this processor has.
const InstructionSet& instruction_set();

}  // namespace berth
