#include "planner/model/open/named_experts.h"

#include <algorithm>
#include <map>
#include <string_view>

namespace berth {
namespace {

constexpr std::string_view kCounts[] = {
    "num_experts",      "num_local_experts", "n_routed_experts",           "moe_num_experts",
    "num_moe_experts",  "n_experts",         "num_routed_experts",         "moe_num_routed_experts",
    "expert_num",       "num_expert",        "ffn_config.moe_num_experts", "num_total_experts",
    "moe_expert_count", "num_ffn_experts"};
constexpr std::string_view kUsed[] = {"num_experts_per_tok",
                                      "num_experts_per_token",
                                      "n_experts_per_tok",
                                      "experts_per_token",
                                      "num_selected_experts",
                                      "num_activated_experts",
                                      "n_activated_experts",
                                      "num_active_experts",
                                      "moe_top_k",
                                      "moe_topk",
                                      "moe_k",
                                      "top_k_experts",
                                      "experts_top_k",
                                      "expert_top_k",
                                      "moe_router_topk",
                                      "router_topk",
                                      "num_experts_per_topk",
                                      "moe_num_active_experts",
                                      "moe_num_experts_per_tok",
                                      "ffn_config.moe_top_k",
                                      "num_experts_top_k",
                                      "experts_per_tok",
                                      "n_expert_used",
                                      "num_experts_used"};
constexpr std::string_view kNames[] = {"experts",     "expert",         "local_experts",
                                       "moe_experts", "routed_experts", "switch_mlp"};

std::string_view last_of(std::string_view name) { return name.substr(name.rfind('.') + 1); }

class Marker {
 public:
  Marker(ModelTree& tree, std::uint64_t told) : tree_(tree), told_(told) {}

  std::uint64_t run(ModuleId block) {
    for (const ModuleId child : tree_.modules[block].children) visit(child);
    return found_;
  }

 private:
  void visit(ModuleId id) {
    const Module& module = tree_.modules[id];
    const std::string_view name = last_of(module.name);
    if (std::ranges::find(kNames, name) != std::end(kNames) ||
        (told_ > 1 && (is_list_of_them(module) || holds_them(module)))) {
      const std::uint64_t count = count_of(module);
      if (count > 1) {
        mark(id);
        found_ = std::max(found_, count);
        return;
      }
    }
    for (const ModuleId child : module.children) visit(child);
  }

  void mark(ModuleId id) {
    tree_.modules[id].expert = true;
    for (const ModuleId child : tree_.modules[id].children) mark(child);
  }

  bool is_list_of_them(const Module& module) const {
    return module.cls == "ModuleList" && module.children.size() == told_ &&
           !tree_.modules[module.children[0]].children.empty() &&
           last_of(module.name).find("shared") == std::string_view::npos;
  }

  // A tensor of all experts: a matrix for each, not a kernel of a convolution.
  bool is_fused(const ModelTensor& tensor) const {
    return tensor.shape.size() >= 3 && tensor.shape[0] == told_ && tensor.shape[1] > 1 &&
           tensor.name.find("conv") == tensor.name.npos;
  }

  // A module most of whose bytes are such tensors.
  bool holds_them(const Module& module) const {
    std::uint64_t all = 0;
    std::uint64_t fused = 0;
    for (const TensorId id : module.tensors) {
      const ModelTensor& tensor = tree_.tensors[id];
      all += tensor.bytes();
      if (is_fused(tensor)) fused += tensor.bytes();
    }
    return fused > 0 && fused >= all - fused;
  }

  void count_dimensions(const Module& module, std::map<std::uint64_t, std::uint64_t>& bytes) const {
    for (const TensorId id : module.tensors) {
      const ModelTensor& tensor = tree_.tensors[id];
      if (tensor.shape.size() >= 3) bytes[tensor.shape[0]] += tensor.bytes();
    }
    for (const ModuleId child : module.children) count_dimensions(tree_.modules[child], bytes);
  }

  // Of a list, its items. Of fused tensors, the first dimension of most bytes. Else what the config
  // says (DBRX stores the experts' matrices one below the other).
  std::uint64_t count_of(const Module& module) const {
    if (module.cls == "ModuleList") return module.children.size();
    std::map<std::uint64_t, std::uint64_t> bytes;
    count_dimensions(module, bytes);
    const auto most =
        std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
    return most == bytes.end() ? told_ : most->first;
  }

  ModelTree& tree_;
  std::uint64_t told_;
  std::uint64_t found_ = 0;
};

}  // namespace

std::uint64_t mark_experts(ModelTree& tree, ModuleId block, std::uint64_t told) {
  return Marker(tree, told).run(block);
}

std::uint64_t experts_told(const TextKeys& keys, std::size_t layer, std::size_t layers) {
  return keys.of_layer(kCounts, layer, layers).value_or(0);
}

std::optional<std::uint64_t> experts_used(const TextKeys& keys, std::size_t layer,
                                          std::size_t layers) {
  const auto used = keys.of_layer(kUsed, layer, layers);
  return used && *used > 0 ? used : std::nullopt;
}

}  // namespace berth
