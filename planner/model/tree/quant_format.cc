#include "planner/model/tree/quant_format.h"

#include <algorithm>

#include "berth/error.h"

namespace berth {
namespace {

constexpr std::uint64_t kWord = 32;          // bits in one of the I32 words that hold packed values
constexpr std::uint64_t kBnbBlock = 64;      // values for each scale in bitsandbytes' 4-bit weights
constexpr std::uint64_t kBnbNested = 256;    // scales for each scale of scales
constexpr std::uint64_t kMxBlock = 32;       // values for each scale in MXFP4
constexpr std::uint64_t kOffsetDigits = 19;  // how most writers print it: "0.04566267505288124"

std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

// How many words hold `count` values of `bits` bits each. Sizes are below 2^56, so no product
// wraps.
std::uint64_t words(std::uint64_t count, unsigned bits) { return ceil_div(count * bits, kWord); }

// Lists the parts of one weight. `out` and `in` are the layer's sizes.
class Parts {
 public:
  Parts(const QuantScheme& scheme, const std::string& leaf, std::uint64_t out, std::uint64_t in)
      : scheme_(scheme),
        leaf_(leaf),
        out_(out),
        in_(in),
        groups_(ceil_div(in, scheme.group == 0 ? in : scheme.group)) {}

  std::vector<QuantPart> list(std::span<const std::uint64_t> shape) {
    switch (scheme_.format) {
      case QuantFormat::kScaled:
        scaled(shape);
        break;
      case QuantFormat::kGptq:
        gptq();
        break;
      case QuantFormat::kAwq:
        awq();
        break;
      case QuantFormat::kAwqGemv:
        awq_gemv();
        break;
      case QuantFormat::kPacked:
        packed();
        break;
      case QuantFormat::kPackedFloat:
        packed_float();
        break;
      case QuantFormat::kModelOptFp4:
        model_opt_fp4();
        break;
      case QuantFormat::kBnb4:
        bnb4();
        break;
      case QuantFormat::kBnb8:
        bnb8();
        break;
      case QuantFormat::kMxfp4:
        break;  // three-dimensional: see mxfp4_parts()
    }
    return std::move(parts_);
  }

 private:
  QuantPart& add(std::string name, DType dtype, TensorShape shape) {
    return parts_.emplace_back(QuantPart{std::move(name), dtype, std::move(shape)});
  }
  void add_some(bool promised, std::string name, DType dtype, TensorShape shape) {
    add(std::move(name), dtype, std::move(shape)).presence =
        promised ? Presence::kPromised : Presence::kPossible;
  }

  TensorShape scale_shape() const {
    switch (scheme_.grain) {
      case ScaleGrain::kTensor:
      case ScaleGrain::kUnscaled:
        return {};
      case ScaleGrain::kRow:
        return {out_, 1};
      case ScaleGrain::kGroup:
        return {out_, groups_};
      case ScaleGrain::kTile:
        return {ceil_div(out_, scheme_.block_rows), groups_};
    }
    return {};
  }

  void scaled(std::span<const std::uint64_t> shape) {
    add(leaf_, scheme_.weight, {shape.begin(), shape.end()}).values = out_ * in_;
    add(leaf_ + std::string(scheme_.scale_name), scheme_.scales, scale_shape());
    if (scheme_.zero_points) add(leaf_ + "_zero_point", DType::kI8, scale_shape());
    for (const std::string_view name : {"input_scale", "activation_scale"}) {
      add_some(name == scheme_.input_scale, std::string(name), scheme_.scales, {});
    }
    add_some(false, "input_zero_point", DType::kI8, {});
    add_some(false, "input_scale_ub", DType::kF32, {});
  }

  void gptq() {
    add("q" + leaf_, DType::kI32, {words(in_, scheme_.bits), out_}).values = out_ * in_;
    add("qzeros", DType::kI32, {groups_, words(out_, scheme_.bits)});
    add("scales", scheme_.scales, {groups_, out_});
    add_some(scheme_.input_order, "g_idx", DType::kI32, {in_});
  }

  void awq() {
    add("q" + leaf_, DType::kI32, {in_, words(out_, scheme_.bits)}).values = out_ * in_;
    add("qzeros", DType::kI32, {groups_, words(out_, scheme_.bits)});
    add("scales", scheme_.scales, {groups_, out_});
  }

