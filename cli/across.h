// plan --across: one model, many machines and precisions, a plan for each pair.
#pragma once

#include "cli/options/options.h"

namespace berth {

// Plans the model for every machine of --across in every precision of --dtypes and writes the
// table, its JSON or its picture. Each row is what `plan --machine` gives for that machine with
// `--dtype`
// (`auto` without; a float precision of quantised weights: with `--dequantize` too). Returns the
// exit code: "does not fit" if none fits. Throws Error for a machine that is not known, and if no
// row could be planned at all.
int plan_across(const Options& options);

}  // namespace berth
