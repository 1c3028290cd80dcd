#include "runtime/kernels/group_stretch.h"

#include <algorithm>
#include <limits>

#include "runtime/kernels/group_layout.h"

namespace berth {
namespace {

constexpr std::size_t kCell = 32;  // columns whose nibbles share bytes
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::uint32_t word_at(const std::byte* from) {
  std::uint32_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

// The nibbles of 16 bits, a byte each.
std::uint32_t spread(std::uint32_t half) {
  half = (half | half << 8) & 0x00FF00FF;
  return (half | half << 4) & 0x0F0F0F0F;
}

// The nibbles of 16 bits in every other byte.
std::uint64_t spread_wide(std::uint64_t half) {
  half = (half | half << 24) & 0x000000FF000000FF;
  return (half | half << 12) & 0x000F000F000F000F;
}

// The rows of a word of AWQ in their order, a byte each: its nibbles are 0 2 4 6 1 3 5 7.
std::uint64_t awq_rows(std::uint32_t word) {
  return spread_wide(word & 0xFFFF) | spread_wide(word >> 16) << 8;
}

// From `begin` to `end`; empty where end <= begin.
struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool has(std::size_t i) const { return i >= begin && i < end; }
};

class Stretch {
 public:
  Stretch(const QuantLayout& layout, const QuantTables& tables, const GroupedForm& form,
          const std::byte* from, Range bytes, std::byte* tiles, std::mutex& seams)
      : layout_(layout),
        tables_(tables),
        form_(form),
        group_(columns_of_group(form)),
        from_(from),
        bytes_(bytes),
        tiles_(tiles),
        tile_bytes_(grouped_tile_bytes(form.format, layout.columns, form.group)),
        seams_(seams, std::defer_lock) {}

  bool run() {
    switch (layout_.order) {
      case QuantOrder::kGptq:
        words_of_columns();
        break;
      case QuantOrder::kAwq:
        words_of_rows();
        break;
      default:
        takes_floats(form_.format) ? bytes_of_rows() : nibbles_of_rows();
    }
    return said_;
  }

 private:
  std::byte* tile_of(std::size_t row) const { return tiles_ + row / kTileRows * tile_bytes_; }
  // Where the elements of a row's cell are, in the first of its four groups of columns.
  std::byte* cell_of(std::size_t row, std::size_t column) const {
    return tile_of(row) + elements_at(form_, column) + 4 * (row % kTileRows);
  }
  const std::byte* packed(std::size_t byte) const { return from_ + (byte - bytes_.begin); }

  // Puts the scales of `rows` rows, one after another in a tile, if a group begins with `column`.
  void put_scales(std::size_t row, std::size_t rows, std::size_t column) {
    if (column % group_ != 0) return;
    std::byte* const entry = tile_of(row) + group_entry(form_, column);
    for (std::size_t i = row; i < row + rows; ++i) {
      said_ &= put_scale(form_, scale_of(layout_, tables_, i, column),
                         zero_of(layout_, tables_, i, column), i % kTileRows, entry);
    }
  }

  // An element whose byte may have elements of another stretch. The lock is held from the first of
  // some that follow each other until end_seam().
  void put_seam(std::size_t row, std::size_t column, unsigned code) {
    if (!seams_.owns_lock()) seams_.lock();
    put_scales(row, 1, column);
    put_nibble(tile_of(row) + elements_at(form_, column), row % kTileRows, column, code);
  }

  void end_seam() {
    if (seams_.owns_lock()) seams_.unlock();
  }

