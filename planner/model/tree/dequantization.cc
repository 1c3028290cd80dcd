#include "planner/model/tree/dequantization.h"

#include <algorithm>
#include <memory>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr std::uint64_t kMxBlock = 32;

bool is_one_of(unsigned bits, std::initializer_list<unsigned> widths) {
  return std::ranges::find(widths, bits) != widths.end();
}

std::string no_kernel(const QuantScheme& scheme) {
  return scheme_label(scheme) + " weights cannot be dequantised";
}

}  // namespace

std::optional<QuantRole> quant_role(const QuantScheme& scheme, const std::string& leaf,
                                    const std::string& name) {
  switch (scheme.format) {
    case QuantFormat::kScaled:
      if (name == leaf + std::string(scheme.scale_name)) return QuantRole::kScale;
      if (name == leaf + "_zero_point") return QuantRole::kZero;
      return std::nullopt;
    case QuantFormat::kGptq:
    case QuantFormat::kAwq:
    case QuantFormat::kAwqGemv:
      if (name == "scales") return QuantRole::kScale;
      if (name == "qzeros") return QuantRole::kZero;
      if (name == "g_idx") return QuantRole::kOrder;
      return std::nullopt;
    case QuantFormat::kPacked:
    case QuantFormat::kPackedFloat:
    case QuantFormat::kModelOptFp4:
      if (name == leaf + "_scale") return QuantRole::kScale;
      if (name == leaf + "_zero_point") return QuantRole::kZero;
      if (name == leaf + "_g_idx") return QuantRole::kOrder;
      if (name == leaf + "_global_scale" || name == leaf + "_scale_2") {
        return QuantRole::kGlobalScale;
      }
      return std::nullopt;
    case QuantFormat::kBnb4:
      if (name == leaf + ".absmax") return QuantRole::kScale;
      if (name == leaf + ".quant_map") return QuantRole::kMap;
      if (name == leaf + ".nested_absmax") return QuantRole::kNestedScale;
      if (name == leaf + ".nested_quant_map") return QuantRole::kNestedMap;
      if (scheme.nested && name.starts_with(leaf + ".quant_state.")) return QuantRole::kState;
      return std::nullopt;
    case QuantFormat::kBnb8:
      if (name == "SCB") return QuantRole::kScale;
      return std::nullopt;
    case QuantFormat::kMxfp4:
      if (name == leaf + "_scales") return QuantRole::kScale;
      return std::nullopt;
  }
  return std::nullopt;
}

std::string dequantization_problem(const QuantScheme& scheme, std::span<const std::uint64_t> shape,
                                   bool transposed) {
  if (transposed) return no_kernel(scheme) + " where they belong to a Conv1D";
  switch (scheme.format) {
    case QuantFormat::kGptq:
      return is_one_of(scheme.bits, {2, 4, 8}) ? "" : no_kernel(scheme) + " (2, 4 and 8 bits can)";
    case QuantFormat::kAwq:
      if (scheme.bits != 4) return no_kernel(scheme) + " (4 bits can)";
      return shape[0] % 8 == 0 ? "" : no_kernel(scheme) + " where 8 does not divide the outputs";
    case QuantFormat::kAwqGemv:
      return scheme.bits == 4 ? "" : no_kernel(scheme) + " (4 bits can)";
    case QuantFormat::kPacked:
      return is_one_of(scheme.bits, {2, 4, 8}) ? "" : no_kernel(scheme) + " (2, 4 and 8 bits can)";
    case QuantFormat::kMxfp4:
      return shape[1] % kMxBlock == 0 ? "" : no_kernel(scheme) + " where 32 does not divide inputs";
    case QuantFormat::kScaled:
    case QuantFormat::kPackedFloat:
    case QuantFormat::kModelOptFp4:
    case QuantFormat::kBnb4:
    case QuantFormat::kBnb8:
      return "";
  }
  return no_kernel(scheme);
}

