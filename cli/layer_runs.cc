#include "cli/layer_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <tuple>

namespace berth {
namespace {

// A run while it grows: a name cut at its dots, where a part may already be a range.
struct Item {
  std::vector<std::string> parts;
  LayerRun run;
};

std::vector<std::string> cut_at_dots(const std::string& name) {
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

std::string join(const std::vector<std::string>& parts, std::size_t from = 0) {
  std::string name;
  for (std::size_t i = from; i < parts.size(); ++i) name += (i > from ? "." : "") + parts[i];
  return name;
}

std::optional<std::uint64_t> number_of(const std::string& part) {
  std::uint64_t number = 0;
  const char* end = part.data() + part.size();
  const auto [stop, error] = std::from_chars(part.data(), end, number);
  if (part.empty() || error != std::errc() || stop != end) return {};
  return number;
}

// Merges items that differ only in the number `place` parts before the end, where it counts up.
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
    const auto key = std::tuple(item.run.device, join(pattern), item.run.reason);
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
    target.run.count += item.run.count;
    target.run.bytes += item.run.bytes;
    target.run.least = std::min(target.run.least, item.run.least);
    target.run.most = std::max(target.run.most, item.run.most);
  }
  return merged;
}

// How many leading parts all names share, leaving at least one part of each.
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

// The first part of most names ("model", "transformer"): dropped from short names where it leads.
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
  std::vector<Item> items;
  std::size_t deepest = 0;
  for (const ModulePlacement& placed : plan.placement) {
    const std::string& name = tree.modules.at(placed.module).name;
    Item item{cut_at_dots(name), {}};
    item.run = {{}, {}, placed.device, 1, placed.bytes, placed.bytes, placed.bytes, placed.reason};
    deepest = std::max(deepest, item.parts.size());
    items.push_back(std::move(item));
  }
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.run.device < b.run.device; });
  for (std::size_t place = 0; place < deepest; ++place) items = merge_at(std::move(items), place);

  const std::size_t common = common_parts(items);
  const std::string root = common == 0 ? usual_root(items) : std::string();
  std::vector<LayerRun> runs;
  for (Item& item : items) {
    LayerRun run = std::move(item.run);
    run.name = join(item.parts);
    const bool rooted = !root.empty() && item.parts.size() > 1 && item.parts[0] == root;
    run.short_name = join(item.parts, rooted ? 1 : common);
    if (run.name.empty()) run.name = run.short_name = "(the whole model)";
    runs.push_back(std::move(run));
  }
  return runs;
}

}  // namespace berth
