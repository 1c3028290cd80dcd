// The devices that `auto` may use, in the order in which it turns to them, and the chain as a
// pipeline over them. Private to the sources of this folder.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "planner/cost/inputs.h"
#include "planner/search/candidate.h"
#include "planner/search/pipeline.h"

namespace berth {

struct Tier {
  std::vector<std::uint32_t> devices;  // indices into Machine::devices, the quickest GPU first
  bool host = false;
  bool disk = false;
};

std::vector<Tier> make_tiers(const PlanInputs& inputs);

// What one pipeline assumes beside the devices of its tier.
struct Variant {
  Streaming streaming;             // with buffers kept on its GPU
  bool experts_aside = false;      // experts may stand aside, on the host or the disk
  bool embedding_on_host = false;  // and the rest as is best
  bool copies = false;             // tied units apart, each with its copy
  double host_price = 0;           // ns a byte of host RAM, to ration it
  std::uint64_t host_short = 0;    // bytes of the host that units on disk turned out to need
};

class PipelineBuilder {
 public:
  PipelineBuilder(const PlanInputs& inputs, const Judge& judge) : inputs_(inputs), judge_(judge) {}

  // The devices of a pipeline: the tier's, then those that overrides put units on.
  std::vector<std::uint32_t> devices(const Tier& tier) const;
  Pipeline build(const Tier& tier, const Variant& variant) const;
  // The placement that a solved pipeline stands for. Experts aside fill the host up to its space in
  // order of the chain, then go to the disk.
  Candidate candidate(const Tier& tier, const Variant& variant, const PipelinePlan& plan) const;

  // The device that units on the tier's disk run on, kNone where it has no disk.
  std::uint32_t disk_runner(const Tier& tier) const;
  // Where experts aside may stand in this tier, the host first.
  std::vector<std::uint32_t> sides(const Tier& tier) const;
  // Bytes of one streaming buffer: the largest block, or its experts alone.
  std::uint64_t block_buffer() const;
  std::uint64_t expert_buffer() const;
  // Score, in seconds, of a unit on a device (its experts on `experts`) if it streams as said.
  double score(std::uint32_t unit, std::uint32_t home, std::uint32_t experts,
               const Streaming& streaming) const;
  double hop_score(std::uint32_t from, std::uint32_t to, const Streaming& streaming) const;

 private:
  const PlanInputs& inputs_;
  const Judge& judge_;
};

// Whole nanoseconds, so that sums are exact and ties are ties.
double nanoseconds(double seconds);

}  // namespace berth
