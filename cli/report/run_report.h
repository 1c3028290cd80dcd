// What a run took, beside what it was planned to take.
#pragma once

#include <optional>
#include <string>

#include "berth/planner.h"
#include "cli/report/planned.h"
#include "runtime/generate/executor.h"

namespace berth {

// What a run that is done was planned to take.
struct RunForecast {
  std::optional<Forecast> forecast;
  std::string why_not;      // where there is none: half a sentence
  bool calibrated = false;  // whether it rests on rates that `berth calibrate` measured
};

// The forecast for as many tokens as the run had, on the machine that it ran on. `emulated`: GPUs
// of the plan were emulated, so that no forecast is of this machine.
RunForecast forecast_of(const Planned& planned, const Machine& here, const RunReport& report,
                        bool emulated);

// Lines for people: the prompt, the new tokens, what computed; planned beside measured; where the
// weights were.
std::string run_report(const Plan& plan, const RunReport& report, const RunForecast& forecast);

// How many passes the run made after the prompts: one for every further token.
std::size_t decode_steps(const RunReport& report);

// {"prompt_ids", "new_ids", "text", or of several sequences "sequences", a list of these;
// "kernels", "calibrated", and of "first_token_seconds", "tokens_per_second", "bytes_per_token" and
// "share_of_limit" {"planned", "measured"}}, null where something is not known.
std::string run_json(const RunReport& report, const RunForecast& forecast);

}  // namespace berth
