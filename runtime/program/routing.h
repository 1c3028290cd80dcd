// How a router picks experts for a position, and which share each of them has in its result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace berth {

/// What the router's products become before experts are compared.
enum class RouterScore : std::uint8_t {
  kSoftmax,
  kSigmoid,
  // Softmax for each of the two best experts, among those that are nearly as good and not picked
  // before (Liu et al., "GRIN: gradient-informed MoE", arXiv 2409.12136).
  kSparseMixer
};

struct Routing {
  RouterScore score = RouterScore::kSoftmax;
  std::size_t experts = 0;
  std::size_t picked = 0;  // of them, for each position
  // Neighbouring experts form groups of equal size. Only those of the best groups can be picked; a
  // group is as good as the sum of its best scores (DeepSeek-AI, "DeepSeek-V3", arXiv 2412.19437).
  std::size_t groups = 1;
  std::size_t picked_groups = 1;
  std::size_t best_of_group = 2;
  bool normalized = true;  // shares of the picked experts add up to 1
  double least_sum = 0;    // what they are divided by for that is at least this
  double added = 0;        // to what they are divided by
  double scale = 1;        // of all shares, in the end
  double jitter = 0;       // kSparseMixer: experts count that are worse by twice this share at most
};

struct ExpertShare {
  std::size_t expert = 0;
  float share = 0;
};

/// Picks experts for one position after another. For use by one thread.
class Router {
 public:
  Router() = default;
  /// `correction` is added to the scores while experts are compared, and is no part of their
  /// shares: one for each expert, or empty.
  Router(const Routing& routing, std::vector<float> correction)
      : routing_(routing), correction_(std::move(correction)) {}

  /// The experts for `products`, one of each expert, best first; of equal ones, that with the lower
  /// number comes first. Valid until the next call.
  std::span<const ExpertShare> pick(const float* products);

  std::size_t experts() const { return routing_.experts; }
  std::size_t picked() const { return routing_.picked; }

 private:
  void score(const float* products);
  void drop_groups();
  void mix_sparsely(const float* products);

  Routing routing_;
  std::vector<float> correction_;
  std::vector<float> score_;   // of each expert
  std::vector<float> choice_;  // the same to compare, with the correction; -inf: dropped
  std::vector<std::size_t> order_;
  std::vector<float> group_;
  std::vector<float> members_;
  std::vector<ExpertShare> shares_;
};

}  // namespace berth
