// How trees come to be: from a template, from names, and joined with a checkpoint.
// Internal to the room; build_model_tree() in model_tree.h puts the pieces together.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "planner/checkpoint/name_table.h"
#include "planner/model/template/architecture.h"
#include "planner/model/tree/model_tree.h"

namespace berth {

struct Quantization;

// Limits on what a config or a tree file may ask for, far above any model that exists.
inline constexpr std::uint64_t kMaxModules = 2'000'000;
inline constexpr std::uint64_t kMaxTensors = 2'000'000;
inline constexpr std::int64_t kMaxRepeat = 65'536;

// "a.b" + "c"; the root's name is empty.
std::string join_names(std::string_view parent, std::string_view child);

// Appends a module under `parent` (kNone for the root). `cls` is kept as it is.
// Throws Error over kMaxModules.
ModuleId add_module(ModelTree& tree, ModuleId parent, std::string_view name, Name cls);

// Appends a tensor to its module. Throws Error over kMaxTensors and for a size over 2^63 bytes.
TensorId add_tensor(ModelTree& tree, ModelTensor tensor);

// Ties all tensors of `group` to the first one.
void tie(ModelTree& tree, std::vector<TensorId> group);

// The dtype in memory of a tensor stored as `stored` when --dtype asks for `wanted`.
DType memory_dtype(DType stored, std::optional<DType> wanted);

// Joins a stored tensor to its place: what it is stored as, and what it will be. Blocks of a format
// that would be cut when the tensor is put in its own order are always taken apart, to float16.
void adopt_stored(ModelTensor& tensor, const Checkpoint& checkpoint, std::uint32_t index,
                  std::optional<DType> wanted);

struct BuiltTree {
  ModelTree tree;
  std::vector<std::string> ignored;  // globs of stored names that the model does not use
  NameTable by_name{0};              // persistent tensors; filled by index_names()
};

// Fills `by_name`, unless that was done before.
void index_names(BuiltTree& built);

// What a config says alone, before any checkpoint is looked at.
struct Skeleton {
  std::unique_ptr<Architecture> architecture;  // null: a family without a template, nothing built
  BuiltTree built;
};
// `expected_tensors`: how many the checkpoint will bring, about; 0 where there is none to join.
Skeleton build_skeleton(const ModelConfig& config, std::optional<DType> dtype,
                        std::size_t expected_tensors = 0);

// The tree of a skeleton and a checkpoint; see build_model_tree() for what may be null.
ModelTree join_model_tree(Skeleton skeleton, const std::string& name, const ModelConfig* config,
                          const Checkpoint* checkpoint, std::optional<DType> dtype,
                          Dequantize dequantize);

// The tree that `architecture` spells for `config`, dtypes as the config says. `expected_tensors`
// is a hint that saves growing.
BuiltTree build_from_template(const Architecture& architecture, const ModelConfig& config,
                              std::optional<DType> dtype, std::size_t expected_tensors = 0);

// Gives the tree's tensors their stored form. Throws Error for tensors missing on either side and
// for shapes that differ; see build_model_tree().
void match_checkpoint(BuiltTree& built, const Architecture& architecture, const ModelConfig& config,
                      const Quantization& quantization, const Checkpoint& checkpoint,
                      std::optional<DType> dtype);

// "[2, 3]"
std::string shape_text(std::span<const std::uint64_t> shape);

// The tree that the names spell. `config` may be null; it fills facts where it has common keys.
ModelTree build_from_names(const Checkpoint& checkpoint, const ModelConfig* config,
                           std::optional<DType> dtype);

}  // namespace berth
