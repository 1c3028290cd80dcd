#include "runtime/program/compile.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "berth/error.h"
#include "runtime/program/builder.h"
#include "runtime/program/experts_step.h"
#include "runtime/program/fused_experts.h"
#include "runtime/program/gated_attention.h"
#include "runtime/program/grouped_heads.h"
#include "runtime/program/latent_attention.h"
#include "runtime/program/linear_attention.h"
#include "runtime/program/short_convolution.h"
#include "runtime/program/xielu.h"

namespace berth {
namespace {

class Compiler : public Builder {
 public:
  Compiler(const Recipe& recipe, const ProgramWeights& weights, std::size_t capacity,
           std::optional<DType> kv_dtype)
      : Builder(recipe, weights), capacity_(capacity) {
    const DType stored = weights.dtype(name_of(family_.ends.embedding));
    const DType dtype = kv_dtype.value_or(is_block_format(stored) ? DType::kF32 : stored);
    const std::optional<CacheFormat> format = cache_format(dtype);
    if (!format) {
      throw Error("a KV cache of " + std::string(dtype_name(dtype)) + " cannot be computed with");
    }
    cache_format_ = *format;
    state_format_ = cache_format(stored).value_or(CacheFormat::kF32);
    for (const Rotary& rotary : recipe.rotaries) {
      angles_.push_back(std::make_shared<RotaryAngles>(rotary, capacity));
    }
  }

  Program compile() {
    embed();
    for (const LayerRecipe& layer : recipe_.layers) {
      begin_layer();
      if (recipe_.parallel) {
        both_blocks(layer);
        continue;
      }
      half(layer, layer.attention_norm, family_.norms.attention_out, attention_home(family_, layer),
           [&] { mix(layer); });
      half(layer, layer.feed_forward_norm, family_.norms.feed_forward_out,
           feed_forward_home(family_, layer), [&] { feed_forward(layer); });
    }
    head();
    return std::move(program_);
  }

 private:
  void embed() {
    const std::string table = name_of(family_.ends.embedding);
    at_ = weights_.device(table);
    std::optional<StoredMatrix> positions;
    if (!family_.ends.positions.empty()) {
      positions = weights_.matrix(name_of(family_.ends.positions));
      hop(weights_.device(name_of(family_.ends.positions)), at_);
    }
    auto& step = emit<EmbedStep>();
    step.table = weights_.matrix(table);
    step.positions = positions;
    step.scale = static_cast<float>(recipe_.embedding_scale);
    // transformers rounds this factor to the dtype before it multiplies.
    if (family_.ends.root_scale) step.scale = rounded(step.scale, weights_.dtype(table));
    program_.hidden = step.table.columns();
  }

  static float rounded(float value, DType dtype) {
    if (dtype != DType::kF16 && dtype != DType::kBF16) return value;
    const CacheFormat format = dtype == DType::kF16 ? CacheFormat::kF16 : CacheFormat::kBF16;
    std::byte stored[2];
    store_vector(format, std::span(&value, 1), stored);
    load_vector(format, stored, std::span(&value, 1));
    return value;
  }

  // What a block gets: the norm of the stream, or the stream itself where there is none. A norm
  // without weights is computed at `home`.
  void begin_block(const LayerRecipe& layer, std::string_view norm_name, const std::string& home) {
    input_ = norm_name.empty() ? Buffer::kStream : Buffer::kInput;
    if (norm_name.empty() || !has_norm(layer.module(norm_name))) {
      move_to(weights_.device(name_of(home)));
    }
    if (!norm_name.empty()) norm(layer.module(norm_name), Buffer::kStream, Buffer::kInput);
  }

