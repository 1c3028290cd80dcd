// Models whose weights are computed and not stored, on emulated devices in host memory.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "berth/loader.h"
#include "berth/model.h"
#include "berth/plan.h"
#include "berth/planner.h"

namespace berth::testing {

// The value of element `index` of tensor `name`: the same as made() in make_expected.py.
float made_weight(const std::string& name, std::uint64_t index);

// Chooses a device for each tensor: an index into kDevices.
using Where = std::function<std::uint32_t(const ModelTensor& tensor, TensorId id)>;
inline const std::vector<std::string> kDevices{"0", "1", "cpu", "disk"};
inline constexpr std::uint32_t kGpu0 = 0, kGpu1 = 1, kCpu = 2, kDisk = 3;

Plan made_plan(const ModelTree& tree, const Where& where);

// Takes the role of a loader: every tensor of `tree` is in host memory; those of GPUs are marked as
// emulated, and those of the disk are only handed out by fetch().
class MadeLoad final : public LoadedModel {
 public:
  MadeLoad(const ModelTree& tree, const Plan& plan);

  const LoadReport& report() const override { return report_; }
  const LoadedTensor& tensor(TensorId id) const override { return tensors_.at(id); }
  HostBlock fetch(TensorId id) const override;
  void check_mapped() const override {}

  // Overwrites element 0 of a tensor.
  void set_first(TensorId id, float value);
  std::size_t fetched() const { return fetched_; }
  std::size_t live_blocks_at_most() const { return most_live_; }

 private:
  std::vector<std::byte> bytes_of(const ModelTensor& tensor) const;

  const ModelTree& tree_;
  LoadReport report_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<LoadedTensor> tensors_;
  mutable std::size_t fetched_ = 0;
  mutable std::size_t most_live_ = 0;
  mutable std::atomic<std::size_t> live_{0};
};

// What data/NAME/expected.txt holds.
struct Expected {
  std::vector<std::int64_t> prompt;
  std::vector<std::int64_t> greedy;
  std::vector<std::vector<float>> logits;  // by position
};
Expected read_expected(const std::string& name);
Model open_made(const std::string& name);  // made from data/NAME/config.json alone

// Reads the tensor `logits` of a safetensors file: [positions][vocabulary].
std::vector<std::vector<float>> read_logits(const std::filesystem::path& file);

}  // namespace berth::testing
