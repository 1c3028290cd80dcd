// A loaded model's tensors, by name, as tensors of ATen. Weights are not copied. Those of the disk
// tier are read just before they are used, and dropped right after.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "berth/plan.h"
#include "runtime/exec/placed.h"

namespace berth {

// The dtypes that can be computed with; nothing for others.
std::optional<at::ScalarType> scalar_type(DType dtype);

class Weights {
 public:
  // Throws Error naming the tensor where one has a dtype that cannot be computed with. All
  // arguments must outlive this object.
  Weights(const ModelTree& tree, const Plan& plan, const LoadedModel& loaded,
          const Placement& placement);

  bool has(std::string_view name) const { return ids_.contains(std::string(name)); }
  // The tensor with this name. Throws Error where the model has none, or where it cannot be read
  // from the disk.
  Placed get(const std::string& name) const;
  // On which device get() returns the tensor, and its shape and dtype. These do not touch its
  // bytes; they throw Error where the model has no such tensor.
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