  // Groups are padded to whole words, and further if they are small (AutoAWQ's
  // calculate_zeros_width).
  void awq_gemv() {
    const std::uint64_t pad = scheme_.group >= 128 || scheme_.group == 0 ? 1
                              : scheme_.group == 64                      ? 2
                                                                         : 4;
    const std::uint64_t a_word = kWord / scheme_.bits;
    const std::uint64_t width = ceil_div(words(groups_, scheme_.bits), pad) * pad;
    add("q" + leaf_, DType::kI32, {out_, words(in_, scheme_.bits)}).values = out_ * in_;
    add("qzeros", DType::kI32, {out_, width});
    add("scales", scheme_.scales, {out_, width * a_word});
  }

  void packed() {
    const std::uint64_t a_word = kWord / scheme_.bits;
    add(leaf_ + "_packed", DType::kI32, {out_, ceil_div(in_, a_word)}).values = out_ * in_;
    add(leaf_ + "_scale", scheme_.scales, scale_shape());
    if (scheme_.zero_points) add_packed_zeros(a_word);
    add_some(scheme_.input_order, leaf_ + "_g_idx", DType::kI32, {in_});
    add_some(true, leaf_ + "_shape", DType::kI64, {2});
    add_some(false, "input_scale", DType::kF32, {});
  }

  // They are packed along the rows of scales; the only one of a whole tensor is not packed.
  void add_packed_zeros(std::uint64_t a_word) {
    const TensorShape scales = scale_shape();
    const std::string name = leaf_ + "_zero_point";
    if (scales.empty()) {
      add(name, DType::kI8, {});
    } else {
      add(name, DType::kI32, {ceil_div(scales[0], a_word), scales[1]});
    }
  }

  void packed_float() {
    add(leaf_ + "_packed", DType::kU8, {out_, ceil_div(in_, 2)}).values = out_ * in_;
    add(leaf_ + "_scale", scheme_.scales, {out_, groups_});
    if (scheme_.scales == DType::kF8E4M3) add(leaf_ + "_global_scale", DType::kF32, {1});
    add_some(!scheme_.input_scale.empty(), "input_global_scale", DType::kF32, {1});
  }

  void model_opt_fp4() {
    add(leaf_, DType::kU8, {out_, ceil_div(in_, 2)}).values = out_ * in_;
    add(leaf_ + "_scale", DType::kF8E4M3, {out_, groups_});
    add(leaf_ + "_scale_2", DType::kF32, {});
    add_some(!scheme_.input_scale.empty(), "input_scale", DType::kF32, {});
  }

  // The size of the JSON text that holds what is not a tensor. It is stored byte by byte in a U8
  // tensor.
  std::uint64_t state_bytes() const {
    const std::string text = R"({"quant_type": ")" + std::string(scheme_.quant_type) +
                             R"(", "blocksize": 64, "dtype": ")" + scheme_.compute +
                             R"(", "shape": [)" + std::to_string(out_) + ", " +
                             std::to_string(in_) + "]}";
    if (!scheme_.nested) return text.size();
    return text.size() + kOffsetDigits +
           std::string_view(R"(, "nested_blocksize": 256, "nested_dtype": "float32", )"
                            R"("nested_offset": )")
               .size();
  }

  void bnb4() {
    const std::uint64_t values = out_ * in_;
    const std::uint64_t blocks = ceil_div(values, kBnbBlock);
    const std::uint64_t elements = ceil_div(values * 4, dtype_bits(scheme_.weight));
    add(leaf_, scheme_.weight, {elements, 1}).values = values;
    add(leaf_ + ".absmax", scheme_.nested ? DType::kU8 : DType::kF32, {blocks});
    add(leaf_ + ".quant_map", DType::kF32, {16});
    if (scheme_.nested) {
      add(leaf_ + ".nested_absmax", DType::kF32, {ceil_div(blocks, kBnbNested)});
      add(leaf_ + ".nested_quant_map", DType::kF32, {kBnbNested});
    }
    add(leaf_ + ".quant_state.bitsandbytes__" + std::string(scheme_.quant_type), DType::kU8,
        {state_bytes()})
        .any_size = true;
  }

