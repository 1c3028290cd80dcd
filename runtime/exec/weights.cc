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

bool in_blocks(const ModelTensor& tensor) {
  return is_block_format(tensor.dtype) && matrix_format(tensor.dtype) && tensor.shape.size() == 2;
}

bool has_experts_in_tiles(const ModelTensor& tensor) {
  return is_block_format(tensor.dtype) && matrix_format(tensor.dtype) &&
         tensor.dequantization != kNone && tensor.shape.size() == 3;
}

}  // namespace

KernelMatrix rows_from(const KernelMatrix& matrix, std::size_t first, std::size_t rows) {
  KernelMatrix found = matrix;
  const Matrix& all = matrix.matrix;
  found.matrix.data += first / kTileRows * tile_bytes(all.format, all.columns, all.group);
  found.matrix.rows = found.matrix.tiled_rows = rows;
  return found;
}

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
  const ModelTensor* first = nullptr;
  bool one = false;  // whether all weights have the dtype of the first
  for (TensorId id = 0; id < tree.tensors.size(); ++id) {
    const ModelTensor& tensor = tree.tensors[id];
    if (!tensor.persistent) continue;
    if (!scalar_type(tensor.dtype) && !in_blocks(tensor) && !has_experts_in_tiles(tensor)) {
      throw Error(
          "tensor " + quote(tensor.name) + " is " + std::string(dtype_name(tensor.dtype)) +
          ", and no model can be run in that dtype (F32, F16, BF16 and F64 can be used, and "
          "matrices in packed formats)");
    }
    ids_.emplace(tensor.name, id);
    if (tensor.buffer) continue;
    one = first == nullptr || (one && tensor.dtype == first->dtype);
    if (first == nullptr) first = &tensor;
  }
  if (one) activations_ = scalar_type(first->dtype).value_or(at::kFloat);
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
  if (in_blocks(tensor)) return {dequantised(matrix(name)), device(name)};
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

bool Weights::for_kernels(const std::string& name) const {
  const ModelTensor& tensor = tree_.tensors[id(name)];
  if (in_blocks(tensor)) return true;
  return placement_.torch_device(device(name)).is_cpu() && tensor.shape.size() == 2 &&
         matrix_format(tensor.dtype) && scalar_type(tensor.dtype) != activations_;
}

KernelMatrix Weights::lying(const std::string& name) const {
  const TensorId tensor_id = id(name);
  const Shape& shape = tree_.tensors[tensor_id].shape;
  const LoadedTensor& loaded = loaded_.tensor(tensor_id);
  KernelMatrix found;
  found.matrix = {*matrix_format(loaded.dtype), shape[0], shape[1], loaded.data, loaded.tiled_rows,
                  group_columns(loaded.dtype)};
  if (shape.size() == 3) {  // each expert was turned
    found.matrix.rows = shape[0] * shape[2];
    found.matrix.columns = shape[1];
  }
  if (loaded.data != nullptr) {
    found.where = placement_.torch_device(device(name));
  } else {
    found.fetched = loaded_.fetch(tensor_id);
    found.matrix.data = found.fetched.data.get();
  }
  return found;
}

bool Weights::has_packed_experts(const std::string& name) const {
  return has_experts_in_tiles(tree_.tensors[id(name)]);
}

KernelMatrix Weights::matrix(const std::string& name) const {
  KernelMatrix found = lying(name);
  const at::Device computing = placement_.torch_device(device(name));
  if (found.where == computing) return found;
  found.copied = at::from_blob(found.fetched.data.get(),
                               {static_cast<std::int64_t>(found.fetched.bytes)}, at::kByte)
                     .to(computing);
  found.matrix.data = static_cast<const std::byte*>(found.copied.const_data_ptr());
  found.where = computing;
  found.fetched = {};
  return found;
}

DeviceIndex Weights::device(const std::string& name) const {
  return placement_.compute_device(loaded_.tensor(id(name)).device);
}

const Shape& Weights::shape(const std::string& name) const { return tree_.tensors[id(name)].shape; }

}  // namespace berth
