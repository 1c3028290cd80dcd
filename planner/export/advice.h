// Arguments for another tool, whatever it takes to get them: where a plan cannot be said in the
// tool's words, or does not fit, other flags of `berth plan` are tried until a plan can.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "berth/plan.h"
#include "planner/export/exports.h"

namespace berth {

// make_plan() without suggestions, for the same model. The planner includes this room, not the
// other way round, so the function is handed in.
using Replan = std::function<Plan(const Machine& machine, const Request& request)>;

struct Advised {
  // What the tool gets. Nothing where no flag that changes nothing but the placement gives any.
  std::optional<Export> words;
  // Why the plan as it was asked for gives no arguments: half a sentence. "" if it does.
  std::string reason;
  // What to add to the command (or to put in place of the same flag), the smallest change first:
  // "--reserve 1GiB", "--never-offload --context 2048", "--llama-cpp in place of --vllm". Each was
  // planned, fits, and gives arguments. If `words` is set and `reason` too, the words are those of
  // the first advice.
  std::vector<std::string> advice;
};

// Exports `plan`, which was made of `request` on `machine`. If what the tool would do does not fit
// because it places a little differently, plans that leave more space on every GPU are tried, and
// the first that works is exported in its place: it differs in the placement alone. All else that
// would help (another policy, no offloading, one GPU, an 8-bit KV cache, a shorter context, another
// tool) is advice.
Advised export_with_advice(const ExportRow& tool, const ModelTree& tree, const Machine& machine,
                           const Request& request, const Plan& plan, const Replan& replan);

}  // namespace berth
