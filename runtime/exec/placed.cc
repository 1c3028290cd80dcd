#include "runtime/exec/placed.h"

#include <ATen/Context.h>
#include <ATen/ops/empty_like.h>
#include <dlfcn.h>

#include <string>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

// This library links libtorch_cpu alone, so that a process without a GPU does not pay for CUDA's
// libraries. Where there is a GPU, libtorch_cuda registers its kernels when it is opened. It is in
// the folder of libtorch_cpu, where the run path finds it. It is never closed.
void open_torch_cuda() {
  static void* const library = ::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    throw Error(std::string("computing on a GPU needs libtorch_cuda.so: ") + ::dlerror());
  }
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
}

at::Device cuda_device(const std::string& name) {
  try {
    return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(std::stoi(name))};
  } catch (const std::logic_error&) {  // what std::stoi throws
    throw Error("device " + quote(name) + " of the plan is not the number of a CUDA device");
  }
}

}  // namespace

Placement::Placement(const Plan& plan, const ModelTree& tree, const LoadedModel& loaded) {
  std::vector<bool> real(plan.devices.size(), false);
  for (TensorId id = 0; id < tree.tensors.size(); ++id) {
    if (tree.tensors[id].buffer) continue;  // a buffer is computed, not loaded
    const LoadedTensor& tensor = loaded.tensor(id);
    if (tensor.device < real.size() && tensor.data != nullptr && !tensor.emulated) {
      real[tensor.device] = true;
    }
  }
  for (DeviceIndex i = 0; i < plan.devices.size(); ++i) {
    const DeviceLedger& device = plan.devices[i];
    const bool is_real_gpu = device.kind == DeviceKind::kCuda && real[i];
    if (is_real_gpu) open_torch_cuda();
    devices_.push_back(is_real_gpu ? cuda_device(device.name) : at::Device(c10::DeviceType::CPU));
    compute_.push_back(device.kind == DeviceKind::kDisk ? disk_runner(plan) : i);
  }
}

DeviceIndex Placement::compute_device(DeviceIndex device) const {
  if (device >= compute_.size()) {
    throw Error("device " + std::to_string(device) + " is not one of the plan's");
  }
  return compute_[device];
}

Placed Placement::move(const Placed& tensor, DeviceIndex device) {
  if (tensor.device == device) return tensor;
  ++hops_;
  // A copy also between two emulated devices: they must not share memory, as real ones do not.
  at::Tensor copy = at::empty_like(tensor.value, tensor.value.options().device(devices_[device]),
                                   at::MemoryFormat::Contiguous);
  copy.copy_(tensor.value);
  return {std::move(copy), device};
}

void require_together(std::initializer_list<const Placed*> operands) {
  const Placed* first = *operands.begin();
  for (const Placed* operand : operands) {
    if (operand->device != first->device) {
      throw Error("internal error: an operation mixes devices " + std::to_string(first->device) +
                  " and " + std::to_string(operand->device) + " of the plan");
    }
  }
}

}  // namespace berth