  void bnb8() {
    add(leaf_, DType::kI8, {out_, in_}).values = out_ * in_;
    add("SCB", DType::kF32, {out_});
    add_some(true, leaf_ + "_format", DType::kU8, {});
  }

  const QuantScheme& scheme_;
  const std::string& leaf_;
  std::uint64_t out_;
  std::uint64_t in_;
  std::uint64_t groups_;
  std::vector<QuantPart> parts_;
};

// [experts, in, out] becomes blocks of 16 bytes along the input, with a shared exponent for each
// block.
std::vector<QuantPart> mxfp4_parts(const std::string& leaf, std::span<const std::uint64_t> shape) {
  const TensorShape scales{shape[0], shape[2], ceil_div(shape[1], kMxBlock)};
  TensorShape blocks = scales;
  blocks.push_back(kMxBlock / 2);
  return {{leaf + "_blocks", DType::kU8, blocks, shape[0] * shape[1] * shape[2]},
          {leaf + "_scales", DType::kU8, scales}};
}

TensorShape squeezed(std::span<const std::uint64_t> shape) {
  TensorShape out;
  std::ranges::copy_if(shape, std::back_inserter(out),
                       [](std::uint64_t size) { return size != 1; });
  return out;
}

}  // namespace

std::vector<QuantPart> quant_parts(const QuantScheme& scheme, const std::string& leaf,
                                   std::span<const std::uint64_t> shape, bool transposed) {
  const bool experts = scheme.format == QuantFormat::kMxfp4;
  if (shape.size() != (experts ? 3u : 2u)) {
    throw Error(scheme_label(scheme) + " cannot store a weight of " + std::to_string(shape.size()) +
                " dimensions");
  }
  if (experts) return mxfp4_parts(leaf, shape);
  return Parts(scheme, leaf, shape[transposed ? 1 : 0], shape[transposed ? 0 : 1]).list(shape);
}

bool is_fp8(DType dtype) {
  return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2 || dtype == DType::kF8E4M3FNUZ ||
         dtype == DType::kF8E5M2FNUZ;
}

bool dtype_fits(const QuantPart& part, DType dtype) {
  if (part.dtype == dtype) return true;
  if (is_convertible(part.dtype)) return is_convertible(dtype) || dtype == DType::kF8E8M0;
  if (is_fp8(part.dtype)) return is_fp8(dtype);
  switch (part.dtype) {
    case DType::kI32:
      return dtype == DType::kU32;
    case DType::kI64:  // a shape
      return dtype == DType::kI32;
    case DType::kU8:  // exponents
      return dtype == DType::kF8E8M0;
    case DType::kI8:  // zero points
      return part.values == 0 && dtype == DType::kI32;
    default:
      return false;
  }
}

bool shape_fits(const QuantPart& part, std::span<const std::uint64_t> shape) {
  if (part.any_size) return shape.size() == 1;
  if (std::ranges::equal(part.shape, shape)) return true;
  const bool transposed = part.shape.size() == 2 && shape.size() == 2;
  return !transposed && squeezed(part.shape) == squeezed(shape);
}

std::string scheme_label(const QuantScheme& scheme) {
  if (!scheme.label.empty()) return scheme.label;
  const std::string bits = " " + std::to_string(scheme.bits) + "-bit";
  switch (scheme.format) {
    case QuantFormat::kScaled:
      return is_fp8(scheme.weight) ? "FP8" : "INT8";
    case QuantFormat::kGptq:
      return "GPTQ" + bits;
    case QuantFormat::kAwq:
    case QuantFormat::kAwqGemv:
      return "AWQ" + bits;
    case QuantFormat::kPacked:
      return "compressed-tensors" + bits;
    case QuantFormat::kPackedFloat:
    case QuantFormat::kModelOptFp4:
      return scheme.scales == DType::kF8E4M3 ? "NVFP4" : "MXFP4";
    case QuantFormat::kBnb4:
    case QuantFormat::kBnb8:
      return "bitsandbytes" + bits;
    case QuantFormat::kMxfp4:
      return "MXFP4";
  }
  return "";
}

}  // namespace berth