  // Row by row, two columns a byte.
  void nibbles_of_rows() {
    constexpr std::size_t kBytes = kCell / 2;
    const std::size_t values =
        layout_.order == QuantOrder::kExperts ? layout_.columns : layout_.row_values;
    const std::size_t row_bytes = values / 2;
    for (std::size_t row = bytes_.begin / row_bytes; row * row_bytes < bytes_.end; ++row) {
      const std::size_t base = row * row_bytes;
      const std::size_t begin = std::max(bytes_.begin, base) - base;
      const std::size_t end = std::min({bytes_.end - base, row_bytes, layout_.columns / 2});
      const std::size_t first = std::min((begin + kBytes - 1) / kBytes * kBytes, end);
      const std::size_t last = std::max(first, end / kBytes * kBytes);
      for (std::size_t at = first; at < last; at += kBytes) {
        const std::byte* const in = packed(base + at);
        std::byte* const out = cell_of(row, 2 * at);
        for (std::size_t q = 0; q < 4; ++q) {
          const std::uint32_t low = word_at(in + q / 2 * 4) >> q % 2 * 16 & 0xFFFF;
          const std::uint32_t high = word_at(in + 8 + q / 2 * 4) >> q % 2 * 16 & 0xFFFF;
          const std::uint32_t both = spread(low) | spread(high) << 4;
          std::memcpy(out + q * kGroupBytes, &both, sizeof both);
        }
        put_scales(row, 1, 2 * at);
      }
      const auto seam = [&](std::size_t from, std::size_t to) {
        for (std::size_t at = from; at < to; ++at) {
          const auto byte = std::to_integer<unsigned>(*packed(base + at));
          put_seam(row, 2 * at, byte & 15);
          put_seam(row, 2 * at + 1, byte >> 4);
        }
      };
      seam(begin, first);
      seam(last, end);
      end_seam();
    }
  }

  // GPTQ: words of eight neighbouring columns of a row, those of all rows one after another.
  void words_of_columns() {
    const std::size_t rows = layout_.rows;
    const Range words{bytes_.begin / 4, bytes_.end / 4};
    for (std::size_t cell = words.begin / (4 * rows); 4 * cell * rows < words.end; ++cell) {
      const std::size_t base = 4 * cell * rows;
      const Range whole = all_of(words, base, 3 * rows, rows);
      for (std::size_t row = whole.begin; row < whole.end;) {
        const std::size_t count = std::min(kTileRows - row % kTileRows, whole.end - row);
        cell_of_columns(row, count, cell * kCell, packed(4 * (base + row)));
        row += count;
      }
      for (std::size_t k = 0; k < 4; ++k) {
        const std::size_t first = base + k * rows;
        const std::size_t end = std::min(words.end, first + rows);
        for (std::size_t w = std::max(words.begin, first); w < end; ++w) {
          if (whole.has(w - first)) {
            w = first + whole.end - 1;
            continue;
          }
          const std::uint32_t word = word_at(packed(4 * w));
          for (unsigned i = 0; i < 8; ++i) {
            put_seam(w - first, cell * kCell + 8 * k + i, word >> 4 * i & 15);
          }
        }
      }
      end_seam();
    }
  }
  void cell_of_columns(std::size_t row, std::size_t count, std::size_t column,
                       const std::byte* in) {
    std::byte* const out = cell_of(row, column);
    const std::size_t a_word = 4 * layout_.rows;  // from eight columns to the next, in bytes
    for (std::size_t q = 0; q < 4; ++q) {
      const std::byte* const lows = in + q / 2 * a_word;
      const std::byte* const highs = lows + 2 * a_word;
      const unsigned shift = q % 2 * 16;
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t both = spread(word_at(lows + 4 * i) >> shift & 0xFFFF) |
                                   spread(word_at(highs + 4 * i) >> shift & 0xFFFF) << 4;
        std::memcpy(out + q * kGroupBytes + 4 * i, &both, sizeof both);
      }
    }
    put_scales(row, count, column);
  }

  // AWQ: words of eight neighbouring rows of a column, those of all rows one after another.
  void words_of_rows() {
    const std::size_t eights = layout_.rows / 8;
    const Range words{bytes_.begin / 4, bytes_.end / 4};
    for (std::size_t cell = words.begin / (kCell * eights); kCell * cell * eights < words.end;
         ++cell) {
      const std::size_t base = kCell * cell * eights;
      const Range whole = all_of(words, base, (kCell - 1) * eights, eights);
      for (std::size_t eight = whole.begin; eight < whole.end; ++eight) {
        cell_of_rows(8 * eight, cell * kCell, packed(4 * (base + eight)));
      }
      for (std::size_t c = 0; c < kCell; ++c) {
        const std::size_t first = base + c * eights;
        const std::size_t end = std::min(words.end, first + eights);
        for (std::size_t w = std::max(words.begin, first); w < end; ++w) {
          if (whole.has(w - first)) {
            w = first + whole.end - 1;
            continue;
          }
          const std::uint64_t codes = awq_rows(word_at(packed(4 * w)));
          for (unsigned r = 0; r < 8; ++r) {
            put_seam(8 * (w - first) + r, cell * kCell + c, codes >> 8 * r & 15);
          }
        }
      }
      end_seam();
    }
  }
  void cell_of_rows(std::size_t row, std::size_t column, const std::byte* in) {
    std::byte* const out = cell_of(row, column);
    const std::size_t a_column = layout_.rows / 2;  // from a column to the next, in bytes
    for (std::size_t q = 0; q < 4; ++q) {
      std::uint64_t columns[4];
      for (std::size_t i = 0; i < 4; ++i) {
        const std::byte* const low = in + (4 * q + i) * a_column;
        columns[i] = awq_rows(word_at(low)) | awq_rows(word_at(low + 16 * a_column)) << 4;
      }
      for (unsigned r = 0; r < 8; ++r) {
        const auto byte = [&](std::size_t i) {
          return static_cast<std::uint32_t>(columns[i] >> 8 * r & 0xFF);
        };
        const std::uint32_t four = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
        std::memcpy(out + q * kGroupBytes + 4 * r, &four, sizeof four);
      }
    }
    put_scales(row, 8, column);
  }

