// The host's dequantisation loops, compiled once for each instruction set by a source file that
// defines BERTH_DEQUANT_LOOPS (the function's name) and includes this one.
//
// Values are decoded to f32 in a buffer that stays in the first-level cache, a stretch of one row
// of the result at a time, scaled there, and written as what is asked for. Where the packed order
// runs across the result (GPTQ, AWQ, gpt-oss), stretches are as long as a few cache lines, and as
// many neighbours are worked on as one line of packed values holds.
#include <cstring>

#include "cuda/dequant_bits.h"

namespace berth {
namespace {

constexpr std::size_t kStretch = 512;  // values in the buffer
constexpr std::uint64_t kAcross = 64;  // rows of the packed order that are turned at once

// Not std::min, which is no code of this object alone.
std::uint64_t least(std::uint64_t a, std::uint64_t b) { return a < b ? a : b; }

// Where stretches of the result go.
class Result {
 public:
  Result(FloatFormat arithmetic, void* to, FloatFormat format)
      : to_(to), format_(format), arithmetic_(arithmetic) {}

  // Rounds `count` values and writes them from element `at` on.
  void put(float* values, std::size_t count, std::uint64_t at) const {
    if (arithmetic_ == FloatFormat::kBF16 && format_ != FloatFormat::kBF16) {
      for (std::size_t i = 0; i < count; ++i) values[i] = bf16_to_float(float_to_bf16(values[i]));
    } else if (arithmetic_ == FloatFormat::kF16 && format_ != FloatFormat::kF16) {
      for (std::size_t i = 0; i < count; ++i) values[i] = f16_to_float(float_to_f16(values[i]));
    }
    switch (format_) {
      case FloatFormat::kBF16:
        return narrow<BF16Bits>(values, count, at);
      case FloatFormat::kF16:
        return narrow<F16Bits>(values, count, at);
      case FloatFormat::kF32:
        return narrow<F32Bits>(values, count, at);
      case FloatFormat::kF64:
        return narrow<F64Bits>(values, count, at);
    }
  }

 private:
  template <class To>
  void narrow(const float* values, std::size_t count, std::uint64_t at) const {
    auto* to = static_cast<typename To::Bits*>(to_) + at;
    for (std::size_t i = 0; i < count; ++i) to[i] = To::narrow(values[i]);
  }

  void* to_;
  FloatFormat format_;
  FloatFormat arithmetic_;
};

class Loops {
 public:
  Loops(const QuantLayout& layout, const QuantTables& tables, const void* from, std::uint64_t first,
        std::uint64_t bytes, void* to, FloatFormat format)
      : layout_(layout),
        tables_(tables),
        from_(static_cast<const unsigned char*>(from)),
        first_(first),
        bytes_(bytes),
        result_(tables.scales == nullptr ? FloatFormat::kF32 : layout.arithmetic, to, format) {}

  template <class Code, class Order, class To>
  bool run() const {
    constexpr QuantOrder kOrder = Order::kOrder;
    if constexpr (kOrder == QuantOrder::kGptq) {
      rectangles(layout_.rows, 4, [this](auto... range) { gptq<Code>(range...); });
    } else if constexpr (kOrder == QuantOrder::kAwq) {
      rectangles(layout_.rows / 8, 4, [this](auto... range) { awq(range...); });
    } else if constexpr (kOrder == QuantOrder::kExperts) {
      rectangles(layout_.columns / 2, 1, [this](auto... range) { experts(range...); });
    } else {
      rows<Code, kOrder == QuantOrder::kRowsHigh>();
    }
    return true;
  }

 private:
  // The piece as rectangles of the packed matrix, `width` units of `unit` bytes wide: what is left
  // of its first row, whole rows, and what it has of its last. visit(top, bottom, left, right).
  template <class Visit>
  void rectangles(std::uint64_t width, std::uint64_t unit, const Visit& visit) const {
    std::uint64_t at = first_ / unit;
    const std::uint64_t end = at + bytes_ / unit;
    while (at < end) {
      const std::uint64_t row = at / width;
      const std::uint64_t left = at % width;
      const std::uint64_t whole = (end - at) / width;
      if (left == 0 && whole > 0) {
        visit(row, row + whole, std::uint64_t{0}, width);
        at += whole * width;
      } else {
        const std::uint64_t right = least(width, left + (end - at));
        visit(row, row + 1, left, right);
        at += right - left;
      }
    }
  }

