// Finds the quantised weights of a checkpoint. Gathers stored tensors that the plain model does not
// have by the weight that they belong to, and checks that they make up one whole weight in a known
// form. Internal to planner/model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "planner/model/quant/deduce.h"
#include "planner/model/quant/quantization.h"

namespace berth {

// Collects the stored tensors that have no tensor in the plain tree, then settles what they are.
// The checkpoint is believed over its config: if the config has no scheme that fits, one is deduced
// from what is stored. Two things are errors all the same: a form with a tensor missing, and groups
// of another size than the config's. Not thread-safe.
class QuantMatcher {
 public:
  QuantMatcher(ModelTree& tree, const Quantization& quantization, const ModelConfig& config,
               const Checkpoint& checkpoint)
      : tree_(tree), quantization_(quantization), config_(config), checkpoint_(checkpoint) {}

  // Adds stored tensor `index` of the checkpoint. Its `name` in the module is "qweight",
  // "weight.absmax" or the like, and it stands beside `weight` or in its place.
  void add(TensorId weight, std::uint32_t index, std::string name);

  // Adds a scale that belongs to no weight, but to the KV cache or an activation. Returns false for
  // other tensors.
  bool add_loose_scale(ModuleId module, std::uint32_t index, std::string_view name);

  // Settles all weights: gives each of them a `source`, so that it counts as found. Returns the
  // stored tensors that belong to nothing. Throws Error, naming the tensor that is missing or
  // wrong.
  std::vector<std::uint32_t> settle();

  // How a message names a tensor that is missing: with its shape, and by the name of its quantised
  // form.
  std::string describe_missing(TensorId id) const;

  // Puts the stored tensors into the tree. If weights are dequantised, the tree stays as it is.
  // Names and ids from before are no longer valid.
  void finish();

 private:
  struct Entry {
    TensorId weight;
    std::uint32_t index;
    std::string name;  // its name in the module
  };
  struct Group {  // what is stored for one weight
    TensorId weight;
    std::vector<Entry> entries;
    std::vector<StoredPart> parts;  // the same tensors as `entries`, in their order
  };

  const TensorInfo& stored(std::uint32_t index) const { return checkpoint_.tensors[index]; }
  std::string position_of(const Entry& entry) const;
  Group group_of(std::vector<Entry>::iterator first, std::vector<Entry>::iterator last) const;
  bool settle(Group& group);
  bool settle_plain(const Group& group);
  std::string bind(const Group& group, const QuantScheme& scheme,
                   const std::vector<QuantPart>& parts) const;
  std::vector<const QuantScheme*> schemes_for(TensorId weight) const;
  const std::vector<QuantPart>* parts_of(const QuantScheme& scheme, TensorId weight);
  bool config_decides(const QuantScheme& stored) const;
  void accept(const Group& group, const QuantScheme& scheme, const std::vector<QuantPart>& parts);
  void accept_plain(const Group& group, const QuantScheme& scheme,
                    const std::vector<QuantPart>& parts);
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
