// Finds out the quantised format of a group of stored tensors from their names and shapes alone.

#include "planner/model/quant/deduce.h"

#include <algorithm>
#include <array>

namespace berth {
namespace {

std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

class Deduction {
 public:
  Deduction(std::span<const StoredPart> parts, const std::string& leaf, std::uint64_t out,
            std::uint64_t in)
      : parts_(parts), leaf_(leaf), out_(out), in_(in) {}

  std::optional<QuantScheme> run() {
    if (const StoredPart* part = find("q" + leaf_)) return packed_by_gptq_or_awq(*part);
    if (const StoredPart* part = find(leaf_ + "_packed")) {
      return part->dtype == DType::kU8 ? packed_floats() : packed_integers(*part);
    }
    if (find(leaf_ + ".absmax") != nullptr || state() != nullptr) return bnb4();
    const StoredPart* weight = find(leaf_);
    if (weight == nullptr) return std::nullopt;
    if (find("SCB") != nullptr) {
      scheme_.format = QuantFormat::kBnb8;
      return scheme_;
    }
    if (find(leaf_ + "_scale_2") != nullptr) {
      scheme_.format = QuantFormat::kModelOptFp4;
      scheme_.bits = 4;
      scheme_.scales = DType::kF8E4M3;
      scheme_.group = 16;
      return scheme_;
    }
    for (const std::string_view name : {"_scale_inv", "_scale", "_scales"}) {
      if (const StoredPart* scale = find(leaf_ + std::string(name))) {
        return scaled(*weight, *scale, name);
      }
    }
    return std::nullopt;
  }

 private:
  const StoredPart* find(const std::string& name) const {
    const auto found = std::ranges::find(parts_, name, &StoredPart::name);
    return found == parts_.end() ? nullptr : &*found;
  }

  // bitsandbytes' text, "weight.quant_state.bitsandbytes__nf4".
  const StoredPart* state() const {
    const std::string start = leaf_ + ".quant_state.bitsandbytes__";
    const auto found = std::ranges::find_if(
        parts_, [&](const StoredPart& part) { return part.name.starts_with(start); });
    return found == parts_.end() ? nullptr : &*found;
  }

  // How many bits a value has if `words` I32 hold `count` values; nullopt if nobody uses that
  // width.
  static std::optional<unsigned> bits_of(std::uint64_t words, std::uint64_t count) {
    constexpr std::array kWidths = {2u, 3u, 4u, 8u};
    const auto width = std::ranges::find_if(
        kWidths, [&](unsigned bits) { return words == ceil_div(count * bits, 32); });
    return width == kWidths.end() ? std::nullopt : std::optional(*width);
  }

  std::optional<QuantScheme> packed_by_gptq_or_awq(const StoredPart& packed) {
    const StoredPart* scales = find("scales");
    const bool matrix = scales != nullptr && scales->shape.size() == 2 && scales->shape[0] > 0;
    scheme_.format = QuantFormat::kGptq;
    scheme_.bits = 4;
    scheme_.input_order = find("g_idx") != nullptr;
    if (scales != nullptr) scheme_.scales = scales->dtype;
    if (matrix && scales->shape[0] > 1) scheme_.group = ceil_div(in_, scales->shape[0]);
    if (packed.shape.size() != 2) return scheme_;
    const std::uint64_t rows = packed.shape[0];
    const std::uint64_t columns = packed.shape[1];
    if (const auto bits = bits_of(rows, in_); bits && columns == out_) {
      scheme_.bits = *bits;
    } else if (const auto wide = bits_of(columns, out_); wide && rows == in_) {
      scheme_.format = QuantFormat::kAwq;
      scheme_.bits = *wide;
    } else if (const auto gemv = bits_of(columns, in_); gemv && rows == out_ && 32 % *gemv == 0) {
      scheme_.format = QuantFormat::kAwqGemv;
      scheme_.bits = *gemv;
      scheme_.group = gemv_group(find("qzeros"));
    }
    return scheme_;
  }

  // AWQ pads its groups, which hides their size. This tries the usual sizes and takes the first one
  // that gives the stored width.
  std::uint64_t gemv_group(const StoredPart* zeros) {
    if (zeros == nullptr || zeros->shape.size() != 2) return 0;
    for (const std::uint64_t group : {128u, 64u, 32u}) {
      scheme_.group = group;
      const std::uint64_t sizes[] = {out_, in_};
      for (const QuantPart& part : quant_parts(scheme_, leaf_, sizes, false)) {
        if (part.name == "qzeros" && shape_fits(part, zeros->shape)) return group;
      }
    }
    return 128;
  }

