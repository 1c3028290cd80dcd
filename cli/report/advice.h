// What is found where one model is planned for many machines and in many precisions: rows, and
// which of them is best. Values and pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "berth/machine.h"
#include "berth/plan.h"

namespace berth {

// One machine and one precision.
struct AdviceRow {
  std::string machine;          // as it was named
  std::string precision;        // as --dtypes names it; "auto" is as stored
  bool made_anew = false;       // what is stored is quantised otherwise
  std::uint64_t gpu_bytes = 0;  // capacity of the machine's GPUs
  std::optional<Price> price;
  std::string error;  // why there is no plan; the rest is then empty

  bool fits = false;
  bool guessed = false;       // figures of the model are guessed, and so is what stands here
  std::uint64_t missing = 0;  // bytes, if it does not fit
  std::vector<std::pair<std::string, std::uint64_t>> weights;  // bytes by device
  std::vector<std::pair<std::string, std::uint64_t>> spilled;  // the same for cpu and disk, not 0
  double prefill_seconds = 0;                                  // 0 where speeds are not known
  double seconds_per_token = 0;
  double score_seconds = 0;
  double tokens_per_second = 0;  // of all sequences together
  std::vector<std::string> notes;

  bool on_gpus() const { return fits && spilled.empty() && gpu_bytes > 0; }
  std::uint64_t weight_bytes() const;
};

// Fills in what `plan` says.
void take_plan(const Plan& plan, AdviceRow& row);

// What a million generated tokens cost if the machine generates all the time, at the planned batch:
// price an hour / (tokens a second x 3600) x 1,000,000. Nothing where either is not known.
std::optional<double> million_price(const AdviceRow& row);

struct Advice {
  std::vector<AdviceRow> rows;  // best first, after rank()
  std::optional<double> want;   // tokens a second
  Workload workload;            // that all rows are planned for; the KV dtype is left to each
  bool priced = false;          // some row has a price
  bool comparable = false;      // and all prices are in one currency
  std::vector<std::string> notes;

  // Whether a row fits and is as fast as is wanted.
  bool reaches(const AdviceRow& row) const;
  // The first row, if it reaches what is wanted; else null.
  const AdviceRow* best() const;
};

// Sorts the rows, the best first. Those that reach what is wanted come before those that fit, these
// before those that do not fit, and those without a plan come last. Within the first kind:
//   with prices of one currency, the cheapest an hour, and of these the cheapest a token (without a
//   wanted rate the cheapest a token alone); a row without a price comes after all that have one,
//   without prices, the fastest, and of equals the machine with the least GPU memory.
// The others: by speed, and by how little is missing. Equal rows stay in their order.
void rank(Advice& advice);

}  // namespace berth
