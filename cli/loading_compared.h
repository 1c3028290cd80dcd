// load --compare-naive: the plain way and the frugal way, each measured in a fresh process.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "berth/planner.h"
#include "cli/options/options.h"
#include "cli/report/planned.h"
#include "planner/base/json_writer.h"

namespace berth {

// What one process measured of itself while it loaded.
struct Measured {
  double seconds = 0;
  std::uint64_t host_peak_bytes = 0;  // anonymous + shared above its baseline
  std::uint64_t rss_before = 0;
  std::uint64_t rss_after = 0;
  std::uint64_t anonymous_after = 0;
  std::uint64_t file_after = 0;
};

struct Comparison {
  std::string skipped;  // why nothing was measured; empty where it was
  Measured naive;
  Measured frugal;                   // as asked for
  std::optional<Measured> private_;  // to private memory, where `frugal` only maps weights
};

// The child's part: loads as `options.measure` says and returns the figures as one JSON object.
std::string measure_here(const Options& options);

// The parent's part. The page cache is warmed before each.
Comparison compare_with_naive(const Options& options, const Planned& planned);

std::string comparison_report(const Comparison& comparison);
void write_comparison(JsonWriter& json, const Comparison& comparison);  // member `naive`

}  // namespace berth
