// A loaded model's tensors by name, for compiling a program: where each is computed with, and its
// bytes as matrices and as small vectors. Works on host memory alone: that of the CPU, of emulated
// devices and, read when it is needed, of the disk tier.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "berth/load.h"
#include "berth/plan.h"
#include "runtime/kernels/matrix.h"

namespace berth {

using DeviceIndex = std::uint32_t;  // into Plan::devices

/// The device that computes with tensors of the disk tier: the one that the plan names, else the
/// first GPU that holds weights, else the CPU.
DeviceIndex disk_runner(const Plan& plan);

/// A matrix that is in memory, or is read from the disk tier for each use.
class StoredMatrix {
 public:
  StoredMatrix() = default;
  /// `offset`: where the matrix begins in the bytes of the tensor.
  StoredMatrix(Matrix matrix, const LoadedModel& loaded, TensorId id, std::size_t offset = 0)
      : matrix_(matrix), loaded_(&loaded), id_(id), offset_(offset) {}

  std::size_t rows() const { return matrix_.rows; }
  std::size_t columns() const { return matrix_.columns; }
  MatrixFormat format() const { return matrix_.format; }
  bool on_disk() const { return matrix_.data == nullptr; }

  /// The matrix with its bytes. Those of the disk tier stay as long as `block` does. Throws Error
  /// where they cannot be read.
  Matrix resident(HostBlock& block) const;

 private:
  Matrix matrix_;
  const LoadedModel* loaded_ = nullptr;
  TensorId id_ = kNone;
  std::size_t offset_ = 0;
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
  /// One of the matrices of a tensor [matrices, rows, columns], whose format has no blocks.
  StoredMatrix matrix(const std::string& name, std::size_t index) const;
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
