// The meta skeleton: a model's modules and tensors with names, shapes and dtypes but no storage.
//
// Modules stand in registration order, as in PyTorch, because Accelerate's policies depend on it.
// A ModelTree is built from a template and config.json (with or without a checkpoint), from the
// names of a checkpoint without a template, or from a module tree written as JSON.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"
#include "berth/name_arena.h"

namespace berth {

class ModelConfig;        // planner/model/tree/config.h
struct QuantizedWeights;  // planner/model/tree/dequantization.h

using ModuleId = std::uint32_t;
using TensorId = std::uint32_t;
inline constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

struct ModelTensor {
  Name name;  // in ModelTree::names: full dotted name in the tree: "model.norm.weight"
  DType stored = DType::kF32;  // in the checkpoint
  DType dtype = DType::kF32;   // in memory: `stored`, or what --dtype asks for
  Shape shape;
  ModuleId module = kNone;       // owner
  bool buffer = false;           // else a parameter
  bool rearranged = false;       // stored in another form, so never used where it stands in a file
  bool persistent = true;        // false: computed at load, never in a checkpoint (inv_freq)
  std::uint32_t source = kNone;  // index into Checkpoint::tensors; kNone without one
  TensorId tied_to = kNone;      // the tensor it shares storage with (the first of its group)
  // Parameters that it holds where that is not what its shape says, as in quantised weights: many
  // in a packed tensor, none in scales. Such a tensor keeps its stored dtype whatever --dtype says.
  std::uint64_t values = kAsShaped;
  // Index into QuantizedWeights::weights where it is made of quantised values as it is loaded;
  // `source` are these, and `stored` is their dtype, which says nothing of their number.
  std::uint32_t dequantization = kNone;

  static constexpr std::uint64_t kAsShaped = std::numeric_limits<std::uint64_t>::max();

  // In memory; never wraps: checked when the tree is built.
  std::uint64_t bytes() const { return tensor_bytes(dtype, shape).value_or(0); }
  std::uint64_t elements() const;  // parameters of the model that it holds
};

struct Module {
  Name name;  // in ModelTree::names: full dotted name; "" is the root
  Name cls;   // there too; class name: "LlamaDecoderLayer"
  ModuleId parent = kNone;
  std::vector<ModuleId> children;  // registration order
  std::vector<TensorId> tensors;   // direct ones: parameters, then buffers
  bool no_split = false;           // its class must stay on one device
  bool expert = false;             // a mixture-of-experts expert, or the list of them
  std::int8_t stage = 0;           // -1: runs before the blocks, +1: after; 0: as registered
};

// What one layer costs besides its weights; one entry per decoder block, in order.
struct LayerFacts {
  ModuleId module = kNone;
  std::uint64_t kv_elements = 0;  // cached per position: 2 x kv_heads x head_dim, or MLA's latent
  std::uint64_t window = 0;       // sliding window in positions; 0: full attention
  std::uint64_t experts = 0;      // routed experts in the layer; 0: dense
  std::uint64_t experts_per_token = 0;
};

// Figures for the memory and time models; all zero where unknown (no config, fallback tree).
struct ModelFacts {
  std::uint64_t hidden = 0;
  std::uint64_t intermediate = 0;  // widest feed-forward activation of a dense layer
  std::uint64_t vocabulary = 0;
  std::uint64_t heads = 0;
  std::uint64_t max_positions = 0;
  std::vector<LayerFacts> layers;
  ModuleId embedding = kNone;  // module of the input embedding
  ModuleId head = kNone;       // module of the output projection
};

struct ModelTree {
  std::string name;             // for people: folder or file name
  std::string model_type;       // "llama"; "" for a fallback or JSON tree
  NameArena names;              // of modules, classes and tensors
  std::vector<Module> modules;  // modules[0] is the root; parents before children
  std::vector<ModelTensor> tensors;
  std::vector<std::vector<TensorId>> ties;  // groups that share storage, first member first
  ModelFacts facts;
  std::uint64_t ignored_bytes = 0;  // stored tensors the model does not use (attention masks)
  std::string quantization;         // "GPTQ 4-bit"; "" where weights are stored plainly
  std::vector<std::string> notes;   // oddities of the model worth a line
  // What the tensors that are dequantised are made of; null where none is.
  std::shared_ptr<QuantizedWeights> quantized;

  // Unique parameters, tied ones once: transformers' num_parameters(). Quantised weights count what
  // they stand for, scales and zero points do not count.
  std::uint64_t parameters() const;
  // Bytes in memory of all tensors that a checkpoint stores, tied ones once.
  std::uint64_t bytes() const;
  // Bytes of a tensor in its checkpoint; of a dequantised one, with its scales.
  std::uint64_t stored_bytes(const ModelTensor& tensor) const;
  const Module* find_module(std::string_view name) const;
};

// Modules that run one after another, in execution order: embeddings, blocks, norm, head. They
// cover every tensor once; each is a no-split module or a leaf, which stand for all below them, or
// another module with direct tensors, which stands for those alone.
std::vector<ModuleId> execution_units(const ModelTree& tree);

// Whether quantised weights become plain ones, as the unquantised model has them, or stay as they
// are stored.
enum class Dequantize : bool { kNo, kYes };

// A file that stands beside weights and describes the model (config.json, tokenizer.json): one that
// is there, or a text of our own, as GGUF's metadata gives it.
struct Companion {
  std::string name;
  std::filesystem::path from;  // the file; empty where it is a text
  std::string text;            // else
};

// A model as a command names it.
struct Model {
  std::filesystem::path path;
  std::optional<Checkpoint> checkpoint;  // absent for a config.json or a tree
  std::shared_ptr<const ModelConfig>
      config;  // its config.json; null for a bare checkpoint or a tree
  ModelTree tree;
};

}  // namespace berth
