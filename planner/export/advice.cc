#include "planner/export/advice.h"

#include <algorithm>
#include <utility>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/export/layer_homes.h"
#include "planner/machine/sizes.h"
#include "planner/plan/policies.h"

namespace berth {
namespace {

constexpr std::uint64_t kMiB = 1ull << 20;
// How much more is left free on each GPU, in MiB.
constexpr std::uint64_t kReserves[] = {256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192};
constexpr std::size_t kMostAdvice = 3;

// A change of the request, and the flags that make it.
struct Change {
  std::vector<std::string> flags;
  Machine machine;
  Request request;
};

class Advisor {
 public:
  Advisor(const ExportRow& tool, const ModelTree& tree, const Machine& machine,
          const Request& request, const Plan& plan, const Replan& replan)
      : tool_(tool), tree_(tree), asked_{{}, machine, request}, plan_(plan), replan_(replan) {}

  Advised run() {
    Advised out;
    bool space = false;  // whether more space could help
    try {
      Export words = tool_.make(tree_, asked_.machine, plan_);
      if (plan_.fits()) {
        out.words = std::move(words);
        return out;
      }
      out.reason = "the plan does not fit, short by " + format_size(plan_.shortfall->bytes);
    } catch (const NoSpace& error) {
      out.reason = error.what();
      space = plan_.fits();
    } catch (const Error& error) {
      out.reason = error.what();
    }
    if (space && is_own(asked_.request)) {
      if (auto change = with_reserve(asked_, tool_)) {
        out.words = exported(*change, tool_);
        out.advice.push_back(join(change->flags, " "));
        return out;
      }
    }
    advise(out.advice);
    return out;
  }

 private:
  // The arguments of what is planned with `change`; nothing if it does not fit or cannot be said.
  // `space`: set to whether it fits, and could be said if there were more space.
  std::optional<Export> exported(const Change& change, const ExportRow& tool,
                                 bool* space = nullptr) const {
    if (space != nullptr) *space = false;
    try {
      const Plan plan = replan_(change.machine, change.request);
      if (!plan.fits()) return std::nullopt;
      return tool.make(tree_, change.machine, plan);
    } catch (const NoSpace&) {
      if (space != nullptr) *space = true;
      return std::nullopt;
    } catch (const Error&) {
      return std::nullopt;
    }
  }
  bool works(const Change& change) const { return exported(change, tool_).has_value(); }

  // The least that has to be left free on each GPU beyond what is reserved already, so that what
  // `tool` does with the plan fits; nothing if no reserve of up to half of a GPU helps.
  std::optional<Change> with_reserve(const Change& from, const ExportRow& tool) const {
    std::uint64_t base = 0;
    std::uint64_t least = UINT64_MAX;
    for (const Device& device : from.machine.devices) {
      if (!is_gpu(device.kind)) continue;
      base = std::max(base, device.reserve);
      least = std::min(least, device.capacity);
    }
    for (const std::uint64_t more : kReserves) {
      const std::uint64_t reserve = base / kMiB * kMiB + more * kMiB;
      if (reserve > least / 2) break;
      Change change = from;
      for (Device& device : change.machine.devices) {
        if (is_gpu(device.kind)) device.reserve = reserve;
      }
      change.flags.push_back("--reserve " + size_word(reserve));
      if (exported(change, tool)) return change;
    }
    return std::nullopt;
  }

  static std::string size_word(std::uint64_t bytes) {
    return bytes % (1024 * kMiB) == 0 ? std::to_string(bytes / (1024 * kMiB)) + "GiB"
                                      : std::to_string(bytes / kMiB) + "MiB";
  }

  // The ways to place that are tried, the smallest change first.
  std::vector<Change> placements() const {
    std::vector<Change> out;
    Change own = asked_;
    if (is_own(asked_.request)) {
      out.push_back(own);
    } else {
      const bool map = asked_.request.device_map.has_value();
      own.request.policy = Policy::kAuto;
      own.request.device_map.reset();
      own.flags.push_back(std::string("--policy auto") +
                          (map ? " in place of the device map" : ""));
      out.push_back(own);
    }
    if (!own.request.never_offload) {
      Change change = own;
      change.request.never_offload = true;
      change.flags.emplace_back("--never-offload");
      out.push_back(std::move(change));
    }
    if (auto change = on_one_gpu(out.back())) out.push_back(std::move(*change));
    return out;
  }

