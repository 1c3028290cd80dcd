// The steps of a program. A pass through a model runs one after another; each holds the weights
// that it computes with, and works on the buffers of the pass.
//
// Activations are float32 in all buffers. What enters a product with bfloat16 weights is rounded to
// bfloat16 first, as in transformers; nothing else is rounded.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/kernels/attention.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/kernels/product.h"
#include "runtime/kernels/team.h"
#include "runtime/program/activation.h"
#include "runtime/program/angles.h"
#include "runtime/program/pass.h"
#include "runtime/program/weights.h"

namespace berth {

class Step {
 public:
  virtual ~Step() = default;
  virtual void run(Pass& pass) = 0;
  /// What it does, in a word or two, or the modules that it computes: for profiles.
  virtual std::string_view name() const = 0;
  /// Whether run() is called for the rows of each sequence: Pass::first and Pass::sequence.
  virtual bool by_sequence() const { return false; }
  /// Bytes that it keeps of all sequences from pass to pass.
  virtual std::size_t kept_bytes() const { return 0; }

  /// Forgets what is kept of a sequence, unless its first positions replace that anyway.
  virtual void forget(std::size_t /*sequence*/) {}

  /// How many times the step moves an activation to another device.
  std::uint64_t hops = 0;
  std::int32_t layer = kNoLayer;  // whose part it is
  DeviceIndex device = 0;         // where its result is

  static constexpr std::int32_t kNoLayer = -1;
};

/// kStream = scale x the rows of `table` that the ids name, plus the learned positions if any.
struct EmbedStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "embedding"; }
  bool by_sequence() const override { return positions.has_value(); }
  StoredMatrix table;
  std::optional<StoredMatrix> positions;
  float scale = 1;
};

enum class NormKind : std::uint8_t { kRms, kLayer };
struct NormWeights {
  NormKind kind = NormKind::kRms;
  std::vector<float> weight;  // with 1 added where the family does so
  std::vector<float> bias;    // of kLayer
  float epsilon = 0;

  std::size_t width() const { return weight.size(); }
  void apply(const float* x, float* out) const;
};

/// to = norm(from). The two may be the same.
struct NormStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "norm"; }
  NormWeights norm;
  Buffer from = Buffer::kStream;
  Buffer to = Buffer::kInput;
};

/// A matrix whose products are the columns from `offset` on of where they go.
struct ProductPart {
  StoredMatrix weights;
  std::vector<float> bias;  // empty: none
  std::size_t offset = 0;
};

/// Products of the same activations with several matrices.
class Products {
 public:
  Products() = default;
  /// `transposed`: the matrices are [columns, rows].
  explicit Products(std::vector<ProductPart> parts, bool transposed = false);

  /// How many activations a row has.
  std::size_t columns() const;
  std::size_t rows_of(std::size_t part) const { return parts_[part].weights.rows(); }
  /// `from` is [rows, columns()], `to` [rows, width].
  void run(Pass& pass, const float* from, std::size_t rows, float* to, std::size_t width);

 private:
  static bool together(const ProductPart& left, const ProductPart& right);

  std::vector<ProductPart> parts_;
  bool transposed_ = false;
  std::vector<Product> products_;  // of those that are computed together
};

/// to = from x weights^T, or from x weights where they are transposed.
struct ProductStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return modules; }
  std::string modules;  // those whose weights it computes with, such as "gate_proj, up_proj"
  Products products;
  Buffer from = Buffer::kInput;
  Buffer to = Buffer::kChange;
  std::size_t width = 0;  // of `to`
};

/// The norms of all query or key heads of a position. No norms: none. One: for each head, or for
/// all of them at once where it is as wide. Several: one for each head.
struct HeadNorms {
  std::vector<NormWeights> norms;
  void apply(float* heads, std::size_t count, std::size_t head_dim) const;
};

/// Bytes of the caches of all sequences.
std::size_t bytes_of_all(const OfEachSequence<std::vector<std::byte>>& caches);

/// kAttended = attention of kHeads over the layer's cache, after norms of heads and rotation.
struct AttentionStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "attention"; }
  bool by_sequence() const override { return true; }
  std::size_t kept_bytes() const override { return bytes_of_all(caches); }
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
  HeadNorms query_norm, key_norm;
  bool norm_after_rotation = false;
  float clip = 0;                        // 0: none
  std::shared_ptr<RotaryAngles> rotary;  // null: none
  AttentionSettings settings;
  std::vector<float> sinks;  // one for each head; empty: none
  CacheFormat format = CacheFormat::kF32;
  std::size_t capacity = 0;  // positions that the cache keeps
  OfEachSequence<std::vector<std::byte>> caches;
  std::vector<std::byte> fresh;  // positions of this pass that have no place in the cache yet

 private:
  void prepare(std::size_t position, float* row) const;
};

/// kGated = activation(kWide) x the columns from `width` on, or activation(kWide) where it is not
/// `gated`.
struct GateStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "gate"; }
  Activation activation = Activation::kSilu;
  bool gated = true;
  std::size_t width = 0;
};

/// kStream += scale x kChange.
struct AddStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "add"; }
  float scale = 1;
  std::size_t width = 0;
};

/// kLogits = softcap x tanh(scale x kLogits / softcap), or scale x kLogits without a cap.
struct LogitsStep final : Step {
  void run(Pass& pass) override;
  std::string_view name() const override { return "logits"; }
  float scale = 1;
  float softcap = 0;  // 0: none
  std::size_t width = 0;
};

}  // namespace berth
