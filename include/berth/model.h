// A model without its weights: modules and tensors with names, shapes and dtypes, but no storage.
//
// open_model() (planner.h) makes one from config.json and the template of its family, with or
// without a checkpoint; from the names of a checkpoint where there is no template; or from a module
// tree that is written as JSON. Modules stand in the order of registration, as in PyTorch, because
// Accelerate's policies depend on it.
//
// All are values, which many threads may read while none changes them. Copies of a ModelTree share
// the memory of their names, which is freed with the last copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/checkpoint.h"

namespace berth {

// Opaque to programs: a config.json that was read, and how quantised weights are stored.
class ModelConfig;
struct QuantizedWeights;

using ModuleId = std::uint32_t;
using TensorId = std::uint32_t;
inline constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

// A name in a NameArena, or a literal: it cannot be made of a string that may go away too early.
class Name : public std::string_view {
 public:
  constexpr Name() = default;
  template <std::size_t kSize>
  constexpr Name(const char (&literal)[kSize]) : std::string_view(literal) {}  // NOLINT: as text

 private:
  friend class NameArena;
  constexpr explicit Name(std::string_view text) : std::string_view(text) {}
};

// Names end to end in a few large blocks, for whoever builds a ModelTree. A model of sixty thousand
// modules has a hundred thousand dotted names, and most begin with another one: here each is a few
// bytes after the name that it continues, instead of an allocation and a copy.
//
// A name is valid until the arena and all its copies are gone: copies share the blocks. Adding is
// not thread-safe, not even to two copies of one arena.
class NameArena {
 public:
  void reserve(std::size_t bytes);  // makes space for so many more bytes at once
  Name add(std::string_view text);
  // "a.b" and "c" give "a.b.c"; an empty parent, which is the root's name, gives "c".
  Name join(Name parent, std::string_view child);

 private:
  struct Blocks {
    std::vector<std::unique_ptr<char[]>> all;
    char* next = nullptr;  // the free bytes of the last block: from here to `end`
    char* end = nullptr;
  };

  Blocks& blocks();
  char* take(std::size_t bytes);  // so many free bytes, which count as used from then on

  std::shared_ptr<Blocks> blocks_;
};

// Where a tensor is in a ModelTree, and what it is.
struct ModelTensor {
  Name name;                   // full dotted name: "model.norm.weight"; in ModelTree::names
  DType stored = DType::kF32;  // in the checkpoint
  DType dtype = DType::kF32;   // in memory: `stored`, or what open_model() was asked for
  Shape shape;
  ModuleId module = kNone;       // owner
  bool buffer = false;           // else a parameter
  bool rearranged = false;       // stored in another order of elements, so it is never mapped
  bool tiled = false;            // stored in tiles (StoredForm::tiled), and mapped as such
  bool persistent = true;        // false: computed at load, never in a checkpoint (inv_freq)
  std::uint32_t source = kNone;  // index into Checkpoint::tensors; kNone without one
  TensorId tied_to = kNone;      // the tensor it shares storage with (the first of its group)
  // How many parameters it holds, if its shape does not say that: a packed tensor of quantised
  // weights holds many, scales hold none. Such a tensor keeps its stored dtype.
  std::uint64_t values = kAsShaped;
  // If loading makes the tensor from quantised values, an index into ModelTree::quantized; else
  // kNone. `source` is then the tensor of those values, and `stored` its dtype.
  std::uint32_t dequantization = kNone;

  static constexpr std::uint64_t kAsShaped = std::numeric_limits<std::uint64_t>::max();

