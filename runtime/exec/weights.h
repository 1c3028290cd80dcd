// A loaded model's tensors, by name, as tensors of ATen. Weights are not copied. Those of the disk
// tier are read just before they are used, and dropped right after.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "berth/plan.h"
#include "runtime/exec/packed.h"
#include "runtime/exec/placed.h"

namespace berth {

// The dtypes that can be computed with; nothing for others.
std::optional<at::ScalarType> scalar_type(DType dtype);

// `rows` rows of a matrix in tiles, from `first` on; both are whole tiles.
KernelMatrix rows_from(const KernelMatrix& matrix, std::size_t first, std::size_t rows);

class Weights {
 public:
  // Throws Error naming the tensor where one has a dtype that cannot be computed with. All
  // arguments must outlive this object.
  Weights(const ModelTree& tree, const Plan& plan, const LoadedModel& loaded,
          const Placement& placement);

  bool has(std::string_view name) const { return ids_.contains(std::string(name)); }
  // The tensor with this name; a matrix in blocks is dequantised to float32 each time. Throws Error
  // where the model has none, or where it cannot be read from the disk.
  Placed get(const std::string& name) const;
  // The dtype of all activations: that of the weights where they share one, else float32.
  at::ScalarType activations() const { return activations_; }
  // Whether products with a matrix are for PackedProducts: it is in a format with blocks, or in
  // host memory and not in the dtype of the activations.
  bool for_kernels(const std::string& name) const;
  // Such a matrix where it lies: of the disk tier, in host memory.
  KernelMatrix lying(const std::string& name) const;
  // The same on the device that computes with it.
  KernelMatrix matrix(const std::string& name) const;
  // Whether the experts of [experts, in, out] are in tiles: matrices of [out, in]. Then matrix()
  // has them one under another, and rows_from() gives one.
  bool has_packed_experts(const std::string& name) const;
  // On which device get() returns the tensor, and its shape. These do not touch its bytes;
  // they throw Error where the model has no such tensor.
  DeviceIndex device(const std::string& name) const;
  const Shape& shape(const std::string& name) const;

 private:
  TensorId id(const std::string& name) const;

  const ModelTree& tree_;
  const Plan& plan_;
  const LoadedModel& loaded_;
  const Placement& placement_;
  std::unordered_map<std::string, TensorId> ids_;
  at::ScalarType activations_ = at::kFloat;
};

}  // namespace berth
