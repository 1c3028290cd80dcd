// Quantised weights of a checkpoint: stored tensors that no plain model has, gathered by the weight
// that they stand for and checked to be one whole, known form of it. Internal to the room.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "planner/model/quant/deduce.h"
#include "planner/model/quant/quantization.h"

namespace berth {

// Collects what the plain tree has no place for, then settles it. A checkpoint is believed over its
// config: a scheme is read from what is stored where the config has none that fits. Two things are
// not forgiven: a form that is not whole, and groups of another size than the config's.
class QuantMatcher {
 public:
  QuantMatcher(ModelTree& tree, const Quantization& quantization, const ModelConfig& config,
               const Checkpoint& checkpoint)
      : tree_(tree), quantization_(quantization), config_(config), checkpoint_(checkpoint) {}

  // `index` of the checkpoint is `name` ("qweight", "weight.absmax") beside or instead of `weight`.
  void add(TensorId weight, std::uint32_t index, std::string name);

  // A scale that belongs to no weight: of the KV cache, of an activation. False for other tensors.
  bool add_loose_scale(ModuleId module, std::uint32_t index, std::string_view name);

  // Settles all weights: gives each a `source`, so that it counts as found. Returns the stored
  // tensors that are part of nothing. Throws Error naming the tensor that is missing or wrong.
  std::vector<std::uint32_t> settle();

  // What a message calls a tensor that is not there: with its shape, and by the name that its
  // quantised form has.
  std::string describe_missing(TensorId id) const;

  // Puts the stored tensors into the tree, or, where weights are dequantised, leaves it as it is.
  // Names and ids of before are void.
  void finish();

 private:
  struct Entry {
    TensorId weight;
    std::uint32_t index;
    std::string name;  // in the module
  };
  struct Group {  // what is stored for one weight
    TensorId weight;
    std::vector<Entry> entries;
    std::vector<StoredPart> parts;  // beside `entries`
  };

  const TensorInfo& stored(std::uint32_t index) const { return checkpoint_.tensors[index]; }
  std::string place_of(const Entry& entry) const;
  Group group_of(std::vector<Entry>::iterator first, std::vector<Entry>::iterator last) const;
  bool settle(Group& group);
  std::string bind(const Group& group, const QuantScheme& scheme,
                   const std::vector<QuantPart>& parts) const;
  const std::vector<QuantPart>* parts_of(const QuantScheme& scheme, TensorId weight);
  bool config_decides(const QuantScheme& stored) const;
  void accept(const Group& group, const QuantScheme& scheme, const std::vector<QuantPart>& parts);
  void accept_plain(const Group& group, const QuantScheme& scheme,
                    const std::vector<QuantPart>& parts, DType dtype);
  void accept_unknown(const Group& group);
  void untie(TensorId id);
  void require_scales() const;
  ModelTensor tensor_of(const Entry& entry, ModuleId module) const;

  ModelTree& tree_;
  const Quantization& quantization_;
  const ModelConfig& config_;
  const Checkpoint& checkpoint_;
  std::vector<Entry> entries_;
  std::vector<bool> settled_;  // by TensorId
  std::vector<Replacement> replacements_;
  std::vector<ModelTensor> additions_;
  QuantPartsCache cache_;
  LabelShares shares_;
};

}  // namespace berth
