// A table without borders: aligned columns, two spaces between them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace berth {

// Rows of text under one row of headers. The first column is left-aligned, and so is the last if it
// is not numeric; the others are right-aligned. Text of the last column is wrapped at its ", " so
// that a line stays within `width`.
class Table {
 public:
  explicit Table(std::vector<std::string> headers, std::size_t width = 100);
  void add(std::vector<std::string> cells);
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // headers first
  std::size_t width_;
};

std::string with_commas(std::uint64_t number);  // "70,553,706,496"

// A capacity of this many bytes (an exbibyte) or more stands for "no limit" and is printed as "-".
inline constexpr std::uint64_t kShownAsUnlimited = std::uint64_t{1} << 60;

// Bytes as hundredths of a GiB, rounded to nearest, halves to even: as format_gib() prints them.
std::int64_t gib_hundredths(std::uint64_t bytes);
std::string format_hundredths(std::int64_t hundredths);  // "-12.30"

// `parts` in hundredths of a GiB, rounded so that they add up to exactly `total` hundredths: first
// all are rounded down, then those with the largest remainders up (largest remainder method).
// `parts` must sum to about `total`.
std::vector<std::int64_t> apportion(const std::vector<std::uint64_t>& parts, std::int64_t total);

}  // namespace berth
