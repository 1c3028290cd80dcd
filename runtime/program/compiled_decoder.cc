#include "runtime/program/compiled_decoder.h"

#include <algorithm>

#include "berth/error.h"
#include "planner/machine/cgroup.h"
#include "runtime/program/as_stored.h"
#include "runtime/program/compile.h"

namespace berth {
namespace {

constexpr std::size_t kPositionsAtOnce = 256;

// One thread for each processor, within the CPU quota of the control group: threads that spin
// beyond it would use up the time of those that compute.
std::size_t threads_to_use() {
  const std::size_t processors = ThreadTeam::processors();
  const double quota = read_cpu_quota();
  if (quota <= 0 || quota >= static_cast<double>(processors)) return processors;
  return std::max<std::size_t>(1, static_cast<std::size_t>(quota));
}

class CompiledDecoder final : public Decoder {
 public:
  CompiledDecoder(const Recipe& recipe, const Model& model, const Plan& plan,
                  const LoadedModel& loaded, std::size_t capacity, const std::atomic<bool>* cancel)
      : weights_(model.tree, plan, loaded),
        program_(compile(recipe, weights_, capacity, plan.workload.kv_dtype)),
        team_(threads_to_use()),
        pass_(team_),
        capacity_(capacity),
        cancel_(cancel) {}

  std::int64_t logits_width() const override {
    return static_cast<std::int64_t>(program_.vocabulary);
  }
  std::uint64_t hops() const override { return pass_.hops; }

  std::vector<float> forward(std::span<const std::int64_t> ids, const OnLogits& all) override {
    if (ids.empty() || positions_ + ids.size() > capacity_) {
      throw Error("internal error: " + std::to_string(ids.size()) + " ids after " +
                  std::to_string(positions_) + " of " + std::to_string(capacity_) + " positions");
    }
    for (std::size_t begin = 0; begin < ids.size(); begin += kPositionsAtOnce) {
      const auto part = ids.subspan(begin, std::min(kPositionsAtOnce, ids.size() - begin));
      pass_.ids = part;
      pass_.first = positions_;
      pass_.hops = 0;
      run(program_.body);
      positions_ += part.size();
      const bool last = begin + part.size() == ids.size();
      if (!all && !last) continue;
      if (!all) keep_last_row();
      run(program_.head);
      if (all) all(logits().first(pass_.rows() * program_.vocabulary));
    }
    const auto row =
        logits().subspan((pass_.rows() - 1) * program_.vocabulary, program_.vocabulary);
    return {row.begin(), row.end()};
  }

 private:
  void run(const std::vector<std::unique_ptr<Step>>& steps) {
    for (const std::unique_ptr<Step>& step : steps) {
      if (cancel_ != nullptr && cancel_->load(std::memory_order_relaxed)) {
        throw Interrupted("interrupted while computing");
      }
      step->run(pass_);
      pass_.hops += step->hops;
    }
  }

  // Only the last row is wanted: the head sees no others.
  void keep_last_row() {
    float* const stream = pass_.of(Buffer::kStream);
    std::copy_n(stream + (pass_.rows() - 1) * program_.hidden, program_.hidden, stream);
    pass_.ids = pass_.ids.last(1);
  }

  std::span<const float> logits() {
    return {pass_.of(Buffer::kLogits), pass_.rows() * program_.vocabulary};
  }

  ProgramWeights weights_;
  Program program_;
  ThreadTeam team_;
  Pass pass_;
  std::size_t capacity_;
  const std::atomic<bool>* cancel_;
  std::size_t positions_ = 0;
};

}  // namespace

std::string why_not_compiled(const Recipe& recipe, const Model& model, const Plan& plan,
                             const LoadedModel& loaded) {
  const std::string why = why_not_as_stored(model.tree, *recipe.family);
  return why.empty() ? ProgramWeights(model.tree, plan, loaded).why_not_in_host_memory() : why;
}

std::unique_ptr<Decoder> make_compiled_decoder(const Recipe& recipe, const Model& model,
                                               const Plan& plan, const LoadedModel& loaded,
                                               std::int64_t capacity,
                                               const std::atomic<bool>* cancel) {
  return std::make_unique<CompiledDecoder>(recipe, model, plan, loaded,
                                           static_cast<std::size_t>(capacity), cancel);
}

}  // namespace berth