  // Finds out how many values share a scale, from the shape of the scales.
  void read_grain(const StoredPart& scale) {
    scheme_.scales = scale.dtype;
    std::uint64_t count = 1;
    for (const std::uint64_t size : scale.shape) count *= size;
    const bool matrix = scale.shape.size() == 2 && scale.shape[0] > 0 && scale.shape[1] > 0;
    const bool column = matrix && scale.shape[0] == out_ && scale.shape[1] == 1;
    scheme_.grain = count == 1 ? ScaleGrain::kTensor : ScaleGrain::kRow;
    if (count == 1 || !matrix || column || is_row_of_scales(scale.shape)) return;
    scheme_.group = ceil_div(in_, scale.shape[1]);
    scheme_.grain = ScaleGrain::kGroup;
    if (scale.shape[0] == out_) return;
    scheme_.grain = ScaleGrain::kTile;
    scheme_.block_rows = ceil_div(out_, scale.shape[0]);
    // If the last block is cut short, the size cannot be told from the shape. So the usual size is
    // tried before any that divides evenly.
    if (are_usual_tiles(scale.shape)) scheme_.block_rows = scheme_.group = 128;
  }

  bool are_usual_tiles(std::span<const std::uint64_t> shape) const {
    return shape[0] == ceil_div(out_, 128) && shape[1] == ceil_div(in_, 128);
  }

  // [1, outputs], which could be a scale for each output or for each of as many tiles: it is taken
  // for the first, and then refused as the transpose of what a weight has.
  bool is_row_of_scales(std::span<const std::uint64_t> shape) const {
    return shape[0] == 1 && shape[1] == out_ && !are_usual_tiles(shape);
  }

  std::optional<QuantScheme> packed_integers(const StoredPart& packed) {
    scheme_.format = QuantFormat::kPacked;
    scheme_.bits = 4;
    if (packed.shape.size() == 2 && packed.shape[1] > 0) {
      const std::uint64_t a_word = ceil_div(in_, packed.shape[1]);
      if (a_word >= 4 && a_word <= 16) scheme_.bits = static_cast<unsigned>(32 / a_word);
    }
    if (const StoredPart* scale = find(leaf_ + "_scale")) read_grain(*scale);
    scheme_.zero_points = find(leaf_ + "_zero_point") != nullptr;
    scheme_.input_order = find(leaf_ + "_g_idx") != nullptr;
    return scheme_;
  }

  std::optional<QuantScheme> packed_floats() {
    scheme_.format = QuantFormat::kPackedFloat;
    scheme_.bits = 4;
    const StoredPart* scale = find(leaf_ + "_scale");
    const bool exponents =
        scale != nullptr && (scale->dtype == DType::kU8 || scale->dtype == DType::kF8E8M0);
    scheme_.scales = exponents ? DType::kU8 : DType::kF8E4M3;
    scheme_.group = exponents ? 32 : 16;
    return scheme_;
  }

  std::optional<QuantScheme> bnb4() {
    scheme_.format = QuantFormat::kBnb4;
    scheme_.bits = 4;
    scheme_.weight = DType::kU8;
    if (const StoredPart* weight = find(leaf_)) scheme_.weight = weight->dtype;
    const StoredPart* absmax = find(leaf_ + ".absmax");
    scheme_.nested = absmax != nullptr && absmax->dtype == DType::kU8;
    const StoredPart* text = state();
    if (text != nullptr && text->name.ends_with("__fp4")) scheme_.quant_type = "fp4";
    return scheme_;
  }

  std::optional<QuantScheme> scaled(const StoredPart& weight, const StoredPart& scale,
                                    std::string_view name) {
    scheme_.format = QuantFormat::kScaled;
    // Scales beside a weight that is not quantised mean nothing. The scheme then names a dtype that
    // does not fit, and the caller reports it.
    scheme_.weight = dtype_bits(weight.dtype) == 8 ? weight.dtype : DType::kF8E4M3;
    scheme_.scale_name = name;
    scheme_.zero_points = find(leaf_ + "_zero_point") != nullptr;
    read_grain(scale);
    return scheme_;
  }

  std::span<const StoredPart> parts_;
  const std::string& leaf_;
  std::uint64_t out_;
  std::uint64_t in_;
  QuantScheme scheme_;
};

}  // namespace

std::optional<QuantScheme> deduce_scheme(std::span<const StoredPart> parts, const std::string& leaf,
                                         std::span<const std::uint64_t> shape, bool transposed) {
  if (shape.size() == 2) {
    return Deduction(parts, leaf, shape[transposed ? 1 : 0], shape[transposed ? 0 : 1]).run();
  }
  const bool blocks = std::ranges::any_of(
      parts, [&](const StoredPart& part) { return part.name == leaf + "_blocks"; });
  if (shape.size() != 3 || !blocks) return std::nullopt;
  QuantScheme scheme;
  scheme.format = QuantFormat::kMxfp4;
  scheme.bits = 4;
  return scheme;
}

}  // namespace berth
