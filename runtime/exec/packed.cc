#include "runtime/exec/packed.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <variant>

#include "berth/error.h"
#include "cuda/grouped_product.h"
#include "cuda/packed_product.h"
#include "runtime/kernels/product.h"
#include "runtime/program/threads.h"

namespace berth {
namespace {

// The team of all who compute here. It ends with the last of them.
std::shared_ptr<ThreadTeam> shared_team() {
  static std::mutex mutex;
  static std::weak_ptr<ThreadTeam> known;
  const std::lock_guard lock(mutex);
  std::shared_ptr<ThreadTeam> team = known.lock();
  if (team == nullptr) known = team = std::make_shared<ThreadTeam>(threads_to_use());
  return team;
}

BlockFormat block_format(MatrixFormat format) {
  switch (format) {
    case MatrixFormat::kQ8_0:
      return BlockFormat::kQ8_0;
    case MatrixFormat::kQ4_0:
      return BlockFormat::kQ4_0;
    case MatrixFormat::kQ4_1:
      return BlockFormat::kQ4_1;
    case MatrixFormat::kQ5_0:
      return BlockFormat::kQ5_0;
    case MatrixFormat::kQ5_1:
      return BlockFormat::kQ5_1;
    case MatrixFormat::kQ4_K:
      return BlockFormat::kQ4_K;
    case MatrixFormat::kQ5_K:
      return BlockFormat::kQ5_K;
    case MatrixFormat::kQ6_K:
      return BlockFormat::kQ6_K;
    default:
      throw Error("internal error: a matrix without blocks on a GPU");
  }
}

FloatFormat float_format(at::ScalarType type) {
  switch (type) {
    case at::kBFloat16:
      return FloatFormat::kBF16;
    case at::kHalf:
      return FloatFormat::kF16;
    case at::kFloat:
      return FloatFormat::kF32;
    case at::kDouble:
      return FloatFormat::kF64;
    default:
      throw Error("internal error: activations that are not floats");
  }
}

// As the GPU's kernels know it: in GGUF's blocks, or in tiles.
using GpuMatrix = std::variant<PackedMatrix, GroupedMatrix>;

GpuMatrix on_gpu(const Matrix& matrix) {
  const bool made = is_grouped(matrix.format) || matrix.format == MatrixFormat::kMxfp4;
  if (made && matrix.tiled_rows == matrix.rows) {
    return GroupedMatrix{group_tile({matrix.format, matrix.group}), matrix.rows, matrix.columns,
                         matrix.data};
  }
  if (matrix.tiled_rows > 0) throw Error("internal error: a matrix on a GPU is in the CPU's tiles");
  return PackedMatrix{block_format(matrix.format), matrix.rows, matrix.columns, matrix.data};
}

// What the two have in common. The stream is that of the device that is selected.

std::size_t workspace_bytes(const PackedMatrix& matrix, std::size_t positions) {
  return packed_workspace_bytes(positions, matrix.columns);
}
std::size_t workspace_bytes(const GroupedMatrix& matrix, std::size_t positions) {
  return grouped_workspace_bytes(matrix, positions);
}

void enqueue_product(const PackedMatrix& matrix, const PackedInput& x, void* workspace,
                     const PackedOutput& y, CudaStreamHandle stream) {
  multiply_packed_on_device(matrix, x, workspace, y, stream);
}
void enqueue_product(const GroupedMatrix& matrix, const PackedInput& x, void* workspace,
                     const PackedOutput& y, CudaStreamHandle stream) {
  multiply_grouped_on_device(matrix, x, workspace, y, stream);
}

void enqueue_rows(const PackedMatrix& matrix, const std::int64_t* ids, std::size_t count,
                  const PackedOutput& to, CudaStreamHandle stream) {
  dequantize_rows_on_device(matrix, ids, count, to, stream);
}
void enqueue_rows(const GroupedMatrix& matrix, const std::int64_t* ids, std::size_t count,
                  const PackedOutput& to, CudaStreamHandle stream) {
  grouped_rows_on_device(matrix, {ids, 0, count}, to, stream);
}

// `count` rows from `first` on.
void enqueue_slab(const PackedMatrix& matrix, std::size_t first, std::size_t count,
                  const PackedOutput& to, CudaStreamHandle stream) {
  const BlockSize block = block_size(matrix.format);
  const std::size_t row_blocks = matrix.columns / block.elements;
  const auto* from = static_cast<const std::byte*>(matrix.data) + first * row_blocks * block.bytes;
  dequantize_on_device(from, matrix.format, to.data, to.format, count * row_blocks, stream);
}
void enqueue_slab(const GroupedMatrix& matrix, std::size_t first, std::size_t count,
                  const PackedOutput& to, CudaStreamHandle stream) {
  grouped_rows_on_device(matrix, {nullptr, first, count}, to, stream);
}

CudaStreamHandle current_stream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
}

at::Tensor floats(std::int64_t rows, std::int64_t columns, at::Device device) {
  return at::empty({rows, columns}, at::TensorOptions(at::kFloat).device(device));
}

std::int64_t signed_size(std::size_t size) { return static_cast<std::int64_t>(size); }

template <class AnyMatrix>
at::Tensor multiply_packed(const AnyMatrix& matrix, const at::Tensor& x, at::Device device) {
  const auto positions = static_cast<std::size_t>(x.size(0));
  const at::Tensor input = x.contiguous();
  const at::Tensor workspace = at::empty({signed_size(workspace_bytes(matrix, positions))},
                                         at::TensorOptions(at::kByte).device(device));
  at::Tensor y = floats(x.size(0), signed_size(matrix.rows), device);
  enqueue_product(matrix, {input.const_data_ptr(), float_format(input.scalar_type()), positions},
                  workspace.mutable_data_ptr(), {y.mutable_data_ptr(), FloatFormat::kF32},
                  current_stream(device));
  return y;
}

template <class AnyMatrix>
at::Tensor multiply_slabs(const AnyMatrix& matrix, const at::Tensor& x, at::Device device) {
  const auto rows = signed_size(matrix.rows), columns = signed_size(matrix.columns);
  const at::Tensor input = x.to(at::kBFloat16);
  const std::int64_t at_once = std::clamp<std::int64_t>(kSlabBytes / (2 * columns), 1, rows);
  const at::Tensor slab =
      at::empty({at_once, columns}, at::TensorOptions(at::kBFloat16).device(device));
  at::Tensor y = floats(x.size(0), rows, device);
  for (std::int64_t first = 0; first < rows; first += at_once) {
    const std::int64_t count = std::min(at_once, rows - first);
    enqueue_slab(matrix, static_cast<std::size_t>(first), static_cast<std::size_t>(count),
                 {slab.mutable_data_ptr(), FloatFormat::kBF16}, current_stream(device));
    y.narrow(1, first, count).copy_(at::mm(input, slab.narrow(0, 0, count).t(), at::kFloat));
  }
  return y;
}

}  // namespace

