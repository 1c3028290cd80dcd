#include "planner/model/precision/matrices.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "planner/model/quant/quantization.h"

namespace berth {
namespace {

// Parts of the names that encoders of pictures and sound have, and what joins them to the text.
constexpr std::array<std::string_view, 8> kTowers{
    "vision",       "visual",      "audio_tower",   "multi_modal_projector",
    "mm_projector", "embed_audio", "image_newline", "aligner"};

bool names_a_tower(std::string_view last) {
  return std::ranges::any_of(kTowers,
                             [&](std::string_view word) { return last.find(word) != last.npos; });
}

// Which of two dimensions of a stack of experts is the input: the model's width, but for what leads
// back to it.
bool is_stored_transposed(const ModelTree& tree, std::string_view leaf, std::uint64_t first,
                          std::uint64_t second) {
  const std::uint64_t width = tree.facts.hidden;
  const bool back = leaf.find("down") != leaf.npos || leaf.find("output") != leaf.npos ||
                    leaf.find("w2") != leaf.npos;
  return back ? second == width && first != width : first == width && second != width;
}

}  // namespace

std::optional<Matrix> matrix_of(const ModelTree& tree, const ModelTensor& tensor) {
  if (tensor.buffer || !tensor.persistent) return std::nullopt;
  const Module& module = tree.modules[tensor.module];
  const std::string_view leaf = leaf_of(tensor.name);
  if (tensor.shape.size() == 2 && leaf == "weight") {
    Matrix matrix{1, tensor.shape[0], tensor.shape[1], is_transposed(module)};
    if (matrix.transposed) std::swap(matrix.out, matrix.in);
    return matrix;
  }
  if (tensor.shape.size() != 3 || !module.expert || leaf.find("bias") != leaf.npos) {
    return std::nullopt;
  }
  Matrix matrix{tensor.shape[0], tensor.shape[1], tensor.shape[2], false};
  matrix.transposed = is_stored_transposed(tree, leaf, matrix.out, matrix.in);
  if (matrix.transposed) std::swap(matrix.out, matrix.in);
  return matrix;
}

ModulePlaces::ModulePlaces(const ModelTree& tree) : places_(tree.modules.size()) {
  for (std::uint32_t layer = 0; layer < tree.facts.layers.size(); ++layer) {
    const ModuleId module = tree.facts.layers[layer].module;
    if (module != kNone) places_[module].layer = layer;
  }
  for (ModuleId id = 0; id < tree.modules.size(); ++id) {  // parents come first
    const Module& module = tree.modules[id];
    Place& place = places_[id];
    const bool has_parent = module.parent != kNone;
    const Place above = has_parent ? places_[module.parent] : Place();
    place.block = above.block || module.no_split;
    place.routed = above.routed || module.expert;
    if (place.layer == kNone) place.layer = above.layer;
    place.tower =
        above.tower || (place.layer == kNone && has_parent && names_a_tower(leaf_of(module.name)));
  }
}

}  // namespace berth
