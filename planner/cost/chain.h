// The chain of units that the planner places: what runs one after another, and for each unit the
// bytes of its weights and KV cache and the figures that its time follows from. Also which units
// must share a device, and which share storage. All functions are pure.
//
// A unit is one entry of execution_units(): an embedding, a decoder block, a norm, the head. A
// block with a mixture of experts has two pieces, which `auto` may put on different devices: the
// routed experts, of which a token reads a few, and the rest (attention, router, shared experts,
// norms), which every token reads whole. To split the rest further would gain nothing, as every
// byte of it saves the same time on a faster device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

// What products with a matrix are measured by.
struct WeightFormat {
  std::string name;   // weight_format_name()
  bool wide = false;  // more columns than KernelRates::kNarrow

  bool operator==(const WeightFormat&) const = default;
};

// Bytes of a unit's matrices in one format of weights.
struct FormatBytes {
  std::uint32_t format = 0;   // index into Chain::formats
  std::uint64_t dense = 0;    // of Unit::dense_bytes
  std::uint64_t experts = 0;  // of Unit::expert_bytes

  bool operator==(const FormatBytes&) const = default;
};

struct Unit {
  ModuleId module = kNone;
  std::vector<TensorId> tensors;  // all tensors of the unit
  TensorId anchor = kNone;        // the first that is no routed expert: the unit runs where it is
  std::uint64_t weights = 0;      // bytes in memory; tied storage counts in the first unit only
  std::uint64_t tied = 0;         // bytes that a copy of such storage would add here
  std::uint64_t experts = 0;      // bytes of the routed experts among `weights`; 0: a single piece
  std::uint64_t computed = 0;     // bytes of buffers that no checkpoint stores
  std::uint64_t kv_bytes = 0;     // bytes of KV cache of the whole workload, states included
  std::uint64_t kv_position = 0;  // bytes of KV cache a position, all sequences of the batch
  std::uint64_t kv_window = 0;    // positions that a token attends to at most
  std::uint64_t kv_constant = 0;  // bytes of `kv_bytes` that every token reads, however few precede
  std::uint64_t activation = 0;   // bytes of workspace while it runs
  std::uint64_t logits = 0;       // bytes of further workspace: of the head, for its logits
  std::uint64_t dense_bytes = 0;  // bytes of weights that every token reads
  std::uint64_t expert_bytes = 0;  // bytes of weights of routed experts
  std::uint64_t row_bytes = 0;     // of an input embedding: bytes of the one row a token reads
  // How many products one after another a pass makes with dense weights, those of one input being
  // one product, and with the weights of one expert.
  double products = 0;
  double expert_products = 0;
  std::vector<FormatBytes> formats;  // of matrices, so without norms and biases
  double elements = 0;               // parameters that every token is multiplied with
  double expert_elements = 0;        // parameters of all routed experts
  double routed_prompt = 1;          // share of the experts that the whole prompt reads, 0 to 1
  double routed_token = 1;           // share that one decoding step of the batch reads, 0 to 1
  double experts_fraction = 0;       // experts that one token uses / all experts
  std::uint64_t expert_count = 1;    // routed experts: they are read and streamed one by one
  double attention_width = 0;        // hidden size where the unit attends, else 0
  bool block = false;                // a decoder block
  bool head = false;                 // the output projection: it runs for a prompt's last position
  bool prompt_only = false;          // of an encoder or a tower: no token runs it
};

struct Chain {
  std::vector<Unit> units;                         // in execution order
  std::vector<std::uint32_t> unit_of;              // by TensorId
  std::vector<std::uint64_t> bytes;                // by TensorId: bytes in memory
  std::vector<std::uint8_t> expert;                // by TensorId: 1 where is_expert_tensor()
  std::vector<std::uint32_t> layer_unit;           // by index into ModelFacts::layers
  std::vector<std::vector<std::uint32_t>> joined;  // groups of units that must share a device
  std::vector<std::vector<std::uint32_t>> tied;    // groups of units that share storage
  std::uint64_t activation_bytes = 2;              // width of an activation element
  std::vector<WeightFormat> formats;               // of matrices
  std::string weight_dtype;                        // torch's name of the dtype of most bytes
  double kv_element = 2;                           // bytes of an element of the KV cache
  double hidden = 0;                               // width of what units hand on
  bool known = false;                              // whether the model's facts are known
};

// The workload with its defaults filled in for this model; berth/plan.h says which.
Workload fill_workload(const ModelTree& tree, const Workload& asked);

// The chain of `tree`. `no_split`: globs over names and classes of modules; all units below such a
// module share a device and are not split into pieces. Throws Error for a glob that matches
// nothing.
Chain make_chain(const ModelTree& tree, const Workload& workload,
                 const std::vector<std::string>& no_split = {});

// Whether two units cost the same wherever they stand, as all their figures are equal. Most layers
// of a model are alike, so that callers work such units out once.
bool cost_alike(const Unit& a, const Unit& b);

// The size of a buffer that a unit, or a piece of it, is read from the disk or streamed through:
// the `dense` bytes come at once, the `experts` bytes one expert at a time.
std::uint64_t buffer_bytes(const Unit& unit, std::uint64_t dense, std::uint64_t experts);

// Whether a tensor belongs to a routed expert: the module of an expert is above it.
bool is_expert_tensor(const ModelTree& tree, TensorId tensor);

// Bytes of workspace of one decoder block while a prompt goes through it: batch x prompt x (4 x
// hidden + 3 x intermediate) elements of `activation_bytes` for residual, q/k/v, attention output
// and the gated feed-forward, and batch x heads x min(prompt, 512) x prompt x 4 bytes of attention
// scores for a tile of 512 queries.
std::uint64_t activation_workspace(const ModelFacts& facts, const Workload& workload,
                                   std::uint64_t activation_bytes);

// Bytes of workspace of the head: the logits of each sequence's last position, once in the dtype
// they are computed in and once in float32.
std::uint64_t logits_workspace(const ModelFacts& facts, const Workload& workload,
                               std::uint64_t activation_bytes);

}  // namespace berth