at::Tensor dequantised(const KernelMatrix& weights) {
  const Matrix& matrix = weights.matrix;
  at::Tensor all = floats(signed_size(matrix.rows), signed_size(matrix.columns), weights.where);
  if (weights.where.is_cpu()) {
    for (std::size_t row = 0; row < matrix.rows; ++row) {
      read_row(matrix, row, all.mutable_data_ptr<float>() + row * matrix.columns);
    }
    return all;
  }
  const c10::DeviceGuard guard(weights.where);
  std::visit(
      [&](const auto& packed) {
        enqueue_slab(packed, 0, packed.rows, {all.mutable_data_ptr(), FloatFormat::kF32},
                     current_stream(weights.where));
      },
      on_gpu(matrix));
  return all;
}

at::Tensor rows_of(const KernelMatrix& weights, std::span<const std::int64_t> ids) {
  const Matrix& matrix = weights.matrix;
  at::Tensor rows = floats(signed_size(ids.size()), signed_size(matrix.columns), weights.where);
  if (weights.where.is_cpu()) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      read_row(matrix, static_cast<std::size_t>(ids[i]),
               rows.mutable_data_ptr<float>() + i * matrix.columns);
    }
    return rows;
  }
  const c10::DeviceGuard guard(weights.where);
  const at::Tensor numbers =
      at::from_blob(const_cast<std::int64_t*>(ids.data()), {signed_size(ids.size())}, at::kLong)
          .to(weights.where);
  std::visit(
      [&](const auto& packed) {
        enqueue_rows(packed, numbers.const_data_ptr<std::int64_t>(), ids.size(),
                     {rows.mutable_data_ptr(), FloatFormat::kF32}, current_stream(weights.where));
      },
      on_gpu(matrix));
  return rows;
}

at::Tensor PackedProducts::multiply(const KernelMatrix& weights, const at::Tensor& x) {
  const Matrix& matrix = weights.matrix;
  if (x.dim() != 2 || x.size(1) != signed_size(matrix.columns) || x.device() != weights.where) {
    throw Error("internal error: activations that do not go with a matrix of " +
                std::to_string(matrix.columns) + " columns");
  }
  if (!weights.where.is_cpu()) {
    const c10::DeviceGuard guard(weights.where);
    return std::visit(
        [&](const auto& packed) {
          return x.size(0) <= kPackedRows ? multiply_packed(packed, x, weights.where)
                                          : multiply_slabs(packed, x, weights.where);
        },
        on_gpu(matrix));
  }
  if (team_ == nullptr) team_ = shared_team();
  const at::Tensor input = x.to(at::kFloat).contiguous();
  at::Tensor y = floats(x.size(0), signed_size(matrix.rows), weights.where);
  activations_.set(std::span(input.const_data_ptr<float>(), static_cast<std::size_t>(x.numel())),
                   matrix.columns, matrix.format, ActivationBits::k24);
  const Product product{matrix, nullptr, y.mutable_data_ptr<float>(), matrix.rows};
  berth::multiply(std::span(&product, 1), activations_, *team_);
  return y;
}

}  // namespace berth
