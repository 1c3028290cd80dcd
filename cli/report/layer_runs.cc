#include "cli/report/layer_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <span>
#include <tuple>

#include "cli/report/pieces.h"
#include "planner/base/join.h"

namespace berth {
namespace {

// A run while it grows. Its name is cut at the dots; a number in it may have become a range.
struct Item {
  std::vector<std::string> parts;
  std::string piece;  // of a layer that is cut: "experts", or "rest" for all else of it
  LayerRun run;
};

std::vector<std::string> cut_at_dots(std::string_view name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::string dotted(std::span<const std::string> parts) { return join(parts, "."); }

std::optional<std::uint64_t> number_of(const std::string& part) {
  std::uint64_t number = 0;
  const char* end = part.data() + part.size();
  const auto [stop, error] = std::from_chars(part.data(), end, number);
  if (part.empty() || error != std::errc() || stop != end) return {};
  return number;
}

void add_to(LayerRun& run, const LayerRun& more) {
  run.count += more.count;
  run.bytes += more.bytes;
  run.least = std::min(run.least, more.least);
  run.most = std::max(run.most, more.most);
}

// Merges items whose names differ only in one number, if that counts up by one. The number stands
// `place` parts before the end of the name.
std::vector<Item> merge_at(std::vector<Item> items, std::size_t place) {
  struct Open {
    std::size_t index;    // into `merged`
    std::uint64_t first;  // of the range
    std::uint64_t last;
  };
  std::map<std::tuple<std::uint32_t, std::string, std::string>, Open> open;
  std::vector<Item> merged;
  for (Item& item : items) {
    const std::size_t at = item.parts.size() - 1 - place;
    const std::optional<std::uint64_t> number =
        place < item.parts.size() ? number_of(item.parts[at]) : std::nullopt;
    if (!number) {
      merged.push_back(std::move(item));
      continue;
    }
    std::vector<std::string> pattern = item.parts;
    pattern[at] = "*";
    const auto key =
        std::tuple(item.run.device, dotted(pattern) + " " + item.piece, item.run.reason);
    const auto found = open.find(key);
    if (found == open.end() || found->second.last + 1 != *number) {
      open[key] = {merged.size(), *number, *number};
      merged.push_back(std::move(item));
      continue;
    }
    Open& range = found->second;
    range.last = *number;
    Item& target = merged[range.index];
    target.parts[at] = fmt::format("{}-{}", range.first, range.last);
    add_to(target.run, item.run);
  }
  return merged;
}

// "3" or "3-7".
bool is_numbers(const std::string& part) {
  const std::size_t dash = part.find('-');
  return number_of(part.substr(0, dash)) &&
         (dash == std::string::npos || number_of(part.substr(dash + 1)));
}

// Merges items whose names differ only in the layer's number, whatever the numbers are:
// "h.0-1,3-4". If there are many, the first three and the last are named: "h.0,4,8,...,76".
std::vector<Item> merge_gaps(std::vector<Item> items) {
  constexpr std::size_t kMostPieces = 8;
  struct Open {
    std::size_t index;  // into `merged`
    std::size_t at;     // the part that holds the number
    std::vector<std::string> pieces;
  };
  std::map<std::tuple<std::uint32_t, std::string, std::string>, Open> open;
  std::vector<Item> merged;
  for (Item& item : items) {
    std::size_t at = 0;
    while (at < item.parts.size() && !is_numbers(item.parts[at])) ++at;
    if (at == item.parts.size()) {
      merged.push_back(std::move(item));
      continue;
    }
    std::vector<std::string> pattern = item.parts;
    pattern[at] = "*";
    const auto key =
        std::tuple(item.run.device, dotted(pattern) + " " + item.piece, item.run.reason);
    const auto [found, fresh] = open.try_emplace(key, Open{merged.size(), at, {item.parts[at]}});
    if (fresh) {
      merged.push_back(std::move(item));
      continue;
    }
    found->second.pieces.push_back(item.parts[at]);
    add_to(merged[found->second.index].run, item.run);
  }
  for (auto& [key, range] : open) {
    std::vector<std::string>& pieces = range.pieces;
    if (pieces.size() > kMostPieces) {
      pieces = {pieces[0], pieces[1], pieces[2], "...", pieces.back()};
    }
    merged[range.index].parts[range.at] = join(pieces, ",");
  }
  return merged;
}

std::vector<Item> make_items(const ModelTree& tree, const Plan& plan) {
  std::vector<Item> items;
  for (PlacedPiece& piece : plan_pieces(tree, plan)) {
    Item item{cut_at_dots(tree.modules.at(piece.module).name), std::string(piece.piece), {}};
    item.run = {{},          {},          piece.device, 1,
                piece.bytes, piece.bytes, piece.bytes,  std::move(piece.reason)};
    items.push_back(std::move(item));
  }
  return items;
}

// How many parts at the beginning all names share. At least one part of each name is not counted.
std::size_t common_parts(const std::vector<Item>& items) {
  std::size_t common = 0;
  for (;; ++common) {
    for (const Item& item : items) {
      if (item.parts.size() <= common + 1) return common;
      if (item.parts[common] != items.front().parts[common]) return common;
    }
    if (items.empty()) return 0;
  }
}

// The first part of more than half of the names ("model", "transformer"), which short names leave
// out.
std::string usual_root(const std::vector<Item>& items) {
  std::map<std::string, std::size_t> votes;
  for (const Item& item : items) {
    if (item.parts.size() > 1 && !number_of(item.parts[1])) ++votes[item.parts[0]];
  }
  for (const auto& [root, count] : votes) {
    if (2 * count > items.size()) return root;
  }
  return {};
}

}  // namespace

std::vector<LayerRun> layer_runs(const ModelTree& tree, const Plan& plan) {
  std::vector<Item> items = make_items(tree, plan);
  std::size_t deepest = 0;
  for (const Item& item : items) deepest = std::max(deepest, item.parts.size());
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.run.device < b.run.device; });
  for (std::size_t place = 0; place < deepest; ++place) items = merge_at(std::move(items), place);
  items = merge_gaps(std::move(items));

  const std::size_t common = common_parts(items);
  const std::string root = common == 0 ? usual_root(items) : std::string();
  std::vector<LayerRun> runs;
  for (Item& item : items) {
    LayerRun run = std::move(item.run);
    run.name = dotted(item.parts);
    const bool rooted = !root.empty() && item.parts.size() > 1 && item.parts[0] == root;
    run.short_name = dotted(std::span(item.parts).subspan(rooted ? 1 : common));
    if (run.name.empty()) run.name = run.short_name = "(the whole model)";
    if (!item.piece.empty()) {
      run.name += " " + item.piece;
      run.short_name += " " + item.piece;
    }
    runs.push_back(std::move(run));
  }
  return runs;
}

}  // namespace berth
