// Plain weights that are made from quantised ones. If a checkpoint will be dequantised as it is
// loaded, its tree has each `weight` as the unquantised model has it, and remembers which stored
// tensors it is made of.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/model.h"
#include "planner/model/tree/quant_format.h"

namespace berth {

// What a stored tensor beside a weight's packed values is for.
enum class QuantRole : std::uint8_t {
  kScale,        // floats, exponents, or codes of a nested quantisation
  kZero,         // zero points
  kOrder,        // which group each input belongs to
  kGlobalScale,  // one scale for the whole weight
  kMap,          // which value each 4-bit code stands for
  kNestedScale,  // bitsandbytes: scales of the codes in kScale,
  kNestedMap,    // which value each of these codes stands for,
  kState,        // and a JSON text that says what to add to them
};
inline constexpr std::size_t kQuantRoles = 8;

// How one tensor of the tree is made. Its packed values are ModelTensor::source.
struct Dequantization {
  std::uint32_t scheme = 0;  // index into QuantizedWeights::schemes
  // By QuantRole: index into Checkpoint::tensors; kNone (all bits set) if there is no such part.
  std::array<std::uint32_t, kQuantRoles> parts{};
  std::uint64_t stored_bytes = 0;  // of the packed values and all parts together
  // Host memory that is needed beside the packed values while they stream: the parts, and the
  // tables that are made from them.
  std::uint64_t table_bytes = 0;

  std::uint32_t part(QuantRole role) const { return parts[static_cast<std::size_t>(role)]; }
};

// What ModelTree::quantized points to.
struct QuantizedWeights {
  std::vector<QuantScheme> schemes;     // of the tensors that are dequantised, each once
  std::vector<Dequantization> weights;  // by ModelTensor::dequantization
};

// Returns tree.quantized, which is created if there is none yet.
QuantizedWeights& quantized_weights(ModelTree& tree);

// What the tensor `name`, a part of the weight `leaf`, is for. Returns nullopt for a part that
// dequantising does not use: scales of activations, shapes.
std::optional<QuantRole> quant_role(const QuantScheme& scheme, const std::string& leaf,
                                    const std::string& name);

// Says why a weight of `shape` that is stored this way cannot be turned into a plain one; "" if it
// can.
std::string dequantization_problem(const QuantScheme& scheme, std::span<const std::uint64_t> shape,
                                   bool transposed);

// The format in which kernels of host memory and GPUs compute with a weight of `shape` that is
// stored as `packed` in this way: one that says the same codes, scales and zero points. Nothing
// where there is none: other codes, rows that do not fill tiles of 16, groups that 32 does not
// divide. Inputs must be in the order of their groups.
std::optional<DType> grouped_dtype(const QuantScheme& scheme, DType packed,
                                   std::span<const std::uint64_t> shape);

// Throws Error for a part of a quantised weight that is a strided view of a PyTorch file: the
// kernels read parts as they are stored.
void require_in_order(const Checkpoint& checkpoint, std::uint32_t tensor);

// Host memory in bytes that a part of these sizes needs while its weight streams.
std::uint64_t table_bytes(QuantRole role, std::uint64_t stored_bytes, std::uint64_t elements);

// Index of `scheme` in QuantizedWeights::schemes; adds it if it is not there.
std::uint32_t add_scheme(ModelTree& tree, const QuantScheme& scheme);

// Gives tied tensors the dtype and dequantisation that the first of their group received.
void follow_ties(ModelTree& tree);

// Gives a dequantisation to `dtype` to every FP8 tensor that is stored plainly, without scales; or,
// if `grouped`, to grouped_dtype() where there is one.
void dequantize_plain_fp8(ModelTree& tree, const Checkpoint& checkpoint, DType dtype, bool grouped);

}  // namespace berth
