// The host's dequantisation loops. They are compiled once for each instruction set, by a source
// file that defines BERTH_DEQUANT_LOOPS (the name of the function) and includes this one.
//
// They work on a stretch of one row of the result at a time: its values are decoded to f32 in a
// buffer that stays in the first-level cache, scaled there, and written in the format that is asked
// for. Where packed values are in another order than the result (GPTQ, AWQ, gpt-oss), a stretch is
// a few cache lines long, and as many neighbouring stretches are worked on as a cache line of
// packed values holds.
#include <cstring>

#include "cuda/dequant_orders.h"

namespace berth {
namespace {

constexpr std::size_t kStretch = 512;   // values in the buffer
constexpr std::uint64_t kAcross = 128;  // rows of packed values that are transposed at once
constexpr std::uint64_t kLine = 16;     // words of a cache line
constexpr std::uint64_t kBlock = 16;    // bytes of a gpt-oss block, which has one scale

// Not std::min, because the linker might take its code from an object for another instruction set.
std::uint64_t least(std::uint64_t a, std::uint64_t b) { return a < b ? a : b; }

// Writes stretches of the result.
class Result {
 public:
  Result(FloatFormat arithmetic, void* to, FloatFormat format)
      : to_(to), format_(format), arithmetic_(arithmetic) {}

  // Rounds `count` values and writes them from element `at` on.
  void put(float* values, std::size_t count, std::uint64_t at) const {
    if (arithmetic_ == FloatFormat::kBF16 && format_ != FloatFormat::kBF16) {
      for (std::size_t i = 0; i < count; ++i) values[i] = rounded_to_bf16(values[i]);
    } else if (arithmetic_ == FloatFormat::kF16 && format_ != FloatFormat::kF16) {
      for (std::size_t i = 0; i < count; ++i) values[i] = rounded_to_f16(values[i]);
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
      rectangles(layout_.rows, 4, [this](auto... range) { this->template gptq<Code>(range...); });
    } else if constexpr (kOrder == QuantOrder::kAwq) {
      rectangles(layout_.rows / 8, 4, [this](auto... range) { this->awq(range...); });
    } else if constexpr (kOrder == QuantOrder::kExperts) {
      rectangles(layout_.columns / 2, 1, [this](auto... range) { this->experts(range...); });
    } else {
      rows<Code, kOrder == QuantOrder::kRowsHigh>();
    }
    return true;
  }

 private:
  // Divides the packed bytes into rectangles of the packed matrix, whose rows are `width` units of
  // `unit` bytes: the rest of the first row, the whole rows, and the beginning of the last one.
  // Calls visit(top, bottom, left, right) for each.
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

