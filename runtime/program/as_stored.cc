#include "runtime/program/as_stored.h"

#include <algorithm>

#include "planner/base/quote.h"
#include "runtime/kernels/matrix.h"

namespace berth {
namespace {

bool is_plain(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

bool is_weight(const ModelTensor& tensor) { return !tensor.buffer && tensor.persistent; }

}  // namespace

bool needs_own_kernels(const ModelTree& tree) {
  const auto first = std::find_if(tree.tensors.begin(), tree.tensors.end(), is_weight);
  return std::any_of(first, tree.tensors.end(), [&](const ModelTensor& tensor) {
    return is_weight(tensor) && (!is_plain(tensor.dtype) || tensor.dtype != first->dtype);
  });
}

std::string why_not_as_stored(const ModelTree& tree, const Family& family) {
  for (const ModelTensor& tensor : tree.tensors) {
    if (!is_weight(tensor) || is_plain(tensor.dtype)) continue;
    const std::string what =
        "tensor " + quote(tensor.name) + " is " + std::string(dtype_name(tensor.dtype));
    if (!matrix_format(tensor.dtype)) return what + ", which has no kernel here";
    const bool experts = tensor.shape.size() == 3 && tensor.dequantization != kNone &&
                         family.mixture.layout == ExpertLayout::kFusedTransposed;
    if (experts) continue;  // the load turns them
    if (tensor.shape.size() != 2) return what + ", which kernels take as a matrix only";
    if (family.transposed_weights) {
      return what + ", and " + std::string(family.model_type) + " computes with its transpose";
    }
  }
  return "";
}

}  // namespace berth
