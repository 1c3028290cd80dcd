#include "runtime/exec/weights.h"

#include <ATen/ops/from_blob.h>

#include <memory>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

std::vector<std::int64_t> sizes_of(const ModelTensor& tensor) {
  return {tensor.shape.begin(), tensor.shape.end()};
}

}  // namespace

std::optional<at::ScalarType> scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF32:
      return at::kFloat;
    case DType::kF64:
      return at::kDouble;
    default:
      return std::nullopt;
  }
}

Weights::Weights(const ModelTree& tree, const Plan& plan, const LoadedModel& loaded,
                 const Placement& placement)
    : tree_(tree), plan_(plan), loaded_(loaded), placement_(placement) {
  for (TensorId id = 0; id < tree.tensors.size(); ++id) {
    const ModelTensor& tensor = tree.tensors[id];
    if (!tensor.persistent) continue;
    if (!scalar_type(tensor.dtype)) {
      throw Error("tensor " + quote(tensor.name) + " is " + std::string(dtype_name(tensor.dtype)) +
                  ", and no model can be run in that dtype (F32, F16, BF16 and F64 can be used)");
    }
    ids_.emplace(tensor.name, id);
  }
}

TensorId Weights::id(const std::string& name) const {
  const auto entry = ids_.find(name);
  if (entry == ids_.end()) throw Error("the model has no tensor " + quote(name));
  return entry->second;
}

Placed Weights::get(const std::string& name) const {
  const TensorId tensor_id = id(name);
  const ModelTensor& tensor = tree_.tensors[tensor_id];
  const LoadedTensor& loaded = loaded_.tensor(tensor_id);
  const auto options = at::TensorOptions(*scalar_type(loaded.dtype));
  const DeviceIndex device = placement_.compute_device(loaded.device);
  if (loaded.data == nullptr) {
    const HostBlock block = loaded_.fetch(tensor_id);
    const at::Tensor host = at::from_blob(
        block.data.get(), sizes_of(tensor), [data = block.data](void*) {}, options);
    return {host.to(placement_.torch_device(device)), device};
  }
  // The memory may be a read-only mapping, so nothing here may write to a weight.
  return {
      at::from_blob(loaded.data, sizes_of(tensor), options.device(placement_.torch_device(device))),
      device};
}

DeviceIndex Weights::device(const std::string& name) const {
  return placement_.compute_device(loaded_.tensor(id(name)).device);
}

const Shape& Weights::shape(const std::string& name) const { return tree_.tensors[id(name)].shape; }

at::ScalarType Weights::dtype(const std::string& name) const {
  return *scalar_type(tree_.tensors[id(name)].dtype);
}

}  // namespace berth
