// Tensors that know their device, and the rules for working with them.
//
// Every activation and weight carries a label: the index of its device in Plan::devices. The memory
// of emulated devices is all host memory, so only the labels keep the devices apart: to operate on
// tensors with different labels is an error in this program, and a tensor gets to another device
// only as a copy by Placement::move(). So what runs on emulated devices mixes no devices, and runs
// on real ones, too.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "berth/load.h"
#include "berth/plan.h"
#include "runtime/program/weights.h"

namespace berth {

struct Placed {
  at::Tensor value;
  DeviceIndex device = 0;
};

// The devices of a plan as ATen knows them, and the way between them.
class Placement {
 public:
  // Opens libtorch_cuda where a real GPU holds tensors. Throws Error where that fails.
  Placement(const Plan& plan, const ModelTree& tree, const LoadedModel& loaded);

  // The device that computes with tensors on `device`: the same one, or for the disk the one that
  // the plan names.
  DeviceIndex compute_device(DeviceIndex device) const;
  at::Device torch_device(DeviceIndex device) const { return devices_[device]; }

  // Returns a copy of `tensor` on `device`, and counts a hop; where the tensor is there already,
  // returns it and counts nothing.
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
