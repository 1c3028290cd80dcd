#include "cli/report/advice.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

namespace berth {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// 0 the best kind.
int kind_of(const Advice& advice, const AdviceRow& row) {
  if (!row.error.empty()) return 3;
  if (!row.fits) return 2;
  return advice.reaches(row) ? 0 : 1;
}

// What rows of the first kind are compared by, besides speed.
std::pair<double, double> cost_of(const Advice& advice, const AdviceRow& row) {
  if (!advice.comparable) return {0, 0};
  const double token = million_price(row).value_or(kNever);
  if (!advice.want) return {token, 0};
  return {row.price ? row.price->an_hour : kNever, token};
}

}  // namespace

std::uint64_t AdviceRow::weight_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [device, bytes] : weights) sum += bytes;
  return sum;
}

void take_plan(const Plan& plan, AdviceRow& row) {
  row.fits = plan.fits();
  row.guessed = plan.guessed;
  row.missing = plan.shortfall ? plan.shortfall->bytes : 0;
  for (const DeviceLedger& device : plan.devices) {
    row.weights.emplace_back(device.name, device.weights);
    if (!is_gpu(device.kind) && device.weights > 0) {
      row.spilled.emplace_back(device.name, device.weights);
    }
  }
  row.prefill_seconds = plan.estimate.prefill_seconds;
  row.seconds_per_token = plan.estimate.seconds_per_token;
  row.score_seconds = plan.estimate.score_seconds;
  if (row.seconds_per_token > 0) {
    row.tokens_per_second = static_cast<double>(plan.workload.batch) / row.seconds_per_token;
  }
  row.notes.insert(row.notes.end(), plan.notes.begin(), plan.notes.end());
}

std::optional<double> million_price(const AdviceRow& row) {
  if (!row.price || row.tokens_per_second <= 0) return std::nullopt;
  return row.price->an_hour / (row.tokens_per_second * 3600) * 1e6;
}

bool Advice::reaches(const AdviceRow& row) const {
  return row.error.empty() && row.fits && (!want || row.tokens_per_second >= *want);
}

const AdviceRow* Advice::best() const {
  return !rows.empty() && reaches(rows[0]) ? rows.data() : nullptr;
}

void rank(Advice& advice) {
  std::set<std::string> currencies;
  for (const AdviceRow& row : advice.rows) {
    if (row.price) currencies.insert(row.price->currency);
  }
  advice.priced = !currencies.empty();
  advice.comparable = currencies.size() == 1;
  std::stable_sort(advice.rows.begin(), advice.rows.end(),
                   [&](const AdviceRow& a, const AdviceRow& b) {
                     const int kind = kind_of(advice, a);
                     if (kind != kind_of(advice, b)) return kind < kind_of(advice, b);
                     if (kind >= 2) return a.missing < b.missing;
                     const auto figures = [&](const AdviceRow& row) {
                       const auto cost = kind == 0 ? cost_of(advice, row) : std::pair(0.0, 0.0);
                       return std::tuple(cost, -row.tokens_per_second, row.gpu_bytes);
                     };
                     return figures(a) < figures(b);
                   });
}

}  // namespace berth
