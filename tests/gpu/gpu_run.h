// Runs of models on the first GPU, beside the same in host memory and on the disk.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "berth/loader.h"
#include "berth/planner.h"
#include "cuda/device.h"
#include "runtime/exec/reference_decoder.h"
#include "runtime/generate/executor.h"
#include "runtime/load/environment.h"
#include "tests/program/made_model.h"

namespace berth::testing {

using Logits = std::vector<std::vector<float>>;

struct GpuRun {
  Logits logits;
  std::string kernels;  // what computed
};

// Loads the model as `plan` places it, on a machine with space for it, and generates four tokens
// after a prompt of ids below `vocabulary`. Every tensor must have the bytes that were planned.
// `logits_file` is written on the way.
inline GpuRun run_on_gpu(const Model& model, Plan plan, std::size_t positions,
                         std::int64_t vocabulary, const std::filesystem::path& logits_file) {
  for (DeviceLedger& device : plan.devices) device.capacity = 1u << 30;
  plan.disk_runner = plan.tensor_device[0] == kCpu ? kCpu : kGpu0;
  LoadOptions load_options;
  load_options.tile = true;
  const auto loaded = load(model, plan, load_options, LoadEnvironment{});
  for (TensorId id = 0; id < model.tree.tensors.size(); ++id) {
    EXPECT_EQ(loaded->tensor(id).bytes, model.tree.tensors[id].bytes());
  }
  RunOptions options;
  options.prompt_ids.emplace_back();
  for (std::size_t i = 0; i < positions; ++i) {
    options.prompt_ids[0].push_back(static_cast<std::int64_t>(7 * i) % vocabulary);
  }
  options.new_tokens = 4;
  options.stop_at_end_of_text = false;
  options.open_reference = [] { return &make_reference_decoder; };
  options.logits_file = logits_file;
  const std::string kernels = run(model, plan, *loaded, options).kernels;
  return {read_logits(logits_file), kernels};
}

// The largest difference, as a share of the largest logit.
inline float difference(const Logits& found, const Logits& expected) {
  float most = 0, worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    for (std::size_t k = 0; k < expected[i].size(); ++k) {
      most = std::max(most, std::fabs(expected[i][k]));
      worst = std::max(worst, std::fabs(found.at(i).at(k) - expected[i][k]));
    }
  }
  return worst / most;
}

inline std::uint32_t on_cpu(const ModelTensor&, TensorId) { return kCpu; }
inline std::uint32_t on_gpu(const ModelTensor&, TensorId) { return kGpu0; }
// Some on the GPU, some in host memory, some on the disk.
inline std::uint32_t by_turns(const ModelTensor&, TensorId id) {
  constexpr std::uint32_t kTurns[] = {kGpu0, kCpu, kDisk};
  return kTurns[id % 3];
}

// `run(where, positions)` runs a model: its logits are those of host memory, wherever it is.
template <class Run>
void expect_logits_of_host_memory(const Run& run) {
  const GpuRun expected = run(Where(on_cpu), 9);
  EXPECT_EQ(expected.kernels.find("libtorch"), std::string::npos);
  for (const Where& where : {Where(on_gpu), Where(by_turns)}) {
    const GpuRun found = run(where, 9);
    EXPECT_LT(difference(found.logits, expected.logits), 1e-4F);
    EXPECT_EQ(found.kernels, "libtorch, packed products: weights are on a GPU");
  }
  constexpr std::size_t kMany = 48;  // a long prompt goes through bfloat16
  EXPECT_LT(difference(run(Where(on_gpu), kMany).logits, run(Where(on_cpu), kMany).logits), 5e-2F);
}

}  // namespace berth::testing