  // The same on the largest GPU alone; nothing where there is one GPU only.
  static std::optional<Change> on_one_gpu(Change change) {
    const Device* largest = nullptr;
    for (const Device& device : change.machine.devices) {
      if (!is_gpu(device.kind)) continue;
      if (largest == nullptr || device.capacity > largest->capacity) largest = &device;
    }
    std::vector<std::string> others;
    for (const Device& device : change.machine.devices) {
      if (is_gpu(device.kind) && &device != largest) others.push_back(device.name);
    }
    if (others.empty() || !change.request.excluded.empty()) return std::nullopt;
    change.request.excluded = others;
    change.flags.push_back("--exclude " + join(others, ","));
    return change;
  }

  // Appends what gives arguments, up to kMostAdvice.
  void advise(std::vector<std::string>& advice) const {
    const auto add = [&](const Change& change) {
      std::string words = join(change.flags, " ");
      if (std::find(advice.begin(), advice.end(), words) == advice.end()) {
        advice.push_back(std::move(words));
      }
    };
    const std::vector<Change> placed = placements();
    std::vector<Change> short_of_space;
    for (const Change& change : placed) {
      if (change.flags.empty()) continue;
      bool space = false;
      if (exported(change, tool_, &space)) return add(change);
      if (space) short_of_space.push_back(change);
    }
    for (const Change& change : short_of_space) {
      if (const auto reserved = with_reserve(change, tool_)) return add(*reserved);
    }
    for (const Change& change : placed) {
      if (advice.size() + 1 >= kMostAdvice) break;
      const Change narrow = with_narrow_cache(change);
      if (narrow.flags.size() > change.flags.size() && works(narrow)) add(narrow);
      if (const auto shorter = with_shorter_context(change)) {
        add(*shorter);
      } else if (const auto both = with_shorter_context(narrow)) {
        add(*both);
      }
      if (!advice.empty()) break;
    }
    advise_tools(advice);
  }

  Change with_narrow_cache(Change change) const {
    const auto kv = plan_.workload.kv_dtype;
    if (kv && dtype_bits(*kv) <= 8) return change;
    change.request.workload.kv_dtype = DType::kF8E4M3;
    change.flags.emplace_back("--kv-dtype fp8");
    return change;
  }

  // The longest context below the one asked for, in steps of 256, that works.
  std::optional<Change> with_shorter_context(const Change& from) const {
    const auto at = [&](std::uint64_t steps) {
      Change change = from;
      const std::uint64_t context = steps * 256;
      change.request.workload.context = context;
      change.flags.push_back("--context " + std::to_string(context));
      if (context < plan_.workload.prompt_tokens) {
        change.request.workload.prompt_tokens = context;
        change.flags.push_back("--prompt-tokens " + std::to_string(context));
      }
      return change;
    };
    if (plan_.workload.context <= 256 || !works(at(1))) return std::nullopt;
    std::uint64_t low = 1;
    std::uint64_t high = (plan_.workload.context + 255) / 256;
    while (high - low > 1) {
      const std::uint64_t middle = low + (high - low) / 2;
      (works(at(middle)) ? low : high) = middle;
    }
    return at(low);
  }

  void advise_tools(std::vector<std::string>& advice) const {
    for (const ExportRow& other : kExports) {
      if (other.tool == tool_.tool) continue;
      for (const Change& from : {asked_, placements().front()}) {
        bool space = false;
        std::optional<Change> change;
        if (exported(from, other, &space)) {
          change = from;
        } else if (space) {
          change = with_reserve(from, other);
        }
        if (!change) continue;
        change->flags.push_back(std::string(other.flag) + " in place of " +
                                std::string(tool_.flag));
        advice.push_back(join(change->flags, " "));
        break;
      }
    }
  }

  const ExportRow& tool_;
  const ModelTree& tree_;
  const Change asked_;
  const Plan& plan_;
  const Replan& replan_;
};

}  // namespace

Advised export_with_advice(const ExportRow& tool, const ModelTree& tree, const Machine& machine,
                           const Request& request, const Plan& plan, const Replan& replan) {
  if (std::any_of(tree.tensors.begin(), tree.tensors.end(),
                  [](const ModelTensor& tensor) { return tensor.tiled; })) {
    throw Error(std::string(tool.flag) +
                ": the weights are in tiles, which no program but Berth reads: plan the file that "
                "they were converted from");
  }
  return Advisor(tool, tree, machine, request, plan, replan).run();
}

}  // namespace berth
