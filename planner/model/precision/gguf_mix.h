// llama.cpp's mixes: which block type each tensor of a model gets in a Q4_K_M file and its like.
//
// The rules are facts of llama.cpp's src/llama-quant.cpp (llama_tensor_get_type_impl() and what it
// calls; commit 007dbbf3), told as data: a type for everything, and exceptions by what a tensor is
// for and by its layer. Mixes that demand an importance matrix are as they come out with one, the
// others as without.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "berth/tensor.h"

namespace berth {

// What a tensor is for, as far as the rules ask.
enum class GgufRole : std::uint8_t {
  kOther,
  kEmbedding,
  kHead,  // the output; an embedding that is tied to it
  kQuery,
  kKey,
  kValue,  // also queries, keys and values in one
  kAttentionOut,
  kGate,
  kUp,
  kDown,
  kAny,  // of a rule: whatever the tensor is for
};

// A tensor as the rules see it.
struct GgufPlace {
  GgufRole role = GgufRole::kOther;
  bool routed = false;  // a routed expert's
  // Its number among `layers`: the layer's own, or for values the number among those of the model.
  std::uint64_t layer = 0;
  std::uint64_t layers = 0;
};

// A model as the rules see it.
struct GgufModel {
  std::uint64_t experts = 0;          // routed ones in a layer
  std::uint64_t queries_per_key = 1;  // heads
  bool is_70b = false;                // by llama.cpp's table of sizes
  bool is_falcon = false;             // the first Falcon, for which some rules differ
};

struct GgufRule {
  enum class When : std::uint8_t {
    kAlways,
    kMoreBits,  // in the first and the last eighth of the layers, and in each third between
    kFirstSixteenth,
    kFirstEighth,
    kMiddle,  // neither in the first eighth nor in the last
    kFirstTwo,
    kFirstFour,
    kSharedKeys,     // four query heads or more for each key head
    kSharedOrMixed,  // the same, or four experts or more
    kEightExperts,
    kNotEight,
    kMoreBitsOfEight,  // kMoreBits, in a mixture of eight
    kRouted,
  };
  GgufRole role = GgufRole::kAny;
  When when = When::kAlways;
  DType type = DType::kF32;
};

struct GgufMix {
  std::string_view name;                 // as llama-quantize takes it, in lower case
  DType base;                            // what no rule speaks of
  DType head;                            // GgufRole::kHead
  std::vector<GgufRule> rules;           // the first that holds decides
  std::vector<GgufRule> falcon_rules{};  // the same for a Falcon
  // Whether values have more bits in a 70B, and values and keys in a mixture of eight experts.
  bool raises = true;
};

const std::vector<GgufMix>& gguf_mixes();

// The type of a matrix whose rows have `row` elements. Where these are no whole blocks, a type of
// smaller blocks takes its place, and F16 in the end, as in llama-quantize.
DType gguf_type(const GgufMix& mix, const GgufModel& model, const GgufPlace& place,
                std::uint64_t row);

}  // namespace berth
