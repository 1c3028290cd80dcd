// What a packing moves as one, worked out from the chain (packer.h).
#pragma once

#include <cstdint>
#include <vector>

#include "planner/search/candidate.h"
#include "planner/search/packing.h"

namespace berth {

// Which part of its units an item is.
enum class ItemPart { kWhole, kCore, kExperts };

struct Item {
  std::vector<std::uint32_t> units;  // ascending
  ItemPart part = ItemPart::kWhole;
  std::uint32_t kind = 0;  // index into Items::kinds
};

struct Items {
  std::vector<Item> items;
  std::vector<PackKind> kinds;  // items of several units have a kind of their own
};

// By unit: the device that overrides leave it, by themselves or by a unit that it is joined with;
// kNone if it may move.
std::vector<std::uint32_t> settled_homes(const PlanInputs& inputs, const Judge& judge);

// A way to share copies of tied units: groups of units that go together. A unit that may move and
// is in none of them goes by itself.
using Together = std::vector<std::vector<std::uint32_t>>;

// All ways for the chain's tied groups, the one with a single copy of each first. `settled`: as
// settled_homes() gives it. `all`: becomes false if there are more than a few; then only "one copy"
// and "a copy each" are among them.
std::vector<Together> ways_to_share(const PlanInputs& inputs,
                                    const std::vector<std::uint32_t>& settled, bool& all);

// The items of the units that may move. `bins`: the devices that they may go to, as indices into
// Machine::devices; times are given in that order. `pieces`: experts that may stand aside are items
// of their own.
Items make_items(const PlanInputs& inputs, const Judge& judge, const Together& together,
                 const std::vector<std::uint32_t>& settled, const std::vector<std::uint32_t>& bins,
                 bool pieces);

}  // namespace berth
