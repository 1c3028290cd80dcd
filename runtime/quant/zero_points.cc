#include "runtime/quant/zero_points.h"

#include <algorithm>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr std::uint64_t kWord = 32;  // bits

std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

unsigned middle_of(const QuantScheme& scheme) { return 1u << (scheme.bits - 1); }

// Whole numbers that are packed into words, the lowest bits first.
class Packed {
 public:
  Packed(const ReadPart& part, unsigned bits) : part_(part), bits_(bits), a_word_(kWord / bits) {}

  std::uint64_t a_word() const { return a_word_; }
  // The number at place `at` of word `index`.
  std::uint32_t get(std::uint64_t index, std::uint64_t at) const {
    return (part_.word(index) >> (at * bits_)) & ((1u << bits_) - 1);
  }

 private:
  const ReadPart& part_;
  unsigned bits_;
  std::uint64_t a_word_;
};

[[noreturn]] void throw_unclear(const ReadPart& zeros) {
  throw Error(zeros.position +
              "config.json and quantize_config.json name different checkpoint formats, and these "
              "zero points do not tell which is right: make both say gptq (stored less one) or "
              "gptq_v2 (stored as they are)");
}

// Settles what stored zero points mean, and adds one to `to` where they are stored less one. Those
// of symmetric weights are 2^(bits-1), so their values tell. AutoGPTQ, GPTQModel and transformers
// take weights for symmetric where no file says.
ZeroPointFinding settle_gptq(const QuantScheme& scheme, const ReadPart& zeros,
                             std::span<float> to) {
  const auto middle = static_cast<float>(middle_of(scheme));
  const auto all = [&](float value) {
    return std::ranges::all_of(to, [=](float other) { return other == value; });
  };
  ZeroPoints mean = scheme.zeros;
  const bool even = scheme.symmetric.value_or(true) && (all(middle) || all(middle - 1));
  if (even) mean = to[0] == middle ? ZeroPoints::kAsTheyAre : ZeroPoints::kLessOne;
  if (mean == ZeroPoints::kUnclear) throw_unclear(zeros);
  if (mean == ZeroPoints::kLessOne) {
    // Modulo 2^bits: a zero point of 0 is stored as the largest value.
    const float largest = 2 * middle - 1;
    for (float& value : to) value = value == largest ? 0 : value + 1;
  }
  if (even) return mean == scheme.zeros ? ZeroPointFinding::kAsSaid : ZeroPointFinding::kByValues;
  return scheme.symmetric == true ? ZeroPointFinding::kUneven : ZeroPointFinding::kAsSaid;
}

// A row of words for each group of inputs, which holds the zero points of all outputs.
ZeroPointFinding read_gptq(const QuantScheme& scheme, std::uint64_t rows, const ReadPart& zeros,
                           std::span<float> to) {
  const Packed packed(zeros, scheme.bits);
  const std::uint64_t words = ceil_div(rows * scheme.bits, kWord);
  zeros.require(ceil_div(to.size(), rows) * words);
  for (std::uint64_t i = 0; i < to.size(); ++i) {
    const std::uint64_t row = i % rows;
    to[i] = static_cast<float>(
        packed.get(i / rows * words + row / packed.a_word(), row % packed.a_word()));
  }
  return to.empty() ? ZeroPointFinding::kAsSaid : settle_gptq(scheme, zeros, to);
}

// The same, but the outputs 0 2 4 6 1 3 5 7 of eight are in a word.
void read_awq(const QuantScheme& scheme, std::uint64_t rows, const ReadPart& zeros,
              std::span<float> to) {
  const Packed packed(zeros, scheme.bits);
  zeros.require(ceil_div(to.size(), rows) * (rows / 8));
  for (std::uint64_t i = 0; i < to.size(); ++i) {
    const std::uint64_t row = i % rows;
    const std::uint64_t at = (row & 1) * 4 + (row % 8 >> 1);
    to[i] = static_cast<float>(packed.get(i / rows * (rows / 8) + row / 8, at));
  }
}

