#include "cli/report/compare.h"

#include <fmt/format.h>

#include <algorithm>

#include "berth/error.h"
#include "berth/planner.h"
#include "cli/report/plan_report.h"
#include "cli/report/table.h"
#include "planner/machine/sizes.h"
#include "planner/plan/policies.h"

namespace berth {
namespace {

// If there are more GPUs than this, they get a table of their own, because the row with times and
// verdicts would be too wide.
constexpr std::size_t kMostGpusInARow = 4;

// A column for a device. A row may have devices that another does not have, such as the disk.
struct Column {
  std::string name;
  DeviceKind kind = DeviceKind::kCuda;
};

std::vector<Column> columns_of(const std::vector<ComparedPlan>& rows) {
  std::vector<Column> columns;
  for (const ComparedPlan& row : rows) {
    if (!row.plan) continue;
    for (const DeviceLedger& device : row.plan->devices) {
      const bool known = std::any_of(columns.begin(), columns.end(), [&](const Column& column) {
        return column.name == device.name;
      });
      if (!known) columns.push_back({device.name, device.kind});
    }
  }
  std::stable_sort(columns.begin(), columns.end(), [](const Column& a, const Column& b) {
    return (is_gpu(a.kind) ? DeviceKind::kCuda : a.kind) <
           (is_gpu(b.kind) ? DeviceKind::kCuda : b.kind);
  });
  return columns;
}

// The weights of a row by column, and the sum of those that are on no GPU. The sum is of the
// figures as they are printed.
struct WeightCells {
  std::vector<std::string> by_column;
  std::string spilled = "-";
};

WeightCells weight_cells(const ComparedPlan& row, const std::vector<Column>& columns) {
  WeightCells cells{std::vector<std::string>(columns.size(), "-"), "-"};
  if (!row.plan) return cells;
  const std::vector<std::int64_t> weights = weights_column(*row.plan);
  std::int64_t spilled = 0;
  for (std::size_t d = 0; d < weights.size(); ++d) {
    const DeviceLedger& device = row.plan->devices[d];
    if (!is_gpu(device.kind)) spilled += weights[d];
    for (std::size_t c = 0; c < columns.size(); ++c) {
      if (columns[c].name == device.name) cells.by_column[c] = format_hundredths(weights[d]);
    }
  }
  cells.spilled = format_hundredths(spilled);
  return cells;
}

std::string upper(const Column& column) {
  if (column.kind == DeviceKind::kCpu) return "CPU" + column.name.substr(3);  // "CPU:1"
  return column.kind == DeviceKind::kDisk ? "DISK" : "GPU " + column.name;
}

double tokens_per_second(const Plan& plan) {
  const double seconds = plan.estimate.seconds_per_token;
  return seconds > 0 ? static_cast<double>(plan.workload.batch) / seconds : 0;
}

std::string verdict_cell(const ComparedPlan& row) {
  if (!row.plan) return row.error;
  if (row.plan->fits()) return fits_words(*row.plan);
  std::string sentence = shortfall_sentence(*row.plan);
  const std::size_t colon = sentence.find(": ");
  return colon == std::string::npos ? sentence : sentence.substr(colon + 2);
}

std::vector<std::string> time_cells(const ComparedPlan& row) {
  if (!row.plan || row.plan->estimate.score_seconds <= 0) return {"-", "-", "-"};
  const Estimate& estimate = row.plan->estimate;
  const double rate = tokens_per_second(*row.plan);
  return {seconds_text(estimate.prefill_seconds), seconds_text(estimate.seconds_per_token),
          rate > 0 ? rate_text(rate) : "-"};
}

std::string devices_table(const std::vector<ComparedPlan>& rows,
                          const std::vector<Column>& columns) {
  std::vector<std::string> headers{"WEIGHTS"};
  for (const Column& column : columns) headers.push_back(upper(column));
  headers.push_back("");
  Table table(headers);
  for (const ComparedPlan& row : rows) {
    std::vector<std::string> cells{row.name};
    for (std::string& cell : weight_cells(row, columns).by_column) cells.push_back(std::move(cell));
    cells.push_back("");
    table.add(std::move(cells));
  }
  return table.text();
}

const ComparedPlan* find_row(const std::vector<ComparedPlan>& rows, std::string_view name) {
  for (const ComparedPlan& row : rows) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

// "3.1x sooner per token than ". Compares the time of each token, or of the first one, or of the
// whole workload: whichever shows a difference without hiding that the winner is later elsewhere.
std::string lead(const Plan& winner, const Plan& other) {
  constexpr double kAlike = 0.005;
  const auto ratio = [](double ours, double theirs) { return ours > 0 ? theirs / ours : 1; };
  const Estimate& a = winner.estimate;
  const Estimate& b = other.estimate;
  const double token =
      winner.workload.new_tokens > 0 ? ratio(a.seconds_per_token, b.seconds_per_token) : 1;
  const double prefill = ratio(a.prefill_seconds, b.prefill_seconds);
  const double score = ratio(a.score_seconds, b.score_seconds);
  const auto times = [](double r) { return fmt::format("{:.{}f}x", r, r < 10 ? 2 : 0); };
  if (score < 1 + kAlike) return "as fast as ";
  if (token >= 1 + kAlike && prefill >= 1 - kAlike) {
    const bool more = prefill > 1.5 * token;
    return times(token) + " sooner per token " +
           (more ? "and " + times(prefill) + " to the first token " : "") + "than ";
  }
  if (token >= 1 - kAlike) return times(prefill) + " sooner to the first token than ";
  return fmt::format("{} sooner with all of {} prompt and {} new tokens than ", times(score),
                     with_commas(winner.workload.prompt_tokens),
                     with_commas(winner.workload.new_tokens));
}

// ", which leaves 12.00 GiB on the cpu": says which weights the other plan keeps off the GPUs.
// Empty if they are not more than the winner's.
std::string spill_clause(const Plan& winner, const Plan& other) {
  const std::uint64_t ours = spilled_bytes(winner);
  const std::uint64_t theirs = spilled_bytes(other);
  if (theirs <= ours) return "";
  if (ours > 0)
    return fmt::format(", which leaves {} more off the gpus", format_size(theirs - ours));
  std::vector<std::string> where;
  for (const DeviceLedger& device : other.devices) {
    if (is_gpu(device.kind) || device.weights == 0) continue;
    where.push_back(fmt::format("{} on the {}", format_size(device.weights), device.name));
  }
  return fmt::format(", which leaves {}", fmt::join(where, " and "));
}

}  // namespace

std::vector<ComparedPlan> compare_policies(const Planned& planned) {
  const auto row = [&](const std::string& name, const Request& request) {
    ComparedPlan compared{name, {}, {}};
    try {
      compared.plan = make_plan(planned.model.tree, planned.machine, request);
    } catch (const Error& error) {
      compared.error = error.what();
    }
    return compared;
  };
  std::vector<ComparedPlan> rows;
  for (const Policy policy : all_policies()) {
    Request request = planned.request;
    request.policy = policy;
    request.device_map.reset();
    rows.push_back(row(std::string(policy_name(policy)), request));
  }
  if (planned.request.device_map) rows.push_back(row("device map", planned.request));
  return rows;
}

std::uint64_t spilled_bytes(const Plan& plan) {
  std::uint64_t bytes = 0;
  for (const DeviceLedger& device : plan.devices) {
    if (!is_gpu(device.kind)) bytes += device.weights;
  }
  return bytes;
}

std::string winner_line(const std::vector<ComparedPlan>& rows) {
  const ComparedPlan* winner = nullptr;
  for (const ComparedPlan& row : rows) {
    if (!row.plan || !row.plan->fits()) continue;
    // Of equal plans the first wins. Plans count as equal if they differ in the last bits alone, as
    // sums do whose terms are added in another order.
    constexpr double kNoise = 1e-6;
    if (!winner ||
        row.plan->estimate.score_seconds < winner->plan->estimate.score_seconds * (1 - kNoise)) {
      winner = &row;
    }
  }
  if (!winner) return "none of them fits\n";
  if (winner->plan->estimate.score_seconds <= 0) {
    return "no winner: without a config.json nothing is known of this model's speed\n";
  }
  const ComparedPlan* other = find_row(rows, policy_name(Policy::kBalanced));
  if (!other || other == winner) other = find_row(rows, policy_name(Policy::kSequential));
  if (!other || !other->plan) return winner->name + ": the soonest of those that fit\n";
  if (!other->plan->fits()) {
    return fmt::format("{}: the soonest of those that fit; {} is {}\n", winner->name, other->name,
                       verdict_cell(*other));
  }
  return fmt::format("{}: {}{}{}\n", winner->name, lead(*winner->plan, *other->plan), other->name,
                     spill_clause(*winner->plan, *other->plan));
}

std::string comparison_report(const std::vector<ComparedPlan>& rows) {
  const std::vector<Column> columns = columns_of(rows);
  const auto gpus = static_cast<std::size_t>(std::count_if(
      columns.begin(), columns.end(), [](const Column& column) { return is_gpu(column.kind); }));
  const bool apart = gpus > kMostGpusInARow;
  std::vector<std::string> headers{"POLICY", "FIRST TOKEN", "PER TOKEN", "TOKENS/S"};
  if (!apart) {
    for (const Column& column : columns) headers.push_back(upper(column));
  }
  headers.insert(headers.end(), {"SPILLED", "VERDICT"});
  Table table(headers);
  for (const ComparedPlan& row : rows) {
    std::vector<std::string> cells{row.name};
    for (std::string& cell : time_cells(row)) cells.push_back(std::move(cell));
    WeightCells weights = weight_cells(row, columns);
    if (!apart) {
      for (std::string& cell : weights.by_column) cells.push_back(std::move(cell));
    }
    cells.push_back(weights.spilled);
    cells.push_back(verdict_cell(row));
    table.add(std::move(cells));
  }
  std::string out = table.text();
  if (apart) out += "\n" + devices_table(rows, columns);
  return out + "\n" + winner_line(rows);
}

void write_policies(JsonWriter& json, const std::vector<ComparedPlan>& rows) {
  json.key("compare").begin_array();
  for (const ComparedPlan& row : rows) {
    json.begin_object();
    json.member("policy", row.name);
    if (!row.plan) {
      json.member("fits", false).member("error", row.error);
      json.end_object();
      continue;
    }
    const Plan& plan = *row.plan;
    json.member("fits", plan.fits());
    json.member("shortfall_bytes", plan.shortfall ? plan.shortfall->bytes : 0);
    json.member("prefill_seconds", plan.estimate.prefill_seconds)
        .member("seconds_per_token", plan.estimate.seconds_per_token)
        .member("tokens_per_second", tokens_per_second(plan))
        .member("score_seconds", plan.estimate.score_seconds);
    json.key("weights").begin_object();
    for (const DeviceLedger& device : plan.devices) json.member(device.name, device.weights);
    json.end_object();
    json.key("spilled").begin_object();
    for (const DeviceLedger& device : plan.devices) {
      if (!is_gpu(device.kind)) json.member(device.name, device.weights);
    }
    json.end_object();
    json.end_object();
  }
  json.end_array();
}

}  // namespace berth