  // Of `count` words, the first `base` and the others behind it: those for which the words up to
  // `reach` further on are all in the stretch.
  static Range all_of(Range words, std::size_t base, std::size_t reach, std::size_t count) {
    const std::size_t begin = words.begin > base ? words.begin - base : 0;
    const std::size_t end = words.end > base + reach ? words.end - base - reach : 0;
    return {std::min(begin, count), std::max(std::min(begin, count), std::min(end, count))};
  }

  // FP8, row by row. No byte of a tile belongs to two elements.
  void bytes_of_rows() {
    const std::size_t row_bytes = layout_.row_values;
    for (std::size_t row = bytes_.begin / row_bytes; row * row_bytes < bytes_.end;) {
      const std::size_t base = row * row_bytes;
      const bool all = row % kTileRows == 0 && base >= bytes_.begin &&
                       base + kTileRows * row_bytes <= bytes_.end;
      const std::size_t rows = all ? kTileRows : 1;
      const std::size_t begin = std::max(bytes_.begin, base) - base;
      const std::size_t end = std::min(bytes_.end - base, layout_.columns);
      for (std::size_t column = begin; column < end;) {
        const std::size_t next = std::min(end, (column / group_ + 1) * group_);
        const bool whole = column % group_ == 0 && (next % group_ == 0 || next == layout_.columns);
        put_bytes(row, rows, {column, next}, whole);
        column = next;
      }
      row += rows;
    }
  }
  // Columns of one group. Where it is not whole, another stretch has the others.
  void put_bytes(std::size_t row, std::size_t rows, Range columns, bool whole) {
    std::byte* const out = tile_of(row) + elements_at(form_, columns.begin) + row % kTileRows;
    const std::byte* const in = packed(row * layout_.row_values + columns.begin);
    const std::size_t count = columns.end - columns.begin;
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < count; ++c)
        out[c * kTileRows + r] = in[r * layout_.row_values + c];
    }
    if (!whole) seams_.lock();
    const std::size_t begin = columns.begin / group_ * group_;
    std::byte* const entry = tile_of(row) + group_entry(form_, begin);
    for (std::size_t r = 0; r < rows; ++r) {
      // A NaN that another stretch found stays.
      const bool known = !whole && std::isnan(float_at(entry, (row + r) % kTileRows));
      if (!known) put_scales(row + r, 1, columns.begin);
      if (form_.format == MatrixFormat::kF8E4M3 &&
          std::any_of(in + r * layout_.row_values, in + r * layout_.row_values + count,
                      [](std::byte b) { return is_e4m3_nan(std::to_integer<unsigned>(b)); })) {
        put_float(entry, (row + r) % kTileRows, kNaN);
      }
    }
    end_seam();
  }

  const QuantLayout& layout_;
  const QuantTables& tables_;
  const GroupedForm& form_;
  const std::size_t group_;
  const std::byte* from_;
  const Range bytes_;
  std::byte* tiles_;
  const std::size_t tile_bytes_;
  std::unique_lock<std::mutex> seams_;
  bool said_ = true;
};

}  // namespace

bool tile_packed(const QuantLayout& layout, const QuantTables& tables, const GroupedForm& form,
                 const std::byte* from, std::size_t at, std::size_t bytes, std::byte* tiles,
                 std::mutex& seams) {
  if (bytes == 0) return true;
  return Stretch(layout, tables, form, from, {at, at + bytes}, tiles, seams).run();
}

}  // namespace berth
