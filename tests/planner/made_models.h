// Small models and machines made up for tests of the planner, and what must hold for every plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

inline constexpr std::uint64_t kMiB = 1ull << 20;
inline constexpr std::uint64_t kGiB = 1ull << 30;

Device gpu(const std::string& name, std::uint64_t capacity, double bandwidth = 1e12);

// A machine with a cpu and a disk if they are given bytes; defaults are filled in.
Machine machine_of(std::vector<Device> gpus, std::uint64_t host, std::uint64_t disk);

// Adds a NUMA node to the machine's host RAM, with links to the first one.
void add_node(Machine& machine, std::uint64_t capacity, double bandwidth);

struct MadeShape {
  std::uint64_t layers = 4;
  std::uint64_t hidden = 1024;
  std::uint64_t layer_bytes = 64 * kMiB;
  std::uint64_t vocabulary = 8192;
  std::uint64_t kv_elements = 512;
  std::uint64_t window = 0;
  bool tied = false;
  std::uint64_t experts = 0;  // in each layer but the first `dense_layers`; two to a token
  std::uint64_t dense_layers = 0;
  // Of so many layers the last is unlike the others: it has so many percent of their bytes, keeps
  // all positions where they have a window, and a KV cache where they have a state. 0: none is.
  std::uint64_t unlike_every = 0;
  std::uint64_t unlike_percent = 100;
  std::uint64_t state_bytes = 0;  // of a sequence, in place of a KV cache
};

// embed, layers.N.{attn, mlp}, norm, head: bfloat16. With experts: layers.N.mlp.{gate, experts}.
ModelTree model_of(const MadeShape& shape);

std::string device_of(const ModelTree& tree, const Plan& plan, const std::string& tensor);

// What must hold for every plan, whatever the policy.
void expect_sound(const ModelTree& tree, const Plan& plan, const std::string& what);
// Every unit is on one device, or its experts are on one device and the rest of it on another.
void expect_whole(const ModelTree& tree, const Plan& plan, const std::string& what);

}  // namespace berth