  // Half of a layer: stream += out_norm(block(norm(stream))). The stream goes to the device of the
  // norm, and from there to the one where the block ends.
  template <class Block>
  void half(const LayerRecipe& layer, std::string_view norm_name, std::string_view out_norm,
            const std::string& home, const Block& block) {
    begin_block(layer, norm_name, home);
    const DeviceIndex stream = at_;
    block();
    if (!out_norm.empty() && has_norm(layer.module(out_norm))) {
      norm(layer.module(out_norm), Buffer::kChange, Buffer::kChange);
    }
    add(stream);
  }

  // stream += change, which is where the activations are.
  void add(DeviceIndex stream) {
    hop(stream, at_);
    auto& step = emit<AddStep>();
    step.scale = static_cast<float>(recipe_.residual_scale);
    step.width = program_.hidden;
  }

  // A layer whose blocks see the same stream: stream += attention(norm(stream)) +
  // feed_forward(norm(stream)), with norms of their own or with the same one.
  void both_blocks(const LayerRecipe& layer) {
    begin_block(layer, layer.attention_norm, attention_home(family_, layer));
    const DeviceIndex stream = at_;
    attention(layer);
    const DeviceIndex attended = at_;
    at_ = stream;
    const std::string_view second = layer.feed_forward_norm;
    if (!second.empty() && has_norm(layer.module(second))) {
      begin_block(layer, second, feed_forward_home(family_, layer));
    }
    const DeviceIndex input = at_;
    at_ = attended;
    add(stream);
    at_ = input;
    feed_forward(layer);
    add(attended);
  }

  void mix(const LayerRecipe& layer) {
    switch (layer.mixing) {
      case Mixing::kAttention:
        attention(layer);
        return;
      case Mixing::kLatent:
        compile_latent_attention(*this, layer, angles_.at(*layer.rotary),
                                 {cache_format_, capacity_});
        return;
      case Mixing::kLinear:
        compile_linear_attention(*this, layer, state_format_);
        return;
      case Mixing::kConvolution:
        compile_short_convolution(*this, layer, state_format_);
        return;
    }
  }

  void attention(const LayerRecipe& layer) {
    const AttentionModules& names = family_.attention;
    if (!names.fused.empty()) {
      product(layer.module(names.fused), family_.transposed_weights, input_,
              names.fused_by_key ? Buffer::kWide : Buffer::kHeads);
    } else {
      products({layer.module(names.query), layer.module(names.key), layer.module(names.value)}, 1,
               input_, names.gated ? Buffer::kWide : Buffer::kHeads);
    }
    if (names.gated) {
      hop(weights_.device(name_of(layer.module(names.query))), at_);  // the gates
      auto& split = emit<SplitGateStep>();
      split.heads = static_cast<std::size_t>(recipe_.heads);
      split.head_dim = static_cast<std::size_t>(recipe_.head_dim);
      split.kv_width = static_cast<std::size_t>(2 * recipe_.kv_heads * recipe_.head_dim);
    }
    if (names.fused_by_key) {
      auto& split = emit<SplitGroupsStep>();
      split.groups = static_cast<std::size_t>(recipe_.kv_heads);
      split.queries = static_cast<std::size_t>(recipe_.heads / recipe_.kv_heads);
      split.head_dim = static_cast<std::size_t>(recipe_.head_dim);
    }
    HeadNorms query_norm, key_norm;
    if (layer.head_norms) {
      query_norm = head_norms(layer, names.query_norm);
      key_norm = head_norms(layer, names.key_norm);
    }
    std::vector<float> sinks;
    if (!names.sinks.empty()) {
      sinks = weights_.floats(layer.module(names.sinks));
      hop(weights_.device(layer.module(names.sinks)), at_);
    }
    auto& step = emit<AttentionStep>();
    step.sinks = std::move(sinks);
    step.heads = static_cast<std::size_t>(recipe_.heads);
    step.kv_heads = static_cast<std::size_t>(recipe_.kv_heads);
    step.head_dim = static_cast<std::size_t>(recipe_.head_dim);
    step.query_norm = std::move(query_norm);
    step.key_norm = std::move(key_norm);
    step.norm_after_rotation = names.norm_after_rotation;
    step.clip = static_cast<float>(recipe_.clip);
    if (layer.rotary) step.rotary = angles_[*layer.rotary];
    step.settings.heads = step.heads;
    step.settings.scale = static_cast<float>(layer.attention_scale);
    step.settings.softcap = static_cast<float>(recipe_.attention_softcap);
    step.settings.window = layer.window;
    step.format = cache_format_;
    step.capacity = layer.window > 0 ? std::min<std::size_t>(layer.window, capacity_) : capacity_;
    if (names.gated) {
      emit<GateAttendedStep>().width = static_cast<std::size_t>(recipe_.heads * recipe_.head_dim);
    }
    product(layer.module(names.out), family_.transposed_weights, Buffer::kAttended,
            Buffer::kChange);
  }