  // Scales `count` values of `row` from `column` on.
  void scale(float* values, std::uint64_t row, std::uint64_t column, std::size_t count) const {
    if (tables_.scales == nullptr) return;
    const std::uint64_t base = row / layout_.block_rows * layout_.row_step;
    const float also = layout_.factor;  // a copy, so that it is not read again after every write
    if (tables_.groups != nullptr) {
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t at = base + tables_.groups[column + i] * layout_.group_step;
        values[i] = (values[i] - zero(at)) * tables_.scales[at] * also;
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
      for (; i < stop; ++i) values[i] = (values[i] - less) * factor * also;
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

  // Each row begins at a byte. Values of its last byte may be padding.
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

  // Gathers a rectangle of the packed matrix: `wide` words from `left` on, of `tall` rows. In
  // memory these rows are far apart, and often compete for the same sets of a cache.
  void gather(std::uint64_t top, std::uint64_t tall, std::uint64_t width, std::uint64_t left,
              std::uint64_t wide, std::uint32_t (*tile)[kLine]) const {
    for (std::uint64_t i = 0; i < tall; ++i) {
      memcpy(tile[i], from_ + (((top + i) * width + left) * 4 - first_), wide * 4);
    }
  }

  // A word holds neighbouring columns of one row; the next columns of that row are in the word
  // below it.
  template <class Code>
  void gptq(std::uint64_t top, std::uint64_t bottom, std::uint64_t first,
            std::uint64_t right) const {
    constexpr std::uint64_t kValues = 32 / Code::kBits;
    constexpr std::uint64_t kTall = 256 / kValues;  // words in a stretch
    for (; top < bottom; top += kTall) {
      const std::uint64_t tall = least(bottom - top, kTall);
      const std::uint64_t column = top * kValues;
      if (column >= layout_.columns) return;
      const std::uint64_t count = least(tall * kValues, layout_.columns - column);
      for (std::uint64_t left = first; left < right; left += kLine) {
        const std::uint64_t wide = least(right - left, kLine);
        std::uint32_t tile[kTall][kLine];
        gather(top, tall, layout_.rows, left, wide, tile);
        for (std::uint64_t j = 0; j < wide; ++j) {
          std::uint32_t words[kTall];
          float values[kTall * kValues];
          for (std::uint64_t i = 0; i < tall; ++i) words[i] = tile[i][j];
          // Little-endian words with the lowest bits first are bytes with the lowest bits first.
          decode<Code, false>(reinterpret_cast<const unsigned char*>(words), tall * 4, values);
          scale(values, left + j, column, count);
          result_.put(values, count, (left + j) * layout_.columns + column);
        }
      }
    }
  }

  // A word holds eight rows of one column.
  void awq(std::uint64_t top, std::uint64_t bottom, std::uint64_t first,
           std::uint64_t right) const {
    for (; top < bottom; top += kAcross) {
      const std::uint64_t count = least(bottom - top, kAcross);
      for (std::uint64_t left = first; left < right; left += kLine) {
        const std::uint64_t wide = least(right - left, kLine);
        std::uint32_t tile[kAcross][kLine];
        gather(top, count, layout_.rows / 8, left, wide, tile);
        for (std::uint64_t j = 0; j < wide; ++j) {
          std::uint32_t packed[kAcross];
          for (std::uint64_t i = 0; i < count; ++i) packed[i] = tile[i][j];
          for (unsigned k = 0; k < 8; ++k) {
            const unsigned shift = (k & 1u) * 16 + (k >> 1) * 4;
            float values[kAcross];
            for (std::uint64_t i = 0; i < count; ++i) {
              values[i] = UnsignedCode<4>::widen(packed[i] >> shift);
            }
            const std::uint64_t row = 8 * (left + j) + k;
            scale(values, row, top, count);
            result_.put(values, count, row * layout_.columns + top);
          }
        }
      }
    }
  }

  // A byte holds two columns of one row, but in the result rows are next to each other. So a cache
  // line of each row is transposed at a time. 16 bytes share a scale.
  void experts(std::uint64_t top, std::uint64_t bottom, std::uint64_t left,
               std::uint64_t right) const {
    constexpr std::uint64_t kWide = 64;
    const std::uint64_t width = layout_.columns / 2;
    while (top < bottom) {
      const std::uint64_t row = top % layout_.expert_rows;
      const std::uint64_t count = least(least(bottom - top, kAcross), layout_.expert_rows - row);
      for (std::uint64_t at = left; at < right;) {
        const std::uint64_t stop = least(right, (at / kWide + 1) * kWide);
        unsigned char turned[kWide][kAcross];
        for (std::uint64_t i = 0; i < count; ++i) {
          const unsigned char* packed = from_ + ((top + i) * width + at - first_);
          for (std::uint64_t b = 0; b < stop - at; ++b) turned[b][i] = packed[b];
        }
        for (std::uint64_t b = at; b < stop;) {
          const std::uint64_t end = least(stop, (b / kBlock + 1) * kBlock);
          expert_block(top, count, b, end, &turned[b - at]);
          b = end;
        }
        at = stop;
      }
      top += count;
    }
  }

  // Converts bytes [from, to) of `count` rows; in each row these share a scale. `turned` has the
  // bytes transposed: first those with number `from` of all rows.
  void expert_block(std::uint64_t top, std::uint64_t count, std::uint64_t from, std::uint64_t to,
                    const unsigned char (*turned)[kAcross]) const {
    const std::uint64_t expert = top / layout_.expert_rows;
    const std::uint64_t row = top % layout_.expert_rows;
    const std::uint64_t group = 2 * from / layout_.group_columns * layout_.group_step;
    const bool scaled = tables_.scales != nullptr;
    const float factor = scaled ? layout_.factor : 1;
    float scales[kAcross];
    float zeros[kAcross];
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t at = (top + i) / layout_.block_rows * layout_.row_step + group;
      scales[i] = scaled ? tables_.scales[at] : 1;
      zeros[i] = scaled ? zero(at) : 0;
    }
    for (std::uint64_t b = from; b < to; ++b) {
      for (unsigned half = 0; half < 2; ++half) {
        float values[kAcross];
        for (std::uint64_t i = 0; i < count; ++i) {
          const float value = F4Code::widen(turned[b - from][i] >> (4 * half));
          values[i] = (value - zeros[i]) * scales[i] * factor;
        }
        const std::uint64_t column = 2 * b + half;
        result_.put(values, count, (expert * layout_.columns + column) * layout_.expert_rows + row);
      }
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
