// How quantised weights are stored: which tensors take the place of one weight, and their dtypes
// and shapes. What a config.json promises and what a checkpoint holds are both checked against
// this.
//
// The layouts are those that AutoGPTQ, AutoAWQ, bitsandbytes, compressed-tensors, ModelOpt and
// transformers' own quantisers write. The loader uses QuantScheme to dequantise (dequantization.h);
// the rest serves planner/model.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "berth/tensor.h"

namespace berth {

using TensorShape = Shape;

enum class QuantFormat : std::uint8_t {
  kScaled,       // FP8 or int8 in the weight's own shape, scales beside it
  kGptq,         // qweight packed along the input
  kAwq,          // qweight packed along the output
  kAwqGemv,      // AWQ's other layout, rows of outputs
  kPacked,       // compressed-tensors: weight_packed, integers in I32
  kPackedFloat,  // compressed-tensors: weight_packed, FP4 pairs in U8 (NVFP4, MXFP4)
  kModelOptFp4,  // the same under ModelOpt's names: weight, weight_scale, weight_scale_2
  kBnb4,         // bitsandbytes: one column of pairs, absmax and its own quantisation
  kBnb8,         // bitsandbytes: I8 and SCB
  kMxfp4,        // gpt-oss: *_blocks and *_scales of all experts at once
};

// Which values share a scale. kTile: those in a block of rows and columns; kUnscaled: there are no
// scales.
enum class ScaleGrain : std::uint8_t { kTensor, kRow, kGroup, kTile, kUnscaled };

// What the stored zero points of a GPTQ weight mean, as far as the files that describe the model
// say: less than they mean by one, modulo 2^bits (the format's first version); what they are (its
// second, gptq_v2); or not known, because two files disagree.
enum class ZeroPoints : std::uint8_t { kLessOne, kAsTheyAre, kUnclear };

// One way to store a weight. The format decides which fields count.
struct QuantScheme {
  QuantFormat format = QuantFormat::kScaled;
  unsigned bits = 8;
  DType weight = DType::kF8E4M3;  // kScaled, kBnb4: dtype of the weight as stored
  DType scales = DType::kF32;
  ScaleGrain grain = ScaleGrain::kRow;
  std::uint64_t group = 0;                 // how many inputs share a scale; 0: all of them
  std::uint64_t block_rows = 0;            // kTile: how many outputs share a scale
  std::string_view scale_name = "_scale";  // kScaled: follows the weight's own name
  bool zero_points = false;                // kPacked, kScaled
  bool input_order = false;                // kGptq, kPacked: a tensor names the group of each input
  std::string_view input_scale;  // name of the stored scale of activations; "" if there is none
  bool nested = false;           // kBnb4: absmax is quantised once more
  std::string_view quant_type = "nf4";  // kBnb4
  std::string compute = "bfloat16";     // kBnb4: the dtype of the weight before it was quantised
  ZeroPoints zeros = ZeroPoints::kLessOne;  // kGptq
  std::optional<bool> symmetric;  // kGptq: all zero points are 2^(bits-1); absent: nobody says
  std::string label;              // for messages: "GPTQ 4-bit"

  bool operator==(const QuantScheme&) const = default;
};

// Whether a part is stored: in every such checkpoint, in those whose config promises it, or only in
// some.
enum class Presence : std::uint8_t { kNeeded, kPromised, kPossible };

// One stored tensor of a quantised weight.
struct QuantPart {
  std::string name;  // its name in the module: "qweight", "weight.absmax"
  DType dtype = DType::kF32;
  TensorShape shape;
  std::uint64_t values = 0;  // how many of the model's parameters it holds; scales hold none
  Presence presence = Presence::kNeeded;
  bool any_size = false;  // its size is not known beforehand (a JSON text)
};

// The tensors that are stored for the weight `leaf` ("weight", "gate_up_proj"). `shape` is that of
// the model's weight: [out, in], or [experts, in, out] for kMxfp4. If `transposed` is true, the
// module is a Conv1D and `shape` is [in, out]. Throws Error if a weight of this shape cannot be
// stored that way.
std::vector<QuantPart> quant_parts(const QuantScheme& scheme, const std::string& leaf,
                                   std::span<const std::uint64_t> shape, bool transposed);

// True for the FP8 types.
bool is_fp8(DType dtype);

// True if a tensor stored as `dtype` and `shape` can be `part`. Floats may have any width.
// Dimensions of size 1 may be left out or added, as in [n] for [n, 1], because the numbers stand in
// the same order: whoever reads them goes by the part's shape, never by the stored one. But [1, n]
// is not [n, 1]: where one is asked for, the other means the transpose.
bool dtype_fits(const QuantPart& part, DType dtype);
bool shape_fits(const QuantPart& part, std::span<const std::uint64_t> shape);

// The scheme's name for people: "FP8", "GPTQ 4-bit".
std::string scheme_label(const QuantScheme& scheme);

}  // namespace berth
