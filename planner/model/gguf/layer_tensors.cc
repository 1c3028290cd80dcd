#include "planner/model/gguf/layer_tensors.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr std::uint64_t kMostLayers = 65'536;

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
  return number;
}

}  // namespace

GgufPlace gguf_place(std::string_view name) {
  const std::string_view whole = name.substr(0, name.rfind('.'));
  constexpr std::string_view kList = "blk.";
  const std::size_t at = name.starts_with(kList) ? 0 : name.find(".blk.") + 1;
  if (at == 0 && !name.starts_with(kList)) return {{}, 0, whole};
  const std::size_t first = at + kList.size();
  const std::size_t dot = name.find('.', first);
  const auto layer = number_of(name.substr(first, dot == name.npos ? name.npos : dot - first));
  if (!layer || dot == name.npos) return {{}, 0, whole};
  std::string_view module = name.substr(dot + 1);
  // "ssm_a" has no leaf: the tensor has the name that a module would have.
  if (const std::size_t leaf = module.rfind('.'); leaf != module.npos) {
    module = module.substr(0, leaf);
  }
  return {name.substr(0, first - 1), *layer, module};
}

bool is_gguf_experts(std::string_view module) {
  return module.starts_with("ffn_") && !module.starts_with("ffn_norm") &&
         (module.ends_with("_exps") || module.ends_with("_chexps"));
}

void GgufLayerTensors::add(std::string_view module, const TensorInfo& tensor) {
  const TensorInfo*& known = by_module_[module];
  if (known == nullptr || tensor.name.ends_with(".weight")) known = &tensor;
}

bool GgufLayerTensors::has_any(std::initializer_list<std::string_view> modules) const {
  return std::ranges::any_of(modules, [&](std::string_view module) { return has(module); });
}

bool GgufLayerTensors::has_prefix(std::string_view prefix) const {
  const auto found = by_module_.lower_bound(prefix);
  return found != by_module_.end() && found->first.starts_with(prefix);
}

std::uint64_t GgufLayerTensors::rows(std::string_view module) const {
  const TensorInfo* tensor = find(module);
  return tensor == nullptr || tensor->shape.size() != 2 ? 0 : tensor->shape[0];
}

const TensorInfo* GgufLayerTensors::find(std::string_view module) const {
  const auto found = by_module_.find(module);
  return found == by_module_.end() ? nullptr : found->second;
}

std::uint64_t GgufLayerTensors::experts() const {
  std::set<std::uint64_t> alone;  // files from 2023 store each expert apart: "ffn_up.3"
  std::uint64_t together = 0;
  for (const auto& [module, tensor] : by_module_) {
    if (is_gguf_experts(module) && tensor->shape.size() == 3) {
      together = std::max(together, tensor->shape[0]);
    }
    if (const std::size_t dot = module.rfind('.'); module.starts_with("ffn_up.")) {
      if (const auto expert = number_of(module.substr(dot + 1))) alone.insert(*expert);
    }
  }
  return std::max<std::uint64_t>(together, alone.size());
}

std::vector<GgufLayerTensors> gguf_layer_tensors(const std::vector<TensorInfo>& tensors,
                                                 std::string_view list) {
  std::vector<GgufLayerTensors> layers;
  for (const TensorInfo& tensor : tensors) {
    const GgufPlace place = gguf_place(tensor.name);
    if (place.list != list) continue;
    if (place.layer >= kMostLayers) {
      throw Error("tensor " + quote(tensor.name) + " is of a layer beyond the " +
                  std::to_string(kMostLayers) + " that a model may have");
    }
    if (place.layer >= layers.size()) layers.resize(place.layer + 1);
    layers[place.layer].add(place.module, tensor);
  }
  return layers;
}

}  // namespace berth