  // Norms of heads, which may stand on another device than the heads: to there and back.
  HeadNorms head_norms(const LayerRecipe& layer, std::string_view name) {
    const std::string module = layer.module(name);
    const auto head_dim = static_cast<std::size_t>(recipe_.head_dim);
    HeadNorms made;
    if (family_.attention.head_norm == HeadNorm::kModule) {
      for (std::size_t head = 0; has_norm(module + ".norms." + std::to_string(head)); ++head) {
        made.norms.push_back(head_norm(module + ".norms." + std::to_string(head)));
      }
      return made;
    }
    made.norms.push_back(head_norm(module));
    if (family_.attention.head_norm != HeadNorm::kOwn) return made;
    const NormWeights all = std::move(made.norms.front());
    made.norms.assign(all.width() / head_dim, all);
    for (std::size_t head = 0; head < made.norms.size(); ++head) {
      const auto own = [&](const std::vector<float>& of_all) {
        const auto begin = of_all.begin() + static_cast<std::ptrdiff_t>(head * head_dim);
        return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(head_dim));
      };
      made.norms[head].weight = own(all.weight);
      if (!all.bias.empty()) made.norms[head].bias = own(all.bias);
    }
    return made;
  }

  NormWeights head_norm(const std::string& module) {
    if (has_norm(module)) {
      const DeviceIndex own = weights_.device(module + ".weight");
      hop(at_, own);
      hop(own, at_);
    }
    return norm_weights(module, family_.norms.kind, static_cast<std::size_t>(recipe_.head_dim));
  }

  void feed_forward(const LayerRecipe& layer) {
    if (layer.experts) {
      experts(layer);
    } else {
      feed_forward(layer, family_.feed_forward, Buffer::kChange);
    }
  }

  // to = the block's result for the input.
  void feed_forward(const LayerRecipe& layer, const FeedForwardModules& names, Buffer to) {
    const std::string up = layer.module(names.block, names.up);
    if (names.kind == FeedForward::kGated) {
      products({layer.module(names.block, names.gate), up}, 1, input_, Buffer::kWide);
    } else {
      product(up, family_.transposed_weights, input_, Buffer::kWide);
    }
    if (recipe_.activation == Activation::kXielu) {
      const auto& before = static_cast<const ProductStep&>(*program_.body.back());
      compile_xielu(*this, layer.module(names.block, names.activation), before.width);
    } else {
      gate(names.kind != FeedForward::kPlain);
    }
    product(layer.module(names.block, names.down), family_.transposed_weights, Buffer::kGated, to);
  }

  void gate(bool gated) {
    const auto& before = static_cast<const ProductStep&>(*program_.body.back());
    auto& step = emit<GateStep>();
    step.activation = recipe_.activation;
    step.gated = gated;
    step.width = gated ? before.width / 2 : before.width;
  }