// In the order of the scales.
void read_awq_gemv(const QuantScheme& scheme, const ReadPart& zeros, std::span<float> to) {
  const Packed packed(zeros, scheme.bits);
  zeros.require(ceil_div(to.size(), packed.a_word()));
  for (std::uint64_t i = 0; i < to.size(); ++i) {
    to[i] = static_cast<float>(packed.get(i / packed.a_word(), i % packed.a_word()));
  }
}

float whole_number(const ReadPart& zeros, std::uint64_t index) {
  if (zeros.dtype == DType::kI8) {
    return static_cast<float>(std::to_integer<std::int8_t>(zeros.data[index]));
  }
  return static_cast<float>(static_cast<std::int32_t>(zeros.word(index)));
}

void read_whole_numbers(const ReadPart& zeros, std::span<float> to) {
  zeros.require(to.size());
  for (std::uint64_t i = 0; i < to.size(); ++i) to[i] = whole_number(zeros, i);
}

// compressed-tensors packs them along the rows of scales, in each column of scales; see
// quant_parts(). The one of a whole tensor is not packed, and signed.
void read_packed(const QuantScheme& scheme, const QuantLayout& layout, const ReadPart& zeros,
                 std::span<float> to) {
  if (layout.row_step == 0) {
    read_whole_numbers(zeros, to);
    for (float& value : to) value += static_cast<float>(middle_of(scheme));
    return;
  }
  const Packed packed(zeros, scheme.bits);
  const std::uint64_t columns = layout.row_step;
  zeros.require(ceil_div(ceil_div(to.size(), columns), packed.a_word()) * columns);
  for (std::uint64_t i = 0; i < to.size(); ++i) {
    const std::uint64_t row = i / columns;
    to[i] = static_cast<float>(
        packed.get(row / packed.a_word() * columns + i % columns, row % packed.a_word()));
  }
}

}  // namespace

ZeroPointFinding read_zero_points(const QuantScheme& scheme, const QuantLayout& layout,
                                  const ReadPart& zeros, std::span<float> to) {
  const std::uint64_t rows = std::max<std::uint64_t>(1, layout.rows);
  switch (scheme.format) {
    case QuantFormat::kGptq:
      return read_gptq(scheme, rows, zeros, to);
    case QuantFormat::kAwq:
      read_awq(scheme, rows, zeros, to);
      break;
    case QuantFormat::kAwqGemv:
      read_awq_gemv(scheme, zeros, to);
      break;
    case QuantFormat::kPacked:
      read_packed(scheme, layout, zeros, to);
      break;
    default:
      read_whole_numbers(zeros, to);
  }
  return ZeroPointFinding::kAsSaid;
}

void ZeroPointNotes::add(const QuantScheme& scheme, ZeroPointFinding finding,
                         std::string_view tensor) {
  if (finding == ZeroPointFinding::kAsSaid) return;
  Weights& weights = found_[{finding, scheme.bits, scheme.zeros}];
  if (weights.count++ == 0 || tensor < weights.first) weights.first = tensor;
}

std::vector<std::string> ZeroPointNotes::lines() const {
  std::vector<std::string> lines;
  for (const auto& [key, weights] : found_) {
    const auto& [finding, bits, said] = key;
    const unsigned middle = 1u << (bits - 1);
    std::string line = "the zero points of " + std::to_string(weights.count) + " GPTQ weight";
    line += weights.count == 1 ? " (" : "s (";
    line += quote(weights.first);
    line += weights.count == 1 ? ")" : " and others)";
    if (finding == ZeroPointFinding::kUneven) {
      line += " are not all " + std::to_string(middle);
      line += ", although quantization_config says sym: they are used as they are stored";
    } else {
      line += " are taken as " + std::to_string(middle);
      line += ", as in all symmetric weights, although ";
      line += said == ZeroPoints::kUnclear ? "config.json and quantize_config.json disagree"
              : said == ZeroPoints::kLessOne
                  ? "checkpoint_format gptq would make them " + std::to_string(middle + 1)
                  : "checkpoint_format gptq_v2 would make them " + std::to_string(middle - 1);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace berth
