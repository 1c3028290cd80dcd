// A set of names with a number for each: open addressing, one allocation, no node per name.
//
// Checkpoints have tens of thousands of long names that differ late, and every one is looked up
// three or four times on the way to a plan, which makes this the inner loop of opening a model.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

namespace berth {

// Names are views: what they point at must outlive the table. Not thread-safe.
class NameTable {
 public:
  static constexpr std::uint32_t kAbsent = std::numeric_limits<std::uint32_t>::max();

  // Room for `expected` names without growing.
  explicit NameTable(std::size_t expected = 16) { resize(expected); }

  // Empties the table and keeps its room.
  void clear() {
    slots_.assign(slots_.size(), Slot{});
    count_ = 0;
  }

  // The number that `name` already had, or kAbsent after giving it `number`.
  std::uint32_t insert(std::string_view name, std::uint32_t number) {
    if (2 * (count_ + 1) > slots_.size()) resize(2 * count_);
    const std::uint32_t hash = hash_of(name);
    Slot& slot = slots_[place(name, hash)];
    if (slot.number != kAbsent) return slot.number;
    slot = {name, hash, number};
    ++count_;
    return kAbsent;
  }

  std::uint32_t find(std::string_view name) const {
    return slots_[place(name, hash_of(name))].number;
  }

  std::size_t size() const { return count_; }

 private:
  struct Slot {
    std::string_view name;
    std::uint32_t hash = 0;
    std::uint32_t number = kAbsent;  // kAbsent: free
  };

  static std::uint32_t hash_of(std::string_view name) {
    return static_cast<std::uint32_t>(std::hash<std::string_view>()(name));
  }

  // The slot that holds `name`, or the free one where it belongs. At least half are free.
  std::size_t place(std::string_view name, std::uint32_t hash) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash & mask;
    while (slots_[at].number != kAbsent && (slots_[at].hash != hash || slots_[at].name != name)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  void resize(std::size_t expected) {
    const std::vector<Slot> old =
        std::exchange(slots_, std::vector<Slot>(std::bit_ceil(2 * expected + 2)));
    for (const Slot& slot : old) {
      if (slot.number != kAbsent) slots_[place(slot.name, slot.hash)] = slot;
    }
  }

  std::vector<Slot> slots_;  // a power of two
  std::size_t count_ = 0;
};

}  // namespace berth