  // Size in memory. It cannot overflow, because opening the model checks that.
  std::uint64_t bytes() const { return tensor_bytes(dtype, shape).value_or(0); }
  std::uint64_t elements() const;  // parameters of the model that it holds
};

// A module of a ModelTree, as of torch.nn.Module.
struct Module {
  Name name;  // full dotted name; "" is the root's
  Name cls;   // class name: "LlamaDecoderLayer"
  ModuleId parent = kNone;
  std::vector<ModuleId> children;  // registration order
  std::vector<TensorId> tensors;   // direct ones: parameters, then buffers
  bool no_split = false;           // its class must stay on one device
  bool expert = false;             // a mixture-of-experts expert, or the list of them
  std::int8_t stage = 0;           // -1: runs before the blocks, +1: after; 0: as registered
  bool prompt_only = false;        // of an encoder or a tower: runs for the prompt, not for a token
};

// What a decoder block costs besides its weights. What it keeps of each sequence between two
// tokens is the sum of three things, any of which may be nothing: the KV cache of the positions
// that it attends to, that of an encoder's positions, and a state whose size is constant.
struct LayerFacts {
  ModuleId module = kNone;
  std::uint64_t kv_elements = 0;  // in the KV cache, for each position: keys and values, a latent
  std::uint64_t window = 0;       // positions kept: a sliding window or a chunk; 0: all of them
  bool shares_cache = false;      // reads an earlier layer's cache of that size and keeps none
  std::uint64_t cross_elements = 0;  // in the KV cache, of all positions of an encoder together
  std::uint64_t state_bytes = 0;     // of linear attention, state-space models and convolutions
  std::uint64_t experts = 0;         // routed experts in the layer; 0: dense
  std::uint64_t experts_per_token = 0;
  bool prediction = false;  // of multi-token prediction: no layer of the decoder
  // Elements of a key or value head, or their common divisor where the two differ; 0: unknown.
  // Block formats of a KV cache do not cut heads.
  std::uint64_t head_size = 0;
};

// What is known of a model besides its tensors, to estimate memory and time; all zero where it is
// unknown, as without a config.json.
struct ModelFacts {
  std::uint64_t hidden = 0;
  std::uint64_t intermediate = 0;  // widest feed-forward activation of a dense layer
  std::uint64_t vocabulary = 0;
  std::uint64_t heads = 0;
  std::uint64_t max_positions = 0;
  std::vector<LayerFacts> layers;  // one for each decoder block, in order; then of prediction
  ModuleId embedding = kNone;      // module of the input embedding
  ModuleId head = kNone;           // module of the output projection
};

// The whole model. Indices into `modules` are of type ModuleId, those into `tensors` TensorId.
struct ModelTree {
  std::string name;        // for people: folder or file name
  std::string model_type;  // of config.json: "llama"; "" where the tree comes from names or JSON
  NameArena names;         // of modules, classes and tensors
  std::vector<Module> modules;  // modules[0] is the root; parents before children
  std::vector<ModelTensor> tensors;
  std::vector<std::vector<TensorId>> ties;  // groups that share storage, first member first
  ModelFacts facts;
  bool from_names = false;  // spelled by the names of a checkpoint, because there is no template
  std::uint64_t ignored_bytes = 0;  // of stored tensors that the model does not use
  // Those of them that are for multi-token prediction: indices into Checkpoint::tensors.
  std::vector<std::uint32_t> predicted;
  bool predicts = false;           // such tensors are part of the model (Prediction::kLoaded)
  std::string quantization;        // "GPTQ 4-bit"; "" where weights are stored plainly
  std::vector<std::string> notes;  // what a user should know of it, one line each
  // Of a model without a template: what its facts rest on that neither its config nor its tensors
  // tell, a sentence each; `notes` has them, too. Empty where nothing was guessed.
  std::vector<std::string> guesses;
  bool estimated = false;  // even its tensors are guessed, and their names are nobody's
  // What dequantised tensors are made of; null where there are none.
  std::shared_ptr<QuantizedWeights> quantized;

  // Number of parameters, tied ones once, as transformers' num_parameters(). A quantised weight
  // counts as the plain one would; scales and zero points do not count.
  std::uint64_t parameters() const;
  // Bytes in memory of all tensors that a checkpoint stores, tied ones once.
  std::uint64_t bytes() const;
  // Bytes of a tensor in its checkpoint, with the scales of one that is dequantised.
  std::uint64_t stored_bytes(const ModelTensor& tensor) const;
  // The decoder's layers; those of multi-token prediction stand behind them in `facts.layers`.
  std::size_t decoder_layers() const;
  const Module* find_module(std::string_view name) const;  // null where there is none
};

// The units that the planner places, in the order in which they run: embeddings, blocks, norm,
// head. They cover every tensor once. A module that must not be split and a leaf stand for all
// tensors below them; any other unit stands for the tensors that are its own.
std::vector<ModuleId> execution_units(const ModelTree& tree);

// What becomes of quantised weights as they are loaded.
enum class Dequantize : std::uint8_t {
  kNo,      // they stay as they are stored, in several tensors each
  kYes,     // they become plain ones
  kPacked,  // each becomes one tensor that kernels of host memory and GPUs compute with, in MXFP4
            // or a format that exists in memory only; a plain one where no such format can say it
};

// Whether layers of multi-token prediction that a checkpoint stores become part of the model.
// transformers leaves them out.
enum class Prediction : bool { kLeftOut, kLoaded };

// A file that stands beside weights and describes the model (config.json, tokenizer.json): either a
// file that exists, or a text that Berth makes, as it does from the metadata of a GGUF file.
struct Companion {
  std::string name;
  std::filesystem::path from;  // the file that exists; empty if it is a text
  std::string text;            // the text if `from` is empty
};

// A model as open_model() gives it.
struct Model {
  std::filesystem::path path;            // as it was named
  std::optional<Checkpoint> checkpoint;  // absent for a config.json or a tree
  std::shared_ptr<const ModelConfig>
      config;  // its config.json; null for a bare checkpoint or a tree
  ModelTree tree;
  // Of a diffusers pipeline, which is several models: the names of its parts, in the order in which
  // they run. Their tensors are called PART.name, and so are the checkpoint's. Empty for one model.
  std::vector<std::string> components;
};

}  // namespace berth
