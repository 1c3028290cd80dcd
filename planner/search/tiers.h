// The tiers of devices that `auto` tries one after another, and the chain as a pipeline
// (pipeline.h) over the devices of a tier.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "planner/cost/inputs.h"
#include "planner/search/candidate.h"
#include "planner/search/pipeline.h"

namespace berth {

struct Tier {
  std::vector<std::uint32_t> devices;  // indices into Machine::devices, the preferred GPU first
  bool host = false;                   // the host is among them
  bool disk = false;                   // the disk is among them
};

// The tiers in order: GPUs of the highest priority, one tier more for each lower priority, then
// with the CPU, then with the disk. Each contains those before it. Only GPUs if the request says
// never_offload. Of equal priority, GPUs with more memory bandwidth come first.
std::vector<Tier> make_tiers(const PlanInputs& inputs);

// What a pipeline assumes beside the devices of its tier.
struct Variant {
  Streaming streaming;             // with stream buffers kept free on its GPU
  bool experts_aside = false;      // experts may stand aside, on the host or the disk
  bool embedding_on_host = false;  // the input embedding is fixed there
  bool copies = false;             // tied units each bring their own copy
  double host_price = 0;           // ns that each byte of host RAM costs, to ration it
  std::uint64_t host_short = 0;    // bytes to leave free where units on the disk run
};

// Turns the chain into pipelines and solved pipelines into candidates. Keeps references to both
// arguments. Const methods may be called by several threads.
class PipelineBuilder {
 public:
  PipelineBuilder(const PlanInputs& inputs, const Judge& judge) : inputs_(inputs), judge_(judge) {}

  // The devices of a pipeline, as indices into Machine::devices: the tier's, then those that
  // overrides put units on.
  std::vector<std::uint32_t> devices(const Tier& tier) const;
  // The pipeline, its devices in that order.
  Pipeline build(const Tier& tier, const Variant& variant) const;
  // The placement that a solved pipeline stands for. Experts aside go to the host, in order of the
  // chain, as long as it has space for them, and else to the disk.
  Candidate candidate(const Tier& tier, const Variant& variant, const PipelinePlan& plan) const;

  // The device that units on the tier's disk run on; kNone if the tier has no disk.
  std::uint32_t disk_runner(const Tier& tier) const;
  // Where experts aside may stand in this tier, the host first.
  std::vector<std::uint32_t> sides(const Tier& tier) const;
  // Bytes of one stream buffer that takes any block, or any block's experts alone.
  std::uint64_t block_buffer() const;
  std::uint64_t expert_buffer() const;
  // Seconds that a unit adds to the score if it is on `home`, its experts on `experts`, and
  // `streaming` is used. What streams is taken to need the longer of copying and computing.
  double score(std::uint32_t unit, std::uint32_t home, std::uint32_t experts,
               const Streaming& streaming) const;
  double hop_score(std::uint32_t from, std::uint32_t to, const Streaming& streaming) const;

 private:
  const PlanInputs& inputs_;
  const Judge& judge_;
};

// `seconds` in whole nanoseconds, so that sums are exact and equal costs compare as equal. Capped
// at 4e6 seconds, which a double still holds exactly.
double nanoseconds(double seconds);

}  // namespace berth
