#include "cli/report/planned.h"

#include <fmt/format.h>

#include <algorithm>

#include "planner/machine/sizes.h"

namespace berth {

std::string device_label(const DeviceLedger& device) {
  return is_gpu(device.kind) ? "gpu " + device.name : device.name;
}

std::string fits_words(const Plan& plan) {
  return plan.guessed ? "fits by these estimates" : "fits";
}

std::string shortfall_sentence(const Plan& plan) {
  std::string sentence = fmt::format("does not fit: short by {}",
                                     format_size(plan.shortfall ? plan.shortfall->bytes : 0));
  const auto worst = std::max_element(
      plan.devices.begin(), plan.devices.end(),
      [](const DeviceLedger& a, const DeviceLedger& b) { return a.over < b.over; });
  if (worst != plan.devices.end() && worst->over > 0) {
    sentence += " on " + device_label(*worst);
  }
  return sentence;
}

}  // namespace berth