  std::uint32_t word(std::uint64_t index) const {
    std::uint32_t word;
    memcpy(&word, from_ + (index * 4 - first_), sizeof word);
    return word;
  }

  // Scales `count` values of `row` from `column` on.
  void scale(float* values, std::uint64_t row, std::uint64_t column, std::size_t count) const {
    if (tables_.scales == nullptr) return;
    const std::uint64_t base = row / layout_.block_rows * layout_.row_step;
    if (tables_.groups != nullptr) {
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t at = base + tables_.groups[column + i] * layout_.group_step;
        values[i] = (values[i] - zero(at)) * tables_.scales[at] * layout_.factor;
      }
      return;
    }
    for (std::size_t i = 0; i < count;) {
      const std::uint64_t group = (column + i) / layout_.group_columns;
      const std::uint64_t end = (group + 1) * layout_.group_columns - column;
      const std::size_t stop = end < count ? static_cast<std::size_t>(end) : count;
      const std::uint64_t at = base + group * layout_.group_step;
      const float less = zero(at);
      const float factor = tables_.scales[at];
      for (; i < stop; ++i) values[i] = (values[i] - less) * factor * layout_.factor;
    }
  }
  float zero(std::uint64_t at) const {
    return tables_.zeros != nullptr ? tables_.zeros[at] : layout_.zero;
  }

  template <class Code, bool high_first>
  void decode(const unsigned char* from, std::size_t bytes, float* values) const {
    if constexpr (Code::kBits == 8) {
      for (std::size_t i = 0; i < bytes; ++i) values[i] = Code::widen(from[i]);
    } else if constexpr (Code::kBits == 4) {
      for (std::size_t i = 0; i < bytes; ++i) {
        const std::uint32_t pair = from[i];
        values[2 * i + (high_first ? 1 : 0)] = code_value<Code>(tables_, pair & 15u);
        values[2 * i + (high_first ? 0 : 1)] = code_value<Code>(tables_, pair >> 4);
      }
    } else {
      for (std::size_t i = 0; i < bytes; ++i) {
        for (unsigned k = 0; k < 4; ++k) values[4 * i + k] = Code::widen(from[i] >> (2 * k));
      }
    }
  }

  // Rows begin at a byte; the last value of the last byte may be padding.
  template <class Code, bool high_first>
  void rows() const {
    constexpr std::uint64_t kValues = 8 / Code::kBits;
    const std::uint64_t end = (first_ + bytes_) * kValues;
    for (std::uint64_t at = first_ * kValues; at < end;) {
      const std::uint64_t row = at / layout_.row_values;
      const std::uint64_t column = at % layout_.row_values;
      const std::uint64_t left = least(end - at, layout_.row_values - column);
      const std::uint64_t count = least(left, kStretch);
      if (row >= layout_.rows) return;
      if (column < layout_.columns) {
        float values[kStretch];
        const std::uint64_t useful = least(count, layout_.columns - column);
        decode<Code, high_first>(from_ + (at / kValues - first_), (count + kValues - 1) / kValues,
                                 values);
        scale(values, row, column, useful);
        result_.put(values, useful, row * layout_.columns + column);
      }
      at += count;
    }
  }

  // Words of neighbouring columns stand below each other.
  template <class Code>
  void gptq(std::uint64_t top, std::uint64_t bottom, std::uint64_t left,
            std::uint64_t right) const {
    constexpr std::uint64_t kValues = 32 / Code::kBits;
    constexpr std::uint64_t kTall = 128 / kValues;  // words a stretch
    for (; top < bottom; top += kTall) {
      const std::uint64_t tall = least(bottom - top, kTall);
      const std::uint64_t column = top * kValues;
      if (column >= layout_.columns) return;
      const std::uint64_t count = least(tall * kValues, layout_.columns - column);
      for (std::uint64_t row = left; row < right; ++row) {
        float values[kTall * kValues];
        for (std::uint64_t i = 0; i < tall; ++i) {
          const std::uint32_t packed = word((top + i) * layout_.rows + row);
          for (unsigned k = 0; k < kValues; ++k) {
            values[i * kValues + k] = Code::widen(packed >> (Code::kBits * k));
          }
        }
        scale(values, row, column, count);
        result_.put(values, count, row * layout_.columns + column);
      }
    }
  }

