// The steps that every way to build a ModelTree uses: adding modules and tensors, tying tensors,
// and joining a tensor to what a checkpoint stores. Not part of the public interface.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/model.h"

namespace berth {

// Limits on what a config or a tree file may ask for, far above any model that exists.
inline constexpr std::uint64_t kMaxModules = 2'000'000;
inline constexpr std::uint64_t kMaxTensors = 2'000'000;
inline constexpr std::int64_t kMaxRepeat = 65'536;

// Joins "a.b" and "c" with a dot. The root's name is empty.
std::string join_names(std::string_view parent, std::string_view child);

// Appends a module under `parent` (kNone for the root). The tree keeps `cls` as it is, without
// copying its text. Throws Error over kMaxModules.
ModuleId add_module(ModelTree& tree, ModuleId parent, std::string_view name, Name cls);

// Appends a tensor to its module. Throws Error over kMaxTensors, and for a size over 2^63 bytes.
TensorId add_tensor(ModelTree& tree, ModelTensor tensor);

// Ties all tensors of `group` to the first one.
void tie(ModelTree& tree, std::vector<TensorId> group);

// The dtype in memory of a tensor that is stored as `stored`, if --dtype asks for `wanted`.
DType memory_dtype(DType stored, std::optional<DType> wanted);

// Joins a tensor of the tree to the stored tensor `index`: sets what it is stored as, and which
// dtype it will have in memory. If putting the tensor into its own order would cut blocks of a
// block format, it is always decoded, to float16 unless another dtype is wanted. Throws Error, and
// names the tensor, if its block format cannot be decoded and would have to be.
void adopt_stored(ModelTensor& tensor, const Checkpoint& checkpoint, std::uint32_t index,
                  std::optional<DType> wanted);

// Writes a shape for messages: "[2, 3]".
std::string shape_text(std::span<const std::uint64_t> shape);

}  // namespace berth
