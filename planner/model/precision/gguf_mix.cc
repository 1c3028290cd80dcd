#include "planner/model/precision/gguf_mix.h"

#include <algorithm>
#include <array>
#include <utility>

namespace berth {
namespace {

using enum DType;
using enum GgufRole;
using When = GgufRule::When;

// Of a mixture of eight experts attention is small, so what it puts out gets more bits.
constexpr GgufRule kOutOfEight{kAttentionOut, When::kEightExperts, kQ5_K};

std::vector<GgufMix> make_mixes() {
  return {
      {"q8_0", kQ8_0, kQ8_0, {}},
      {"q6_k", kQ6_K, kQ6_K, {}},
      {"q5_k_m",
       kQ5_K,
       kQ6_K,
       {{kValue, When::kMoreBits, kQ6_K}, {kDown, When::kMoreBits, kQ6_K}},
       {{kValue, When::kMoreBits, kQ6_K}, {kDown, When::kMoreBits, kQ6_K}}},
      {"q5_k_s", kQ5_K, kQ6_K, {}},
      {"q5_1", kQ5_1, kQ6_K, {}},
      {"q5_0", kQ5_0, kQ6_K, {}},
      {"q4_k_m",
       kQ4_K,
       kQ6_K,
       {{kValue, When::kMoreBits, kQ6_K}, {kDown, When::kMoreBits, kQ6_K}, kOutOfEight},
       {{kValue, When::kMoreBits, kQ6_K},
        {kDown, When::kFirstSixteenth, kQ6_K},
        {kDown, When::kMoreBits, kQ5_K}}},
      {"q4_k_s",
       kQ4_K,
       kQ6_K,
       {{kValue, When::kFirstFour, kQ5_K}, {kDown, When::kFirstEighth, kQ5_K}, kOutOfEight},
       {{kValue, When::kFirstFour, kQ5_K}}},
      {"q4_1", kQ4_1, kQ6_K, {}},
      {"q4_0", kQ4_0, kQ6_K, {}},
      {"iq4_nl",
       kIQ4_NL,
       kQ6_K,
       {{kValue, When::kSharedKeys, kQ5_K}, {kDown, When::kFirstEighth, kQ5_K}, kOutOfEight},
       {{kValue, When::kSharedKeys, kQ5_K}, {kDown, When::kFirstEighth, kQ5_K}}},
      {"iq4_xs",
       kIQ4_XS,
       kQ6_K,
       {{kValue, When::kSharedKeys, kQ5_K}, {kDown, When::kFirstEighth, kQ5_K}, kOutOfEight},
       {{kValue, When::kSharedKeys, kQ5_K}, {kDown, When::kFirstEighth, kQ5_K}}},
      {"q3_k_l",
       kQ3_K,
       kQ6_K,
       {{kValue, When::kAlways, kQ5_K},
        {kDown, When::kAlways, kQ5_K},
        {kAttentionOut, When::kNotEight, kQ5_K}},
       {{kValue, When::kAlways, kQ5_K},
        {kDown, When::kAlways, kQ4_K},
        {kAttentionOut, When::kAlways, kQ4_K}}},
      {"q3_k_m",
       kQ3_K,
       kQ6_K,
       {{kValue, When::kFirstTwo, kQ5_K},
        {kValue, When::kAlways, kQ4_K},
        {kDown, When::kFirstSixteenth, kQ5_K},
        {kDown, When::kAlways, kQ4_K},
        kOutOfEight,
        {kAttentionOut, When::kAlways, kQ4_K}},
       {{kValue, When::kFirstTwo, kQ5_K},
        {kValue, When::kAlways, kQ4_K},
        {kDown, When::kFirstSixteenth, kQ5_K},
        {kDown, When::kMoreBits, kQ4_K}}},
      {"q3_k_s", kQ3_K, kQ6_K, {kOutOfEight}},
      {"iq3_m",
       kIQ3_S,
       kQ6_K,
       {{kValue, When::kAlways, kQ4_K},
        {kDown, When::kFirstEighth, kQ4_K},
        {kDown, When::kMoreBitsOfEight, kQ4_K},
        kOutOfEight,
        {kAttentionOut, When::kAlways, kQ4_K}},
       {{kValue, When::kAlways, kQ4_K}, {kDown, When::kFirstEighth, kQ4_K}}},
      {"iq3_s",
       kIQ3_S,
       kQ6_K,
       {{kValue, When::kSharedKeys, kQ4_K}, kOutOfEight},
       {{kValue, When::kSharedKeys, kQ4_K}}},
      {"iq3_xs",
       kIQ3_S,
       kQ6_K,
       {{kValue, When::kSharedKeys, kQ4_K},
        {kQuery, When::kAlways, kIQ3_XXS},
        {kKey, When::kAlways, kIQ3_XXS},
        {kGate, When::kMiddle, kIQ3_XXS},
        {kUp, When::kMiddle, kIQ3_XXS},
        kOutOfEight},
       {{kValue, When::kSharedKeys, kQ4_K}, {kUp, When::kMiddle, kIQ3_XXS}}},
      {"iq3_xxs",
       kIQ3_XXS,
       kQ5_K,
       {{kEmbedding, When::kAlways, kIQ3_S},
        {kValue, When::kSharedKeys, kQ4_K},
        {kQuery, When::kAlways, kIQ2_S},
        {kKey, When::kAlways, kIQ2_S},
        kOutOfEight,
        {kAttentionOut, When::kAlways, kIQ3_S}},
       {{kEmbedding, When::kAlways, kIQ3_S}, {kValue, When::kSharedKeys, kQ4_K}}},
      {"q2_k",
       kQ2_K,
       kQ6_K,
       {{kValue, When::kSharedKeys, kQ4_K},
        {kValue, When::kAlways, kQ3_K},
        {kDown, When::kAlways, kQ3_K},
        kOutOfEight,
        {kAttentionOut, When::kAlways, kQ3_K}},
       {{kValue, When::kSharedKeys, kQ4_K},
        {kValue, When::kAlways, kQ3_K},
        {kDown, When::kAlways, kQ3_K}}},
      {"q2_k_s",
       kQ2_K,
       kQ6_K,
       {{kValue, When::kSharedKeys, kQ4_K}, {kDown, When::kFirstEighth, kQ4_K}},
       {{kValue, When::kSharedKeys, kQ4_K}, {kDown, When::kFirstEighth, kQ4_K}}},
  };
}

// The mixes of about two bits and below, and those that are not llama-quantize's usual ones: what
// holds for all above (GgufMix::raises) does not hold for them.
std::vector<GgufMix> make_plain_mixes() {
  const auto tiny = [](std::string_view name, DType base, DType embedding, DType raised,
                       std::vector<GgufRule> out) {
    std::vector<GgufRule> rules{
        {kEmbedding, When::kAlways, embedding}, {kValue, When::kSharedOrMixed, kQ4_K},
        {kValue, When::kAlways, raised},        {kKey, When::kEightExperts, kQ4_K},
        {kDown, When::kFirstEighth, raised},    kOutOfEight};
    rules.insert(rules.end(), out.begin(), out.end());
    return GgufMix{name, base, kQ5_K, rules, rules, false};
  };
  const GgufRule out_iq3{kAttentionOut, When::kAlways, kIQ3_S};
  const GgufRule out_iq2{kAttentionOut, When::kAlways, kIQ2_XXS};
  const std::vector<GgufRule> ternary{{kEmbedding, When::kAlways, kQ4_K}};
  const std::vector<GgufRule> experts{{kAny, When::kRouted, kMXFP4}};
  return {
      tiny("iq2_m", kIQ2_S, kIQ3_S, kIQ3_S, {out_iq3}),
      tiny("iq2_s", kIQ2_XS, kIQ3_S, kIQ3_S, {out_iq3}),
      tiny("iq2_xs", kIQ2_XS, kQ2_K, kQ2_K, {}),
      tiny("iq2_xxs", kIQ2_XXS, kQ2_K, kQ2_K, {}),
      tiny("iq1_m", kIQ1_M, kQ2_K, kQ2_K, {out_iq2}),
      tiny("iq1_s", kIQ1_S, kQ2_K, kQ2_K, {out_iq2}),
      {"tq2_0", kTQ2_0, kQ6_K, ternary, ternary},
      {"tq1_0", kTQ1_0, kQ6_K, ternary, ternary},
      {"mxfp4_moe", kQ8_0, kQ8_0, experts, {}, false},
  };
}

bool more_bits(const GgufPlace& place) {
  const std::uint64_t eighth = place.layers / 8;
  return place.layer < eighth || place.layer >= 7 * place.layers / 8 ||
         (place.layer - eighth) % 3 == 2;
}

bool holds(When when, const GgufModel& model, const GgufPlace& place) {
  switch (when) {
    case When::kAlways:
      return true;
    case When::kMoreBits:
      return more_bits(place);
    case When::kFirstSixteenth:
      return place.layer < place.layers / 16;
    case When::kFirstEighth:
      return place.layer < place.layers / 8;
    case When::kMiddle:
      return place.layer >= place.layers / 8 && place.layer < 7 * place.layers / 8;
    case When::kFirstTwo:
      return place.layer < 2;
    case When::kFirstFour:
      return place.layer < 4;
    case When::kSharedKeys:
      return model.queries_per_key >= 4;
    case When::kSharedOrMixed:
      return model.queries_per_key >= 4 || model.experts >= 4;
    case When::kEightExperts:
      return model.experts == 8;
    case When::kNotEight:
      return model.experts != 8;
    case When::kMoreBitsOfEight:
      return model.experts == 8 && more_bits(place);
    case When::kRouted:
      return place.routed;
  }
  return false;
}

DType by_rules(const GgufMix& mix, const GgufModel& model, const GgufPlace& place,
               std::uint64_t row) {
  if (place.role == kHead) {
    const bool odd = row % dtype_block(mix.base).elements != 0;
    return model.is_falcon || odd ? kQ8_0 : mix.head;
  }
  const bool own = model.is_falcon && mix.raises;
  for (const GgufRule& rule : own ? mix.falcon_rules : mix.rules) {
    const bool meant = rule.role == kAny || rule.role == place.role;
    if (meant && holds(rule.when, model, place)) return rule.type;
  }
  return mix.base;
}

DType raised(DType type, const GgufModel& model, const GgufPlace& place) {
  const bool value = place.role == kValue;
  if (model.experts == 8 && (value || place.role == kKey)) return kQ8_0;
  if (value && model.is_70b && (type == kQ3_K || type == kQ4_K)) return kQ5_K;
  return type;
}

// What takes the place of a type whose blocks do not fill a row.
DType smaller_blocks(DType type) {
  static constexpr std::array kInstead{
      std::pair(kQ2_K, kQ4_0),      std::pair(kQ3_K, kQ4_0),     std::pair(kTQ1_0, kQ4_0),
      std::pair(kTQ2_0, kQ4_0),     std::pair(kQ4_K, kQ5_0),     std::pair(kQ5_K, kQ5_1),
      std::pair(kQ6_K, kQ8_0),      std::pair(kIQ1_S, kIQ4_NL),  std::pair(kIQ1_M, kIQ4_NL),
      std::pair(kIQ2_XXS, kIQ4_NL), std::pair(kIQ2_XS, kIQ4_NL), std::pair(kIQ2_S, kIQ4_NL),
      std::pair(kIQ3_XXS, kIQ4_NL), std::pair(kIQ3_S, kIQ4_NL),  std::pair(kIQ4_XS, kIQ4_NL)};
  const auto* found =
      std::ranges::find(kInstead, type, [](const auto& pair) { return pair.first; });
  return found == kInstead.end() ? kF16 : found->second;
}

}  // namespace

const std::vector<GgufMix>& gguf_mixes() {
  static const std::vector<GgufMix> kMixes = [] {
    std::vector<GgufMix> mixes = make_mixes();
    for (GgufMix& mix : make_plain_mixes()) mixes.push_back(std::move(mix));
    return mixes;
  }();
  return kMixes;
}

DType gguf_type(const GgufMix& mix, const GgufModel& model, const GgufPlace& place,
                std::uint64_t row) {
  DType type = by_rules(mix, model, place, row);
  if (mix.raises) type = raised(type, model, place);
  while (row % dtype_block(type).elements != 0) type = smaller_blocks(type);
  return type;
}

}  // namespace berth
