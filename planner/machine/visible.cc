#include "planner/machine/visible.h"

#include <algorithm>
#include <numeric>
#include <string_view>

#include "planner/base/quote.h"

namespace berth {
namespace {

std::vector<std::size_t> cuda_order(const std::vector<GpuReport>& gpus,
                                    const std::optional<std::string>& order,
                                    std::vector<std::string>& notes) {
  std::vector<std::size_t> indices(gpus.size());
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  if (order == "PCI_BUS_ID") return indices;
  const bool alike = std::all_of(gpus.begin(), gpus.end(), [&](const GpuReport& gpu) {
    return gpu.name == gpus.front().name;
  });
  if (alike) return indices;
  const bool known =
      std::all_of(gpus.begin(), gpus.end(), [](const GpuReport& gpu) { return gpu.speed > 0; });
  if (known)
    std::stable_sort(indices.begin(), indices.end(),
                     [&](std::size_t a, std::size_t b) { return gpus[a].speed > gpus[b].speed; });
  notes.push_back(
      std::string("the GPUs differ, and CUDA numbers the fastest first: ordinals are ") +
      (known ? "by cores x clock" : "in PCI order") +
      " here; set CUDA_DEVICE_ORDER=PCI_BUS_ID to be sure of them");
  return indices;
}

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

// The whole number that `text` starts with (CUDA reads "1x" as 1); nullopt if there is none.
std::optional<std::size_t> leading_number(std::string_view text) {
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  std::size_t number = 0, digits = 0;
  for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits)
    number = std::min<std::size_t>(number * 10 + static_cast<std::size_t>(text[digits] - '0'),
                                   1'000'000);
  if (digits == 0) return std::nullopt;
  return number;
}

// The GPU that one entry names; if there is none, nullopt and the reason in `why`.
std::optional<std::size_t> find_entry(std::string_view entry, const std::vector<GpuReport>& gpus,
                                      const std::vector<std::size_t>& ordered, std::string& why) {
  if (entry.starts_with("MIG-")) {
    why = "is a MIG instance, which Berth does not use";
    return std::nullopt;
  }
  if (entry.starts_with("GPU-")) {
    std::optional<std::size_t> found;
    for (const std::size_t index : ordered) {
      if (!std::string_view(gpus[index].uuid).starts_with(entry)) continue;
      if (found) {
        why = "is the beginning of more than one GPU's UUID";
        return std::nullopt;
      }
      found = index;
    }
    if (!found) why = "is the UUID of no GPU here";
    return found;
  }
  const std::optional<std::size_t> ordinal = leading_number(entry);
  if (ordinal && *ordinal < ordered.size()) return ordered[*ordinal];
  why = "names no GPU here (there are " + std::to_string(ordered.size()) + ")";
  return std::nullopt;
}

}  // namespace

std::vector<std::size_t> visible_gpus(const std::vector<GpuReport>& gpus,
                                      const std::optional<std::string>& visible,
                                      const std::optional<std::string>& order,
                                      std::vector<std::string>& notes) {
  if (gpus.empty()) return {};
  const std::vector<std::size_t> ordered = cuda_order(gpus, order, notes);
  if (!visible) return ordered;
  if (trim(*visible).empty()) {
    notes.push_back("CUDA_VISIBLE_DEVICES is empty: it hides every GPU");
    return {};
  }
  std::vector<std::size_t> shown;
  std::string_view rest = *visible;
  for (bool more = true; more;) {
    const std::size_t comma = rest.find(',');
    more = comma != std::string_view::npos;
    const std::string_view entry = trim(rest.substr(0, comma));
    if (more) rest.remove_prefix(comma + 1);
    std::string why;
    const std::optional<std::size_t> index = find_entry(entry, gpus, ordered, why);
    if (!index) {
      notes.push_back("CUDA_VISIBLE_DEVICES: " + quote(entry) + " " + why +
                      "; CUDA ends the list there, at " + std::to_string(shown.size()) +
                      (shown.size() == 1 ? " GPU" : " GPUs"));
      return shown;
    }
    if (std::find(shown.begin(), shown.end(), *index) != shown.end()) {
      notes.push_back("CUDA_VISIBLE_DEVICES: " + quote(entry) +
                      " names a GPU a second time; CUDA then shows none");
      return {};
    }
    shown.push_back(*index);
  }
  return shown;
}

}  // namespace berth