  // A word holds eight rows of one column.
  void awq(std::uint64_t top, std::uint64_t bottom, std::uint64_t left, std::uint64_t right) const {
    const std::uint64_t width = layout_.rows / 8;
    for (; top < bottom; top += kAcross) {
      const std::uint64_t count = least(bottom - top, kAcross);
      for (std::uint64_t j = left; j < right; ++j) {
        std::uint32_t packed[kAcross];
        for (std::uint64_t i = 0; i < count; ++i) packed[i] = word((top + i) * width + j);
        for (unsigned k = 0; k < 8; ++k) {
          const unsigned shift = (k & 1u) * 16 + (k >> 1) * 4;
          float values[kAcross];
          for (std::uint64_t i = 0; i < count; ++i) {
            values[i] = UnsignedCode<4>::widen(packed[i] >> shift);
          }
          const std::uint64_t row = 8 * j + k;
          scale(values, row, top, count);
          result_.put(values, count, row * layout_.columns + top);
        }
      }
    }
  }

  // Bytes hold two columns of one row; the result has rows beside each other.
  void experts(std::uint64_t top, std::uint64_t bottom, std::uint64_t left,
               std::uint64_t right) const {
    constexpr std::uint64_t kWide = 16;  // bytes: a block with one scale
    const std::uint64_t width = layout_.columns / 2;
    while (top < bottom) {
      const std::uint64_t expert = top / layout_.expert_rows;
      const std::uint64_t row = top % layout_.expert_rows;
      const std::uint64_t count = least(least(bottom - top, kAcross), layout_.expert_rows - row);
      for (std::uint64_t at = left; at < right;) {
        const std::uint64_t stop = least(right, (at / kWide + 1) * kWide);
        unsigned char turned[kWide][kAcross];
        float scales[kAcross];
        float zeros[kAcross];
        const std::uint64_t group = 2 * at / layout_.group_columns * layout_.group_step;
        for (std::uint64_t i = 0; i < count; ++i) {
          const unsigned char* packed = from_ + ((top + i) * width + at - first_);
          for (std::uint64_t b = 0; b < stop - at; ++b) turned[b][i] = packed[b];
          const std::uint64_t scale = (top + i) / layout_.block_rows * layout_.row_step + group;
          scales[i] = tables_.scales == nullptr ? 1 : tables_.scales[scale];
          zeros[i] = tables_.scales == nullptr ? 0 : zero(scale);
        }
        const float factor = tables_.scales == nullptr ? 1 : layout_.factor;
        for (std::uint64_t b = 0; b < stop - at; ++b) {
          for (unsigned half = 0; half < 2; ++half) {
            float values[kAcross];
            for (std::uint64_t i = 0; i < count; ++i) {
              const float value = F4Code::widen(turned[b][i] >> (4 * half));
              values[i] = (value - zeros[i]) * scales[i] * factor;
            }
            const std::uint64_t column = 2 * (at + b) + half;
            result_.put(values, count,
                        (expert * layout_.columns + column) * layout_.expert_rows + row);
          }
        }
        at = stop;
      }
      top += count;
    }
  }

  const QuantLayout& layout_;
  const QuantTables& tables_;
  const unsigned char* from_;
  std::uint64_t first_;
  std::uint64_t bytes_;
  Result result_;
};

}  // namespace

bool BERTH_DEQUANT_LOOPS(const QuantLayout& layout, const QuantTables& tables, const void* from,
                         std::uint64_t first, std::uint64_t bytes, void* to,
                         FloatFormat to_format) {
  return visit_kernel<F32Bits>(layout, Loops(layout, tables, from, first, bytes, to, to_format));
}

}  // namespace berth
