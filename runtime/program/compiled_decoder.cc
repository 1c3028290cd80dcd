#include "runtime/program/compiled_decoder.h"

#include <algorithm>

#include "berth/error.h"
#include "runtime/program/as_stored.h"
#include "runtime/program/compile.h"
#include "runtime/program/threads.h"

namespace berth {
namespace {

constexpr std::size_t kPositionsAtOnce = 256;

class CompiledDecoder final : public Decoder {
 public:
  CompiledDecoder(const Recipe& recipe, const Model& model, const Plan& plan,
                  const LoadedModel& loaded, std::size_t capacity, const std::atomic<bool>* cancel,
                  ActivationBits bits, StepLog* log)
      : weights_(model.tree, plan, loaded),
        program_(compile(recipe, weights_, capacity, plan.workload.kv_dtype)),
        team_(threads_to_use()),
        pass_(team_),
        capacity_(capacity),
        cancel_(cancel),
        log_(log) {
    pass_.bits = bits;
    const bool packed =
        std::any_of(model.tree.tensors.begin(), model.tree.tensors.end(),
                    [](const ModelTensor& tensor) { return is_block_format(tensor.dtype); });
    if (packed) pass_.beside_bf16 = bits;
    if (log_ == nullptr) return;
    for (const auto* const steps : {&program_.body, &program_.head}) {
      for (const std::unique_ptr<Step>& step : *steps) {
        log_->steps.push_back({std::string(step->name()), step->layer, step->device});
      }
    }
  }

  std::int64_t logits_width() const override {
    return static_cast<std::int64_t>(program_.vocabulary);
  }
  std::uint64_t hops() const override { return pass_.hops; }

  void restart(std::size_t sequence) override {
    if (sequence < positions_.size()) positions_[sequence] = 0;
    for (const std::unique_ptr<Step>& step : program_.body) step->forget(sequence);
  }

  using Decoder::forward;
  std::span<const float> forward(std::span<const Feed> feeds, const OnLogits& all) override {
    check(feeds);
    last_.clear();
    feed_ = 0;
    taken_ = 0;
    while (feed_ < feeds.size()) {
      take_rows(feeds);
      pass_.begin(ids_);
      pass_.hops = 0;
      const double started = log_ != nullptr ? log_->now() : 0;
      run(program_.body, 0);
      if (!all) keep_last_rows();
      if (pass_.rows() > 0) run(program_.head, program_.body.size());
      if (log_ != nullptr) log_->add_pass(ids_.size(), started);
      if (pass_.rows() == 0) continue;
      if (all) all(logits());
      const std::span<const float> found = logits();
      for (std::size_t i = 0; i < last_rows_.size(); ++i) {
        const std::size_t row = all ? last_rows_[i] : i;
        const auto own = found.subspan(row * program_.vocabulary, program_.vocabulary);
        last_.insert(last_.end(), own.begin(), own.end());
      }
    }
    return last_;
  }

 private:
  void check(std::span<const Feed> feeds) {
    for (const Feed& feed : feeds) {
      if (feed.sequence >= positions_.size()) positions_.resize(feed.sequence + 1);
      const std::size_t before = positions_[feed.sequence];
      if (!feed.ids.empty() && before + feed.ids.size() <= capacity_) continue;
      throw Error("internal error: " + std::to_string(feed.ids.size()) + " ids after " +
                  std::to_string(before) + " of " + std::to_string(capacity_) + " positions");
    }
  }

  // Fills the next pass with what is left of the feeds.
  void take_rows(std::span<const Feed> feeds) {
    ids_.clear();
    sequences_.clear();
    last_rows_.clear();
    while (feed_ < feeds.size() && ids_.size() < kPositionsAtOnce) {
      const Feed& feed = feeds[feed_];
      const auto part = feed.ids.subspan(
          taken_, std::min(kPositionsAtOnce - ids_.size(), feed.ids.size() - taken_));
      std::size_t& position = positions_[feed.sequence];
      const std::size_t length = position + feed.ids.size() - taken_;
      sequences_.push_back({feed.sequence, position, ids_.size(), part.size(), length});
      ids_.insert(ids_.end(), part.begin(), part.end());
      position += part.size();
      taken_ += part.size();
      if (taken_ < feed.ids.size()) return;
      last_rows_.push_back(ids_.size() - 1);
      taken_ = 0;
      ++feed_;
    }
  }

  // `number`: of the first of them in the log.
  void run(const std::vector<std::unique_ptr<Step>>& steps, std::size_t number) {
    for (const std::unique_ptr<Step>& step : steps) {
      if (cancel_ != nullptr && cancel_->load(std::memory_order_relaxed)) {
        throw Interrupted("interrupted while computing");
      }
      const double started = log_ != nullptr ? log_->now() : 0;
      if (step->by_sequence()) {
        for (const SequenceRows& rows : sequences_) {
          pass_.show(rows);
          step->run(pass_);
        }
        pass_.show_all();
      } else {
        step->run(pass_);
      }
      if (log_ != nullptr) log_->add(static_cast<std::uint32_t>(number++), started);
      pass_.hops += step->hops;
    }
  }

  // Only the last rows of sequences are wanted: the head sees no others.
  void keep_last_rows() {
    float* const stream = pass_.of(Buffer::kStream);
    for (std::size_t i = 0; i < last_rows_.size(); ++i) {
      std::copy_n(stream + last_rows_[i] * program_.hidden, program_.hidden,
                  stream + i * program_.hidden);
    }
    pass_.begin(std::span(ids_).first(last_rows_.size()));
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
  StepLog* log_;
  std::vector<std::size_t> positions_;  // of each sequence: how many are computed
  std::vector<float> last_;             // what forward() gives

  // Of the pass.
  std::vector<std::int64_t> ids_;
  std::vector<SequenceRows> sequences_;
  std::vector<std::size_t> last_rows_;  // that end a feed
  std::size_t feed_ = 0;                // the next feed, and how many of its ids are taken
  std::size_t taken_ = 0;
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
                                               const std::atomic<bool>* cancel, ActivationBits bits,
                                               StepLog* log) {
  return std::make_unique<CompiledDecoder>(recipe, model, plan, loaded,
                                           static_cast<std::size_t>(capacity), cancel, bits, log);
}

}  // namespace berth
