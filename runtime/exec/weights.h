// A loaded model's tensors by name, as ATen sees them. No weight is copied but those of the disk
// tier, which are read just before they are used and dropped right after.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "berth/plan.h"
#include "runtime/exec/placed.h"

namespace berth {

class Weights {
 public:
  // Throws Error for a stored dtype that cannot be computed with, naming the tensor.
  Weights(const ModelTree& tree, const Plan& plan, const LoadedModel& loaded,
          const Placement& placement);

  bool has(std::string_view name) const { return ids_.contains(std::string(name)); }
  // Throws Error where the model has no such tensor, or it cannot be read from disk.
  Placed get(const std::string& name) const;
  // Without touching its bytes: where get() will give it, and its size and dtype.
  DeviceIndex device(const std::string& name) const;
  const Shape& shape(const std::string& name) const;
  at::ScalarType dtype(const std::string& name) const;

 private:
  TensorId id(const std::string& name) const;

  const ModelTree& tree_;
  const Plan& plan_;
  const LoadedModel& loaded_;
  const Placement& placement_;
  std::unordered_map<std::string, TensorId> ids_;
};

}  // namespace berth
