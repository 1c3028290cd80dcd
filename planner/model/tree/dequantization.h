// Plain weights made of quantised ones: the tree of a checkpoint that will be dequantised as it is
// loaded has each `weight` as the unquantised model has it, and remembers what it is made of.
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

// What the stored tensors beside a weight's packed values are for.
enum class QuantRole : std::uint8_t {
  kScale,        // floats, exponents, or codes of a nested quantisation
  kZero,         // zero points
  kOrder,        // the group of each input
  kGlobalScale,  // one for all
  kMap,          // what a code of 4 bits means
  kNestedScale,  // bitsandbytes: scales of the codes in kScale, ...
  kNestedMap,    // what these codes mean, ...
  kState,        // and, in a JSON text, what is added to them
};
inline constexpr std::size_t kQuantRoles = 8;

// How one tensor of the tree is made. Its packed values are ModelTensor::source.
struct Dequantization {
  std::uint32_t scheme = 0;  // index into QuantizedWeights::schemes
  // By QuantRole: index into Checkpoint::tensors; all ones for none, as kNone.
  std::array<std::uint32_t, kQuantRoles> parts{};
  std::uint64_t stored_bytes = 0;  // of the packed values and all parts
  // Host memory beside the packed values while they stream: the parts, and tables made of them.
  std::uint64_t table_bytes = 0;

  std::uint32_t part(QuantRole role) const { return parts[static_cast<std::size_t>(role)]; }
};

// What ModelTree::quantized points to.
struct QuantizedWeights {
  std::vector<QuantScheme> schemes;     // of the tensors that are dequantised, each once
  std::vector<Dequantization> weights;  // by ModelTensor::dequantization
};

// tree.quantized, made where there is none yet.
QuantizedWeights& quantized_weights(ModelTree& tree);

// What `name`, a part of the weight `leaf`, is for; nullopt for what dequantising has no use for:
// scales of activations, shapes.
std::optional<QuantRole> quant_role(const QuantScheme& scheme, const std::string& leaf,
                                    const std::string& name);

// Why a weight of `shape` stored so cannot be turned into a plain one; "" where it can.
std::string dequantization_problem(const QuantScheme& scheme, std::span<const std::uint64_t> shape,
                                   bool transposed);

// Host memory that a part of these sizes needs while its weight streams.
std::uint64_t table_bytes(QuantRole role, std::uint64_t stored_bytes, std::uint64_t elements);

// Index of `scheme` in QuantizedWeights::schemes, added where it is new.
std::uint32_t add_scheme(ModelTree& tree, const QuantScheme& scheme);

// Makes tied tensors what the first of their group became.
void follow_ties(ModelTree& tree);

// Gives FP8 tensors that are stored plainly, without scales, a dequantisation to `dtype`.
void dequantize_plain_fp8(ModelTree& tree, const Checkpoint& checkpoint, DType dtype);

}  // namespace berth
