#include "runtime/program/weights.h"

#include <algorithm>

#include "berth/error.h"
#include "cuda/cast.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

std::optional<FloatFormat> float_format(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return FloatFormat::kF32;
    case DType::kF16:
      return FloatFormat::kF16;
    case DType::kBF16:
      return FloatFormat::kBF16;
    default:
      return std::nullopt;
  }
}

}  // namespace

DeviceIndex disk_runner(const Plan& plan) {
  if (plan.disk_runner < plan.devices.size()) return plan.disk_runner;
  std::optional<DeviceIndex> gpu, cpu;
  for (DeviceIndex i = 0; i < plan.devices.size(); ++i) {
    const DeviceLedger& device = plan.devices[i];
    if (is_gpu(device.kind) && device.weights > 0 && !gpu) gpu = i;
    if (device.kind == DeviceKind::kCpu && !cpu) cpu = i;
  }
  return gpu.value_or(cpu.value_or(0));
}

Matrix StoredMatrix::resident(HostBlock& block) const {
  Matrix matrix = matrix_;
  if (matrix.data == nullptr && stack_ != nullptr) {
    matrix.data = stack_->bytes(block) + offset_;
  } else if (matrix.data == nullptr) {
    block = loaded_->fetch(id_);
    matrix.data = block.data.get();
  }
  return matrix;
}

const std::byte* Stack::bytes(HostBlock& block) {
  if (block_.data == nullptr) {
    block = loaded_->fetch(id_);
    if (!held_) return block.data.get();
    block_ = block;
  }
  block = block_;
  return block.data.get();
}

ProgramWeights::ProgramWeights(const ModelTree& tree, const Plan& plan, const LoadedModel& loaded)
    : tree_(tree), plan_(plan), loaded_(loaded) {
  for (TensorId id = 0; id < tree.tensors.size(); ++id) {
    if (tree.tensors[id].persistent) ids_.emplace(tree.tensors[id].name, id);
  }
  disk_runner_ = disk_runner(plan);
}

TensorId ProgramWeights::id(const std::string& name) const {
  const auto found = ids_.find(name);
  if (found == ids_.end()) throw Error("the model has no tensor " + quote(name));
  return found->second;
}

DeviceIndex ProgramWeights::device(const std::string& name) const {
  const DeviceIndex own = loaded_.tensor(id(name)).device;
  const bool disk = own < plan_.devices.size() && plan_.devices[own].kind == DeviceKind::kDisk;
  return disk ? disk_runner_ : own;
}

StoredMatrix ProgramWeights::matrix(const std::string& name) const {
  const TensorId tensor = id(name);
  const Shape& shape = tree_.tensors[tensor].shape;
  if (shape.size() != 2) throw Error("tensor " + quote(name) + " is no matrix");
  const LoadedTensor& loaded = loaded_.tensor(tensor);
  return {{*matrix_format(loaded.dtype), shape[0], shape[1], loaded.data, loaded.tiled_rows,
           group_columns(loaded.dtype)},
          loaded_,
          tensor};
}

StackedMatrices ProgramWeights::matrices(const std::string& name) const {
  const TensorId tensor = id(name);
  const Shape& shape = tree_.tensors[tensor].shape;
  if (shape.size() != 3) throw Error("tensor " + quote(name) + " has no three dimensions");
  const LoadedTensor& loaded = loaded_.tensor(tensor);
  const bool turned = loaded.tiled_rows > 0;
  if (!float_format(loaded.dtype) && !turned) {
    throw Error("tensor " + quote(name) + " is " + std::string(dtype_name(loaded.dtype)) +
                ", in which no expert of several in one tensor can be computed; --dequantize makes "
                "plain weights");
  }
  Matrix expert;
  expert.format = *matrix_format(loaded.dtype);
  expert.rows = turned ? shape[2] : shape[1];
  expert.columns = turned ? shape[1] : shape[2];
  expert.tiled_rows = turned ? expert.rows : 0;
  const std::size_t bytes = loaded.bytes / shape[0];
  StackedMatrices made{std::make_shared<Stack>(loaded_, tensor), {}, turned};
  for (std::size_t i = 0; i < shape[0]; ++i) {
    Matrix own = expert;
    if (loaded.data != nullptr) own.data = loaded.data + i * bytes;
    made.matrices.emplace_back(own, made.stack, i * bytes);
  }
  return made;
}

std::vector<float> ProgramWeights::floats(const std::string& name) const {
  const TensorId tensor = id(name);
  const LoadedTensor& loaded = loaded_.tensor(tensor);
  if (!float_format(loaded.dtype)) {
    throw Error("tensor " + quote(name) + " is " + std::string(dtype_name(loaded.dtype)) +
                ", which only matrices can be");
  }
  std::uint64_t count = 1;
  for (const std::uint64_t size : tree_.tensors[tensor].shape) count *= size;
  HostBlock block;
  if (loaded.data == nullptr) block = loaded_.fetch(tensor);
  std::vector<float> values(count);
  cast_on_host(loaded.data != nullptr ? loaded.data : block.data.get(), *float_format(loaded.dtype),
               values.data(), FloatFormat::kF32, count);
  return values;
}

DType ProgramWeights::dtype(const std::string& name) const { return tree_.tensors[id(name)].dtype; }

std::string ProgramWeights::why_not_in_host_memory() const {
  for (const auto& [name, id] : ids_) {
    const LoadedTensor& tensor = loaded_.tensor(id);
    if (tensor.device < plan_.devices.size() && is_gpu(plan_.devices[tensor.device].kind) &&
        !tensor.emulated && tensor.data != nullptr) {
      return "weights are on a GPU";
    }
  }
  return "";
}

}  // namespace berth
