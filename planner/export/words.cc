#include "planner/export/words.h"

#include <utility>

#include "planner/base/join.h"

namespace berth {

std::vector<std::uint64_t> layers_on(const LayerHomes& homes,
                                     const std::vector<std::uint32_t>& gpus) {
  std::vector<std::uint64_t> counts(gpus.size(), 0);
  for (const LayerHome& layer : homes.layers) {
    for (std::size_t g = 0; g < gpus.size(); ++g) counts[g] += layer.home() == gpus[g] ? 1 : 0;
  }
  return counts;
}

std::string numbers(const std::vector<std::uint64_t>& counts) {
  return join(counts, ",", [](std::uint64_t count) { return std::to_string(count); });
}

bool is_usual_order(const Plan& plan, const std::vector<std::uint32_t>& gpus) {
  std::vector<std::uint32_t> all;
  for (std::uint32_t d = 0; d < plan.devices.size(); ++d) {
    if (is_gpu(plan.devices[d].kind)) all.push_back(d);
  }
  for (std::size_t g = 0; g < all.size(); ++g) {
    if (plan.devices[all[g]].name != std::to_string(g)) return false;
  }
  return gpus == all;
}

// Cuts each run of numbers into ranges in which one digit varies from d to e and all digits after
// it are free: 3-60 becomes 3-9, 10-59, 60.
std::string number_pattern(const std::vector<std::uint64_t>& numbers) {
  std::vector<std::string> ranges;
  for (std::size_t i = 0; i < numbers.size();) {
    std::uint64_t low = numbers[i];
    std::size_t next = i + 1;
    while (next < numbers.size() && numbers[next] == numbers[next - 1] + 1) ++next;
    const std::uint64_t high = numbers[next - 1];
    while (low <= high) {
      std::uint64_t block = 1;
      std::size_t free = 0;
      while (low > 0 && low % (block * 10) == 0 && low + block * 10 - 1 <= high) {
        block *= 10;
        ++free;
      }
      const std::uint64_t digit = low / block % 10;
      std::uint64_t last = digit;
      while (last < 9 && low + (last - digit + 2) * block - 1 <= high) ++last;
      std::string range = low / block >= 10 ? std::to_string(low / block / 10) : "";
      range += last == digit ? std::to_string(digit)
                             : "[" + std::to_string(digit) + "-" + std::to_string(last) + "]";
      for (std::size_t k = 0; k < free; ++k) range += "[0-9]";
      ranges.push_back(std::move(range));
      low += (last - digit + 1) * block;
    }
    i = next;
  }
  return join(ranges, "|");
}

}  // namespace berth
