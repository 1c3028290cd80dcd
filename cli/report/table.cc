#include "cli/report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace berth {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// 100 x bytes / GiB as a whole number and a remainder, because the product may overflow.
std::int64_t hundredths_down(std::uint64_t bytes) {
  return static_cast<std::int64_t>(bytes / kGiB * 100 + bytes % kGiB * 100 / kGiB);
}

std::uint64_t remainder_of(std::uint64_t bytes) { return bytes % kGiB * 100 % kGiB; }

// Splits at ", " into lines of at most `width`; a longer piece gets a line of its own.
std::vector<std::string> wrap(const std::string& text, std::size_t width) {
  std::vector<std::string> lines(1);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = text.find(", ", at);
    const bool last = comma == std::string::npos;
    const std::string piece = text.substr(at, last ? comma : comma + 1 - at);
    if (!lines.back().empty() && lines.back().size() + 1 + piece.size() > width) {
      lines.emplace_back();
    }
    if (!lines.back().empty()) lines.back() += ' ';
    lines.back() += piece;
    at = last ? text.size() : comma + 2;
  }
  return lines;
}

}  // namespace

Table::Table(std::vector<std::string> headers, std::size_t width)
    : rows_{std::move(headers)}, width_(width) {}

void Table::add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

std::string Table::text() const {
  const std::size_t columns = rows_.front().size();
  std::vector<std::size_t> widths(columns);
  for (const std::vector<std::string>& row : rows_) {
    for (std::size_t i = 0; i < columns; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  const std::size_t before =
      std::accumulate(widths.begin(), widths.end() - 1, 2 * (columns - 1), std::plus<>());

  std::string out;
  for (const std::vector<std::string>& row : rows_) {
    std::string line = fmt::format("{:<{}}", row[0], widths[0]);
    for (std::size_t i = 1; i + 1 < columns; ++i) {
      line += fmt::format("  {:>{}}", row[i], widths[i]);
    }
    const std::vector<std::string> last =
        wrap(row[columns - 1], std::max(width_, before + 20) - before);
    for (std::size_t i = 0; i < last.size(); ++i) {
      line += i == 0 ? "  " : std::string(before, ' ');
      line += last[i];
      line.erase(line.find_last_not_of(' ') + 1);
      out += line + "\n";
      line.clear();
    }
  }
  return out;
}

std::string with_commas(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, 1, ',');
  return text;
}

std::int64_t gib_hundredths(std::uint64_t bytes) {
  const std::int64_t down = hundredths_down(bytes);
  const std::uint64_t remainder = remainder_of(bytes);
  const bool up = remainder > kGiB / 2 || (remainder == kGiB / 2 && down % 2 == 1);
  return down + (up ? 1 : 0);
}

std::string format_hundredths(std::int64_t hundredths) {
  const std::uint64_t size = hundredths < 0 ? 0 - static_cast<std::uint64_t>(hundredths)
                                            : static_cast<std::uint64_t>(hundredths);
  return fmt::format("{}{}.{:02}", hundredths < 0 ? "-" : "", size / 100, size % 100);
}

std::vector<std::int64_t> apportion(const std::vector<std::uint64_t>& parts, std::int64_t total) {
  std::vector<std::int64_t> shares;
  std::vector<std::size_t> order(parts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::int64_t left = total;
  for (const std::uint64_t part : parts) {
    shares.push_back(hundredths_down(part));
    left -= shares.back();
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return remainder_of(parts[a]) > remainder_of(parts[b]);
  });
  for (std::size_t i = 0; left > 0 && i < order.size(); ++i, --left) ++shares[order[i]];
  // If the shares exceed `total`, because the caller rounded another figure up, the largest gives
  // way.
  for (; left < 0; ++left) {
    const auto largest = std::max_element(shares.begin(), shares.end());
    if (largest == shares.end() || *largest == 0) break;
    --*largest;
  }
  if (left > 0 && !shares.empty()) *std::max_element(shares.begin(), shares.end()) += left;
  return shares;
}

}  // namespace berth
