#include "runtime/exec/compute_rates.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "berth/error.h"
#include "runtime/calibrate/repeat.h"

namespace berth {
namespace {

constexpr std::int64_t kWidth = 4096;  // of a layer of a model of 7B parameters
constexpr std::int64_t kRows = 512;    // positions of the planner's default prompt
constexpr std::int64_t kLeastRows = 16;
constexpr std::pair<const char*, at::ScalarType> kDTypes[] = {
    {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}, {"float32", at::kFloat}};
constexpr std::size_t kMostPasses = 51;
constexpr double kMatvecShare = 0.5;  // of the time; the rest is for matrix products

// Makes as many weights of one dtype as fit in `bytes`. Their values are small normal numbers, as
// those of real weights are.
std::vector<at::Tensor> make_weights(std::uint64_t bytes, at::ScalarType dtype) {
  const std::uint64_t each = static_cast<std::uint64_t>(kWidth * kWidth) * at::elementSize(dtype);
  std::vector<at::Tensor> weights(std::max<std::uint64_t>(1, bytes / each));
  for (at::Tensor& weight : weights) weight = at::full({kWidth, kWidth}, 0.01, dtype);
  return weights;
}

double matvec_rate(const std::vector<at::Tensor>& weights, const Repeat& several) {
  const at::Tensor x = at::full({1, kWidth}, 0.5, weights.front().scalar_type());
  const double seconds = median(repeat(several, [&] {
    const double start = steady_seconds();
    for (const at::Tensor& weight : weights) at::linear(x, weight);
    return steady_seconds() - start;
  }));
  return static_cast<double>(weights.size() * weights.front().nbytes()) / seconds;
}

double matmul_rate(const at::Tensor& weight, const Repeat& several) {
  const auto seconds_of = [&](std::int64_t rows) {
    const at::Tensor x = at::full({rows, kWidth}, 0.5, weight.scalar_type());
    const double start = steady_seconds();
    at::linear(x, weight);
    return steady_seconds() - start;
  };
  // A dtype that the processor lacks can be a hundred times slower than another.
  seconds_of(kLeastRows);
  const double a_row = seconds_of(kLeastRows) / kLeastRows;
  std::int64_t rows = kRows;
  while (rows > kLeastRows && a_row * static_cast<double>(rows) > several.seconds / 4) rows /= 2;
  const double seconds = median(repeat(several, [&] { return seconds_of(rows); }));
  return 2.0 * static_cast<double>(rows) * kWidth * kWidth / seconds;
}

}  // namespace

ComputeRates measure_compute(const ComputeOptions& options) {
  const at::NoGradGuard no_gradients;
  const double end = steady_seconds() + options.seconds;
  ComputeRates rates;
  rates.threads = at::get_num_threads();
  double left = static_cast<double>(std::size(kDTypes));
  for (const auto& [name, dtype] : kDTypes) {
    const double share = (end - steady_seconds()) / left--;
    try {
      const std::vector<at::Tensor> weights = make_weights(options.weights, dtype);
      Repeat several;
      several.cancel = options.cancel;
      several.most = kMostPasses;
      several.seconds = kMatvecShare * share;
      rates.matvec[name] = matvec_rate(weights, several);
      several.seconds = (1 - kMatvecShare) * share;
      rates.matmul[name] = matmul_rate(weights.front(), several);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {  // c10::Error where this build lacks the dtype
      const std::string text = error.what();
      rates.notes.push_back(std::string(name) +
                            " was not measured: " + text.substr(0, text.find('\n')));
    }
  }
  return rates;
}

}  // namespace berth
