// Tensors that know their device, and the rules for working with them.
//
// Every activation and weight carries a label: the index of its device in Plan::devices. On
// emulated devices all memory is host memory, so the labels are what keeps the devices apart: an
// operation on different labels is an error of this program, and crossing over is always a copy
// through Placement::move. What runs there unmixed runs on real devices too.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "berth/load.h"
#include "berth/plan.h"

namespace berth {

using DeviceIndex = std::uint32_t;  // into Plan::devices

struct Placed {
  at::Tensor value;
  DeviceIndex device = 0;
};

// The devices of a plan as ATen knows them, and the way between them.
class Placement {
 public:
  // Opens libtorch_cuda where a real GPU holds tensors. Throws Error if that is not possible.
  Placement(const Plan& plan, const ModelTree& tree, const LoadedModel& loaded);

  // Where a tensor left on `device` is computed with: the device itself, or for the disk the one
  // that the plan names.
  DeviceIndex compute_device(DeviceIndex device) const;
  at::Device torch_device(DeviceIndex device) const { return devices_[device]; }

  // A copy of `tensor` on `device`; the same tensor where it is there already. Counts a hop.
  Placed move(const Placed& tensor, DeviceIndex device);
  std::uint64_t hops() const { return hops_; }
  void reset_hops() { hops_ = 0; }

 private:
  std::vector<at::Device> devices_;
  std::vector<DeviceIndex> compute_;
  std::uint64_t hops_ = 0;
};

// Throws Error where the operands of one operation are on different devices.
void require_together(std::initializer_list<const Placed*> operands);

}  // namespace berth
