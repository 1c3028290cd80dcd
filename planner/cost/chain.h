// The chain of units that the planner places: what runs one after another, with what each unit
// weighs, caches and costs. Also which units must share a device, and which are spoken for.
//
// A unit is one entry of execution_units(): an embedding, a decoder block, a norm, the head. A
// block with a mixture of experts has two pieces, which `auto` may part: the routed experts, of
// which a token reads a few, and everything else (attention, router, shared experts, norms), which
// it reads whole. Nothing is gained by parting that again: all of it is worth the same a byte.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

struct Unit {
  ModuleId module = kNone;
  std::vector<TensorId> tensors;   // all that the unit stands for
  TensorId anchor = kNone;         // its first tensor that is no routed expert: where the unit runs
  std::uint64_t weights = 0;       // bytes in memory; tied storage counts in the first unit only
  std::uint64_t tied = 0;          // bytes that a copy of such storage would add here
  std::uint64_t experts = 0;       // of `weights`: the piece of routed experts; 0: one piece
  std::uint64_t computed = 0;      // buffers that no checkpoint stores
  std::uint64_t kv_bytes = 0;      // KV cache of the whole workload
  std::uint64_t kv_position = 0;   // bytes of KV cache a position, all sequences of the batch
  std::uint64_t kv_window = 0;     // positions that a token attends to at most
  std::uint64_t activation = 0;    // workspace while it runs
  std::uint64_t logits = 0;        // further workspace of the head
  std::uint64_t dense_bytes = 0;   // weights that every token reads
  std::uint64_t expert_bytes = 0;  // weights of routed experts
  std::uint64_t row_bytes = 0;     // of an input embedding: what one token reads instead
  double elements = 0;             // parameters that every token multiplies with
  double expert_elements = 0;      // the same of all routed experts
  double routed_prompt = 1;        // share of the experts that the whole prompt reads, 0 to 1
  double routed_token = 1;         // the same of one decoding step
  double experts_fraction = 0;     // experts a token uses / experts
  std::uint64_t expert_count = 1;  // routed experts: they are read and streamed one by one
  double attention_width = 0;      // hidden size where the unit attends, else 0
  bool block = false;              // a decoder block
  bool head = false;               // the output projection: of a prompt it sees the last position
};

struct Chain {
  std::vector<Unit> units;                         // in execution order
  std::vector<std::uint32_t> unit_of;              // by TensorId
  std::vector<std::uint64_t> bytes;                // by TensorId: in memory
  std::vector<std::uint8_t> expert;                // by TensorId: 1 where is_expert_tensor()
  std::vector<std::uint32_t> layer_unit;           // by index into ModelFacts::layers
  std::vector<std::vector<std::uint32_t>> joined;  // units that must share a device, two or more
  std::vector<std::vector<std::uint32_t>> tied;    // units that share storage where they share one
  std::uint64_t activation_bytes = 2;              // width of an activation element
  std::string weight_dtype;                        // torch's name of the dtype of most bytes
  bool known = false;                              // the model's facts are known
};

// The workload with its defaults filled in for this model (plan.h says which).
Workload fill_workload(const ModelTree& tree, const Workload& asked);

// `no_split`: globs over names and classes of modules whose units stay whole, and together.
Chain make_chain(const ModelTree& tree, const Workload& workload,
                 const std::vector<std::string>& no_split = {});

// Whether two units cost the same wherever they stand: all figures agree, whatever modules and
// tensors are behind them. A chain is mostly runs of such units.
bool cost_alike(const Unit& a, const Unit& b);

// Bytes in flight while a piece of a unit is read from the disk or streamed: `dense` bytes at once,
// of `experts` bytes one expert at a time.
std::uint64_t buffer_bytes(const Unit& unit, std::uint64_t dense, std::uint64_t experts);

// What of a tensor counts as routed experts: it is below a module that is one.
bool is_expert_tensor(const ModelTree& tree, TensorId tensor);

// Bytes of KV cache that one layer needs for the workload:
// kv_elements x min(context, window) x batch x bytes an element.
std::uint64_t kv_cache_bytes(const LayerFacts& layer, const Workload& workload);

// Workspace of one decoder block while a prompt goes through it, all in the activation dtype:
// batch x prompt x (4 x hidden + 3 x intermediate) for residual, q/k/v, attention output and the
// gated feed-forward, and batch x heads x min(prompt, 512) x prompt x 4 bytes of attention scores
// for a tile of 512 queries.
std::uint64_t activation_workspace(const ModelFacts& facts, const Workload& workload,
                                   std::uint64_t activation_bytes);

// The head's: the last position's logits of each sequence, as computed and in float32.
std::uint64_t logits_workspace(const ModelFacts& facts, const Workload& workload,
                               std::uint64_t activation_bytes);

}  // namespace berth
