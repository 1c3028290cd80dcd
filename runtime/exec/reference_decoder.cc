#include "runtime/exec/reference_decoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <optional>
#include <string>

#include "berth/error.h"
#include "runtime/exec/attention.h"
#include "runtime/exec/latent_attention.h"
#include "runtime/exec/linear_attention.h"
#include "runtime/exec/operations.h"
#include "runtime/exec/placed.h"
#include "runtime/exec/plain_errors.h"
#include "runtime/exec/short_convolution.h"
#include "runtime/exec/weights.h"

namespace berth {
namespace {

constexpr std::int64_t kLogitElements = 16
                                        << 20;  // how many are computed at once: 64 MiB in float32

class PlacedDecoder final : public Decoder {
 public:
  PlacedDecoder(const Recipe& recipe, const Model& model, const Plan& plan,
                const LoadedModel& loaded, std::int64_t capacity, const std::atomic<bool>* cancel,
                StepLog* log)
      : recipe_(recipe),
        family_(*recipe.family),
        placement_(plan, model.tree, loaded),
        weights_(model.tree, plan, loaded, placement_),
        operations_(weights_, placement_, recipe),
        embedding_(std::string(family_.ends.embedding) + ".weight"),
        head_(std::string(family_.ends.head) + ".weight"),
        capacity_(capacity),
        cancel_(cancel),
        log_(log),
        cache_dtype_(plan.workload.kv_dtype ? scalar_type(*plan.workload.kv_dtype) : std::nullopt),
        caches_(recipe.layers.size()),
        states_(recipe.layers.size()) {
    if (!weights_.has(head_)) head_ = embedding_;
  }

  std::int64_t logits_width() const override {
    return static_cast<std::int64_t>(weights_.shape(head_)[0]);
  }
  std::uint64_t hops() const override { return placement_.hops(); }
  void restart(std::size_t /*sequence*/) override {
    caches_ = std::vector<KvCache>(caches_.size());
    states_ = std::vector<LinearState>(states_.size());
    positions_ = 0;
  }

  using Decoder::forward;
  std::span<const float> forward(std::span<const Feed> feeds, const OnLogits& all) override;

 private:
  Placed embed(std::span<const std::int64_t> ids);
  Placed mix(std::size_t layer, const Placed& input);
  Placed attention(std::size_t layer, const Placed& input);
  // Of a block: its norms, which may be missing, and where it is computed.
  struct BlockNames {
    std::string norm, out_norm, home;
  };
  Placed at_norm(const Placed& stream, const std::string& norm, const std::string& home);
  Placed both_blocks(std::size_t layer, const Placed& stream);
  Placed residual_block(const Placed& stream, const BlockNames& names,
                        const std::function<Placed(const Placed&)>& block);
  std::vector<float> logits(const Placed& hidden);
  double started() const { return log_ != nullptr ? log_->now() : 0; }
  // Logs a step of this pass that began at `begin`. Every pass has the same steps in one order.
  void log_step(const char* name, std::int32_t layer, DeviceIndex device, double begin) {
    if (log_ == nullptr) return;
    if (step_ == log_->steps.size()) log_->steps.push_back({name, layer, device});
    log_->add(step_++, begin);
  }
  void check_cancel() const {
    if (cancel_ != nullptr && cancel_->load(std::memory_order_relaxed)) {
      throw Interrupted("interrupted while computing");
    }
  }