std::optional<DType> grouped_dtype(const QuantScheme& scheme, DType packed,
                                   std::span<const std::uint64_t> shape) {
  constexpr std::uint64_t kTileRows = 16, kLeastGroup = 32;
  if (scheme.format == QuantFormat::kMxfp4) {  // [experts, in, out]
    const bool whole = shape.size() == 3 && shape[1] % kMxBlock == 0 && shape[2] % kMxBlock == 0;
    return whole ? std::optional(DType::kMXFP4) : std::nullopt;
  }
  if (shape.size() != 2 || shape[0] % kTileRows != 0 || shape[1] % kLeastGroup != 0) {
    return std::nullopt;
  }
  const bool each_group = scheme.grain == ScaleGrain::kGroup || scheme.grain == ScaleGrain::kTile;
  std::uint64_t group = each_group && scheme.group != 0 ? scheme.group : shape[1];
  constexpr DType kCodes[] = {DType::kU4G32, DType::kU4G64, DType::kU4G128};
  constexpr DType kE4M3[] = {DType::kF8E4M3G32, DType::kF8E4M3G64, DType::kF8E4M3G128};
  constexpr DType kE5M2[] = {DType::kF8E5M2G32, DType::kF8E5M2G64, DType::kF8E5M2G128};
  std::span<const DType> formats;
  switch (scheme.format) {
    case QuantFormat::kScaled:
      if (scheme.zero_points) return std::nullopt;
      if (packed == DType::kF8E4M3) formats = kE4M3;
      if (packed == DType::kF8E5M2) formats = kE5M2;
      break;
    case QuantFormat::kPacked:
      if (scheme.bits == 4 && !scheme.input_order) formats = kCodes;
      break;
    case QuantFormat::kGptq:
    case QuantFormat::kAwq:
    case QuantFormat::kAwqGemv:
      if (scheme.bits == 4) formats = kCodes;
      group = scheme.group == 0 ? shape[1] : scheme.group;
      break;
    case QuantFormat::kPackedFloat:
      if (scheme.scales == DType::kU8 && scheme.group == kMxBlock) return DType::kMXFP4;
      break;
    default:
      break;
  }
  // The largest groups that divide those of the weight.
  std::optional<DType> found;
  for (const DType format : formats) {
    const std::uint64_t own = dtype_block(format).elements;
    if (group % own == 0 && shape[1] % own == 0) found = format;
  }
  return found;
}

// Tables hold 32-bit floats or indices. Zero points become unpacked, and a word packs at most 16.
std::uint64_t table_bytes(QuantRole role, std::uint64_t stored_bytes, std::uint64_t elements) {
  switch (role) {
    case QuantRole::kScale:
      return stored_bytes + 8 * elements;  // a zero point beside each scale
    case QuantRole::kOrder:
      return stored_bytes + 4 * elements;
    default:
      return stored_bytes;
  }
}

QuantizedWeights& quantized_weights(ModelTree& tree) {
  if (!tree.quantized) tree.quantized = std::make_shared<QuantizedWeights>();
  return *tree.quantized;
}

std::uint32_t add_scheme(ModelTree& tree, const QuantScheme& scheme) {
  std::vector<QuantScheme>& known = quantized_weights(tree).schemes;
  const auto found = std::ranges::find(known, scheme);
  if (found != known.end()) return static_cast<std::uint32_t>(found - known.begin());
  known.push_back(scheme);
  return static_cast<std::uint32_t>(known.size() - 1);
}

void follow_ties(ModelTree& tree) {
  for (const auto& group : tree.ties) {
    const ModelTensor& first = tree.tensors[group[0]];
    for (const TensorId id : group) {
      tree.tensors[id].stored = first.stored;
      tree.tensors[id].dtype = first.dtype;
      tree.tensors[id].dequantization = first.dequantization;
    }
  }
}

void require_in_order(const Checkpoint& checkpoint, std::uint32_t tensor) {
  const TensorInfo& info = checkpoint.tensors[tensor];
  if (info.form == 0) return;
  throw Error(checkpoint.shards[info.shard].path.string() + ": tensor " + quote(info.name) +
              ": is a strided view, and quantised weights are not dequantised from one: save it "
              "with .contiguous()");
}

void dequantize_plain_fp8(ModelTree& tree, const Checkpoint& checkpoint, DType dtype,
                          bool grouped) {
  for (ModelTensor& tensor : tree.tensors) {
    if (tensor.source == kNone || tensor.dequantization != kNone || !is_fp8(tensor.stored)) {
      continue;
    }
    require_in_order(checkpoint, tensor.source);
    QuantScheme scheme;
    scheme.weight = tensor.stored;
    scheme.grain = ScaleGrain::kUnscaled;
    Dequantization made;
    made.scheme = add_scheme(tree, scheme);
    made.parts.fill(kNone);
    made.stored_bytes = checkpoint.tensors[tensor.source].bytes();
    std::vector<Dequantization>& weights = quantized_weights(tree).weights;
    tensor.dequantization = static_cast<std::uint32_t>(weights.size());
    tensor.dtype = dtype;
    if (grouped) {
      tensor.dtype = grouped_dtype(scheme, tensor.stored, tensor.shape).value_or(dtype);
    }
    weights.push_back(made);
  }
  follow_ties(tree);
}

}  // namespace berth
