// A loaded model's tensors by name, for compiling a program: where each is computed with, and its
// bytes as matrices and as small vectors. Works on host memory alone: that of the CPU, of emulated
// devices and, read when it is needed, of the disk tier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "berth/load.h"
#include "berth/plan.h"
#include "runtime/kernels/matrix.h"

namespace berth {

using DeviceIndex = std::uint32_t;  // into Plan::devices

/// The device that computes with tensors of the disk tier: the one that the plan names, else the
/// first GPU that holds weights, else the CPU.
DeviceIndex disk_runner(const Plan& plan);

/// A tensor of several matrices, such as those of all experts of a layer. Where it is on the disk
/// tier, it is read once for all uses between hold() and release().
class Stack {
 public:
  Stack(const LoadedModel& loaded, TensorId id) : loaded_(&loaded), id_(id) {}

  bool on_disk() const { return loaded_->tensor(id_).data == nullptr; }
  /// Reads the tensor from the disk at the first use from here on. Throws nothing.
  void hold() { held_ = true; }
  void release() {
    held_ = false;
    block_ = {};
  }
  /// The first of its bytes, which stay as long as `block` does. Throws Error where they cannot be
  /// read.
  const std::byte* bytes(HostBlock& block);

 private:
  const LoadedModel* loaded_;
  TensorId id_;
  bool held_ = false;
  HostBlock block_;
};

/// A matrix that is in memory, or is read from the disk tier for each use.
class StoredMatrix {
 public:
  StoredMatrix() = default;
  StoredMatrix(Matrix matrix, const LoadedModel& loaded, TensorId id)
      : matrix_(matrix), loaded_(&loaded), id_(id) {}
  /// One matrix of a stack, from byte `offset` on; `matrix` has no bytes where the stack is on
  /// disk.
  StoredMatrix(Matrix matrix, std::shared_ptr<Stack> stack, std::size_t offset)
      : matrix_(matrix), stack_(std::move(stack)), offset_(offset) {}

  std::size_t rows() const { return matrix_.rows; }
  std::size_t columns() const { return matrix_.columns; }
  MatrixFormat format() const { return matrix_.format; }
  std::size_t group() const { return matrix_.group; }  // Matrix::group
  bool on_disk() const { return matrix_.data == nullptr; }

  /// The matrix with its bytes. Those of the disk tier stay as long as `block` does. Throws Error
  /// where they cannot be read.
  Matrix resident(HostBlock& block) const;

 private:
  Matrix matrix_;
  const LoadedModel* loaded_ = nullptr;
  TensorId id_ = kNone;
  std::shared_ptr<Stack> stack_;
  std::size_t offset_ = 0;  // in the stack
};

/// The matrices of a stack, one after another, and the stack itself.
struct StackedMatrices {
  std::shared_ptr<Stack> stack;
  std::vector<StoredMatrix> matrices;
  bool turned = false;  // they are the transposes of those in the tensor
};

class ProgramWeights {
 public:
  /// All arguments must outlive this object.
  ProgramWeights(const ModelTree& tree, const Plan& plan, const LoadedModel& loaded);

  bool has(std::string_view name) const { return ids_.contains(std::string(name)); }
  /// The device that computes with a tensor: its own, or the one that the plan names for the disk.
  /// Throws Error where the model has no such tensor, as do the others.
  DeviceIndex device(const std::string& name) const;
  StoredMatrix matrix(const std::string& name) const;
  /// Of a tensor with three dimensions: a matrix for each index of the first. Throws Error where it
  /// is in a format with blocks, unless a load made it so (LoadedTensor::tiled_rows).
  StackedMatrices matrices(const std::string& name) const;
  /// All elements in float32.
  std::vector<float> floats(const std::string& name) const;
  DType dtype(const std::string& name) const;

  /// Empty where all tensors are in host memory or on the disk; else which are not.
  std::string why_not_in_host_memory() const;

 private:
  TensorId id(const std::string& name) const;

  const ModelTree& tree_;
  const Plan& plan_;
  const LoadedModel& loaded_;
  DeviceIndex disk_runner_ = 0;
  std::unordered_map<std::string, TensorId> ids_;
};

}  // namespace berth