  void experts(const LayerRecipe& layer) {
    const MixtureModules& names = family_.mixture;
    const DeviceIndex input = at_;
    if (layer.shared) feed_forward(layer, names.shared, Buffer::kShared);
    const DeviceIndex shared = at_;
    at_ = input;
    product(layer.module(names.router), false, input_, Buffer::kRouter);
    const DeviceIndex home = at_;
    std::vector<float> correction;
    const std::string tensor = layer.module(names.correction);
    if (!names.correction.empty() && weights_.has(tensor)) {
      correction = weights_.floats(tensor);
      hop(weights_.device(tensor), home);
    }
    auto& step = emit<ExpertsStep>();
    step.activation = recipe_.activation;
    step.from = input_;
    step.router = Router(recipe_.routing, std::move(correction));
    if (names.layout != ExpertLayout::kApart) add_fused_experts(*this, layer, home, step);
    for (std::size_t e = step.experts.size(); e < recipe_.routing.experts; ++e) {
      step.experts.push_back(expert(layer.module(names.experts, std::to_string(e)) + ".", home));
    }
    if (layer.shared) add_shared(layer, {input, shared, home});
  }

  // Where the input of a layer with experts is, and the results of its two blocks.
  struct MixtureDevices {
    DeviceIndex input, shared, experts;
  };

  // kChange += kShared, times its gate. The sum is made where the experts' results are.
  void add_shared(const LayerRecipe& layer, const MixtureDevices& devices) {
    const std::string_view gate = family_.mixture.shared_gate;
    if (!gate.empty()) {
      at_ = devices.input;
      product(layer.module(gate), false, input_, Buffer::kShareGate);
      hop(at_, devices.shared);
    }
    at_ = hop(devices.shared, devices.experts);
    auto& step = emit<AddSharedStep>();
    step.gated = !gate.empty();
    step.width = program_.hidden;
  }

  Expert expert(const std::string& module, DeviceIndex home) {
    Expert made;
    const std::string gate = module + std::string(family_.mixture.gate);
    const std::string up = module + std::string(family_.mixture.up);
    const std::string down = module + std::string(family_.mixture.down);
    const std::uint64_t before = std::exchange(pending_hops_, 0);
    hop(home, weights_.device(gate + ".weight"));
    hop(home, weights_.device(up + ".weight"));
    hop(weights_.device(gate + ".weight"), weights_.device(up + ".weight"));
    hop(weights_.device(up + ".weight"), weights_.device(down + ".weight"));
    hop(weights_.device(down + ".weight"), home);
    std::vector<ProductPart> in, out;
    in.push_back(part(gate, 0));
    in.push_back(part(up, in.front().weights.rows()));
    out.push_back(part(down, 0));
    made.in = Products(std::move(in));
    made.out = Products(std::move(out));
    made.hops = std::exchange(pending_hops_, before);
    return made;
  }

  void head() {
    in_head_ = true;
    norm(std::string(family_.ends.final_norm), Buffer::kStream, Buffer::kInput);
    std::string module(family_.ends.head);
    if (!weights_.has(name_of(module))) module = family_.ends.embedding;
    product(module, false, Buffer::kInput, Buffer::kLogits);
    program_.vocabulary = static_cast<const ProductStep&>(*program_.head.back()).width;
    if (recipe_.logit_softcap <= 0 && recipe_.logit_scale == 1) return;
    auto& step = emit<LogitsStep>();
    step.scale = static_cast<float>(recipe_.logit_scale);
    step.softcap = static_cast<float>(recipe_.logit_softcap);
    step.width = program_.vocabulary;
  }

  std::size_t capacity_;
  CacheFormat cache_format_ = CacheFormat::kF32;
  CacheFormat state_format_ = CacheFormat::kF32;       // the model's own: of inputs of convolutions
  Buffer input_ = Buffer::kInput;                      // of the block that is being written
  std::vector<std::shared_ptr<RotaryAngles>> angles_;  // as in Recipe::rotaries
};

}  // namespace

Program compile(const Recipe& recipe, const ProgramWeights& weights, std::size_t capacity,
                std::optional<DType> kv_dtype) {
  return Compiler(recipe, weights, capacity, kv_dtype).compile();
}

}  // namespace berth
