// Products of tensors of ATen with matrices that stay packed: on a GPU by the kernels of
// cuda/packed_product.h (blocks as they are stored) and cuda/grouped_product.h (tiles of weights
// that are stored in several tensors), in host memory by those of runtime/kernels.
//
// On a GPU, all work goes to libtorch's current stream, and nothing waits for it. Up to
// kPackedRows positions are computed on the packed bytes themselves. Beyond,
// a slab of rows at a time becomes bfloat16 in memory of at most kSlabBytes, which libtorch's
// matrix product then takes: that rounds activations and weights to bfloat16 and sums in float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>

#include "berth/load.h"
#include "runtime/kernels/activations.h"
#include "runtime/kernels/matrix.h"

namespace berth {

// A matrix and what keeps its bytes, which may be those of several matrices.
struct KernelMatrix {
  Matrix matrix;  // its data is in the memory of `where`
  at::Device where = at::kCPU;
  HostBlock fetched;  // of the disk tier: the bytes that were read
  at::Tensor copied;  // of the disk tier, where a GPU computes: their copy there
};

// Two readings of a matrix in blocks move fewer bytes than making a slab of it and reading that.
inline constexpr std::int64_t kPackedRows = 16;
inline constexpr std::int64_t kSlabBytes = 64 << 20;

// All elements in float32, [rows, columns], where the matrix is.
at::Tensor dequantised(const KernelMatrix& matrix);

// The rows that `ids` name in float32, [ids, columns], where the matrix is. Each id must be the
// number of a row.
at::Tensor rows_of(const KernelMatrix& matrix, std::span<const std::int64_t> ids);

// For use by one thread.
class PackedProducts {
 public:
  // x weights^T in float32, [positions, rows]; `x` is [positions, columns], where the matrix is. On
  // a GPU only matrices in formats with blocks, also in tiles of several stored tensors.
  at::Tensor multiply(const KernelMatrix& weights, const at::Tensor& x);

 private:
  std::shared_ptr<ThreadTeam> team_;  // of the whole process; null until it is needed
  Activations activations_;
};

}  // namespace berth