  const Recipe& recipe_;
  const Family& family_;
  Placement placement_;
  Weights weights_;
  Operations operations_;
  std::string embedding_;
  std::string head_;
  std::int64_t capacity_;
  const std::atomic<bool>* cancel_;
  StepLog* log_;
  std::uint32_t step_ = 0;  // that the log gets next
  std::optional<at::ScalarType> cache_dtype_;
  std::vector<KvCache> caches_;
  std::vector<LinearState> states_;  // of the layers with linear attention
  std::int64_t positions_ = 0;
  std::vector<float> logits_;  // of the last rows
};

Placed PlacedDecoder::embed(std::span<const std::int64_t> ids) {
  Placed hidden = operations_.embed(embedding_, ids);
  if (recipe_.embedding_scale != 1) {
    // transformers rounds the first of these factors to the dtype before it multiplies.
    hidden.value =
        family_.ends.root_scale
            ? hidden.value * at::empty({}, hidden.value.options()).fill_(recipe_.embedding_scale)
            : hidden.value * recipe_.embedding_scale;
  }
  if (!family_.ends.positions.empty()) {
    const Placed learned = weights_.get(std::string(family_.ends.positions) + ".weight");
    const auto count = static_cast<std::int64_t>(ids.size());
    const Placed rows{learned.value.narrow(0, positions_, count), learned.device};
    hidden = operations_.add(hidden, placement_.move(rows, hidden.device));
  }
  return hidden;
}

// Moves the stream to where the norm of a block is, or to the block's home where it has none.
Placed PlacedDecoder::at_norm(const Placed& stream, const std::string& norm,
                              const std::string& home) {
  const std::string& module = weights_.has(norm + ".weight") ? norm : home;
  return placement_.move(stream, weights_.device(module + ".weight"));
}

// One half of a layer: stream + out_norm(block(norm(stream))). The stream is moved to the device of
// the norm, and the sum is made on the device where the block ended.
Placed PlacedDecoder::residual_block(const Placed& stream, const BlockNames& names,
                                     const std::function<Placed(const Placed&)>& block) {
  const Placed here = at_norm(stream, names.norm, names.home);
  Placed change = block(names.norm.empty() ? here : operations_.norm(here, names.norm));
  if (!names.out_norm.empty() && weights_.has(names.out_norm + ".weight")) {
    change = operations_.norm(change, names.out_norm);
  }
  return operations_.add_change(placement_.move(here, change.device), change);
}

// A layer whose blocks see the same stream.
Placed PlacedDecoder::both_blocks(std::size_t layer, const Placed& stream) {
  const LayerRecipe& recipe = recipe_.layers[layer];
  const std::string norm = recipe.module(recipe.attention_norm);
  const std::string second = recipe.module(recipe.feed_forward_norm);
  const Placed here = at_norm(stream, norm, attention_home(family_, recipe));
  Placed input = operations_.norm(here, norm);
  const Placed attended = attention(layer, input);
  if (!recipe.feed_forward_norm.empty() && weights_.has(second + ".weight")) {
    input = operations_.norm(here, second);
  }
  const Placed sum = operations_.add_change(placement_.move(here, attended.device), attended);
  const Placed change = operations_.feed_forward(recipe, input);
  return operations_.add_change(placement_.move(sum, change.device), change);
}

Placed PlacedDecoder::mix(std::size_t layer, const Placed& input) {
  const LayerRecipe& recipe = recipe_.layers[layer];
  switch (recipe.mixing) {
    case Mixing::kAttention:
      return attention(layer, input);
    case Mixing::kLatent:
      return latent_attention(operations_, recipe, input, {positions_, {capacity_, cache_dtype_}},
                              caches_[layer]);
    case Mixing::kLinear:
      return linear_attention(operations_, recipe, input, states_[layer]);
    case Mixing::kConvolution:
      return short_convolution(operations_, recipe, input, states_[layer].inputs);
  }
  throw Error("internal error: an unknown kind of layer");
}

Placed PlacedDecoder::attention(std::size_t layer, const Placed& input) {
  const LayerRecipe& recipe = recipe_.layers[layer];
  Heads heads = operations_.project_heads(recipe, input);
  if (recipe.rotary) operations_.rotate(heads, *recipe.rotary, positions_, capacity_);
  operations_.norm_rotated(recipe, heads);
  KvCache& cache = caches_[layer];
  const auto window = static_cast<std::int64_t>(std::min<std::uint64_t>(recipe.window, capacity_));
  cache.append(heads.key, heads.value, {window > 0 ? window : capacity_, cache_dtype_});
  AttentionOptions options{recipe.attention_scale, recipe_.attention_softcap, recipe.window};
  if (!family_.attention.sinks.empty()) {
    const std::string sinks = recipe.module(family_.attention.sinks);
    // A copy: one that was read from the disk is not held until the layer's last product.
    options.sinks = operations_.weight_on(sinks, heads.key.device).value.clone();
  }
  const Placed attended = cache.attend(heads.query, options);
  return operations_.join_heads(recipe, attended, heads.gate);
}

std::vector<float> PlacedDecoder::logits(const Placed& hidden) {
  const Placed result = operations_.linear(hidden, head_.substr(0, head_.rfind('.')), false);
  at::Tensor values = result.value;
  if (recipe_.logit_scale != 1) values = values * recipe_.logit_scale;
  if (recipe_.logit_softcap > 0) {
    values = (values / recipe_.logit_softcap).tanh() * recipe_.logit_softcap;
  }
  values = values.to(at::Device(c10::DeviceType::CPU), at::kFloat).contiguous();
  const float* begin = values.const_data_ptr<float>();
  return {begin, begin + values.numel()};
}

std::span<const float> PlacedDecoder::forward(std::span<const Feed> feeds, const OnLogits& all) {
  if (feeds.size() != 1) throw Error("internal error: libtorch's decoder runs one sequence");
  const std::span<const std::int64_t> ids = feeds.front().ids;
  const c10::InferenceMode inference;
  const auto count = static_cast<std::int64_t>(ids.size());
  if (count == 0 || positions_ + count > capacity_) {
    throw Error("internal error: " + std::to_string(count) + " ids after " +
                std::to_string(positions_) + " of " + std::to_string(capacity_) + " positions");
  }
  placement_.reset_hops();
  step_ = 0;
  const double pass_began = started();
  Placed hidden = embed(ids);
  log_step("embedding", -1, hidden.device, pass_began);
  for (std::size_t layer = 0; layer < recipe_.layers.size(); ++layer) {
    check_cancel();
    const auto number = static_cast<std::int32_t>(layer);
    double began = started();
    if (recipe_.parallel) {
      hidden = both_blocks(layer, hidden);
      log_step("layer", number, hidden.device, began);
      continue;
    }
    const LayerRecipe& recipe = recipe_.layers[layer];
    const auto name = [&](std::string_view module) {
      return module.empty() ? std::string() : recipe.module(module);
    };
    const Norms& norms = family_.norms;
    hidden = residual_block(
        hidden,
        {name(recipe.attention_norm), name(norms.attention_out), attention_home(family_, recipe)},
        [&](const Placed& input) { return mix(layer, input); });
    log_step("attention", number, hidden.device, began);
    began = started();
    hidden = residual_block(
        hidden,
        {name(recipe.feed_forward_norm), name(norms.feed_forward_out),
         feed_forward_home(family_, recipe)},
        [&](const Placed& input) { return operations_.feed_forward(recipe, input); });
    log_step("feed-forward", number, hidden.device, began);
  }
  check_cancel();
  const double head_began = started();
  positions_ += count;
  const std::string norm(family_.ends.final_norm);
  hidden = operations_.norm(hidden, norm);
  hidden = placement_.move(hidden, weights_.device(head_));
  const auto rows = [&](std::int64_t begin, std::int64_t number) {
    return Placed{hidden.value.narrow(0, begin, number), hidden.device};
  };
  const std::int64_t width = logits_width();
  const std::int64_t at_once = std::max<std::int64_t>(1, kLogitElements / width);
  for (std::int64_t begin = all ? 0 : count - 1; begin < count; begin += at_once) {
    check_cancel();
    logits_ = logits(rows(begin, std::min(at_once, count - begin)));
    if (all) all(logits_);
  }
  log_step("head", -1, hidden.device, head_began);
  if (log_ != nullptr) log_->add_pass(static_cast<std::uint64_t>(count), pass_began);
  return std::span(logits_).last(static_cast<std::size_t>(width));
}

// Turns errors of libtorch into Berth's own.
class WithPlainErrors final : public Decoder {
 public:
  explicit WithPlainErrors(std::unique_ptr<Decoder> decoder) : decoder_(std::move(decoder)) {}

  std::int64_t logits_width() const override { return decoder_->logits_width(); }
  std::uint64_t hops() const override { return decoder_->hops(); }
  void restart(std::size_t sequence) override { decoder_->restart(sequence); }
  using Decoder::forward;
  std::span<const float> forward(std::span<const Feed> feeds, const OnLogits& all) override {
    std::span<const float> logits;
    with_plain_errors([&] { logits = decoder_->forward(feeds, all); });
    return logits;
  }

 private:
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace

std::unique_ptr<Decoder> make_reference_decoder(const Recipe& recipe, const Model& model,
                                                const Plan& plan, const LoadedModel& loaded,
                                                std::int64_t capacity,
                                                const std::atomic<bool>* cancel, StepLog* log) {
  std::unique_ptr<Decoder> decoder;
  with_plain_errors([&] {
    decoder = std::make_unique<PlacedDecoder>(recipe, model, plan, loaded, capacity, cancel, log);
  });
  return std::make_unique<WithPlainErrors>(std::move(decoder));
}

}  // namespace berth
