// A set of names known by their numbers: open addressing, eight bytes a slot, one allocation.
//
// Checkpoints have tens of thousands of long names that differ late, and every one is looked up
// three or four times on the way to a plan, which makes this the inner loop of opening a model.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

namespace berth {

// The table keeps numbers and hashes. The names stay with the caller, who says with each call where
// they are: name_of(number) is the name that was inserted with `number`. Not thread-safe.
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
  template <typename NameOf>
  std::uint32_t insert(std::string_view name, std::uint32_t number, const NameOf& name_of) {
    if (2 * (count_ + 1) > slots_.size()) resize(2 * count_);
    const std::uint32_t hash = hash_of(name);
    Slot& slot = slots_[place(name, hash, name_of)];
    if (slot.number != kAbsent) return slot.number;
    slot = {hash, number};
    ++count_;
    return kAbsent;
  }

  template <typename NameOf>
  std::uint32_t find(std::string_view name, const NameOf& name_of) const {
    return find(name, Probe{hash_of(name)}, name_of);
  }

  // A look-up in steps, for a caller who has many names and wants their cache misses to overlap:
  // probe() all, then look at what guess() says of each, then find() each.
  struct Probe {
    std::uint32_t hash = 0;
  };

  Probe probe(std::string_view name) const {
    const Probe probe{hash_of(name)};
    __builtin_prefetch(&slots_[probe.hash & (slots_.size() - 1)]);
    return probe;
  }

  // The number that find() will mostly give; kAbsent where it will give that.
  std::uint32_t guess(Probe probe) const { return slots_[probe.hash & (slots_.size() - 1)].number; }

  template <typename NameOf>
  std::uint32_t find(std::string_view name, Probe probe, const NameOf& name_of) const {
    return slots_[place(name, probe.hash, name_of)].number;
  }

  std::size_t size() const { return count_; }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t number = kAbsent;  // kAbsent: free
  };

  // Eight bytes at a time, each folded in by a full multiplication (as wyhash does); the last eight
  // may overlap those before them.
  static std::uint32_t hash_of(std::string_view name) {
    std::uint64_t hash = name.size();
    const auto fold = [&](std::uint64_t word) {
      __extension__ using Wide = unsigned __int128;
      const Wide product = Wide{hash ^ word ^ 0xa0761d6478bd642full} * 0xe7037ed1a0b428dbull;
      hash = static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
    };
    std::uint64_t word = 0;
    std::size_t at = 0;
    for (; at + sizeof word < name.size(); at += sizeof word) {
      std::memcpy(&word, name.data() + at, sizeof word);
      fold(word);
    }
    word = 0;
    if (name.size() >= sizeof word) {
      std::memcpy(&word, name.data() + name.size() - sizeof word, sizeof word);
    } else if (!name.empty()) {
      std::memcpy(&word, name.data(), name.size());
    }
    fold(word);
    return static_cast<std::uint32_t>(hash);
  }

  // The slot that holds `name`, or the free one where it belongs. At least half are free.
  template <typename NameOf>
  std::size_t place(std::string_view name, std::uint32_t hash, const NameOf& name_of) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash & mask;
    while (slots_[at].number != kAbsent &&
           (slots_[at].hash != hash || std::string_view(name_of(slots_[at].number)) != name)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  void resize(std::size_t expected) {
    const std::vector<Slot> old =
        std::exchange(slots_, std::vector<Slot>(std::bit_ceil(2 * expected + 2)));
    const std::size_t mask = slots_.size() - 1;
    for (const Slot& slot : old) {
      if (slot.number == kAbsent) continue;
      std::size_t at = slot.hash & mask;
      while (slots_[at].number != kAbsent) at = (at + 1) & mask;
      slots_[at] = slot;
    }
  }

  std::vector<Slot> slots_;  // a power of two
  std::size_t count_ = 0;
};

// Tells whether names come twice. Writers sort names, and names that ascend are known to differ:
// the table is filled only from the first name on that does not. Numbers must count from `first` on
// without a gap. Not thread-safe.
class UniqueNames {
 public:
  // Forgets all names; the next one will have the number `first`.
  void restart(std::uint32_t first) {
    if (!ascending_) table_.clear();
    ascending_ = true;
    first_ = next_ = first;
  }

  // The number that `name` already had, or NameTable::kAbsent after giving it the next one.
  // `name_of` as for NameTable.
  template <typename NameOf>
  std::uint32_t add(std::string_view name, const NameOf& name_of) {
    if (ascending_ && (next_ == first_ || std::string_view(name_of(next_ - 1)) < name)) {
      ++next_;
      return NameTable::kAbsent;
    }
    if (ascending_) {
      ascending_ = false;
      for (std::uint32_t i = first_; i < next_; ++i) table_.insert(name_of(i), i, name_of);
    }
    const std::uint32_t known = table_.insert(name, next_, name_of);
    if (known == NameTable::kAbsent) ++next_;
    return known;
  }

  bool ascending() const { return ascending_; }
  // Of use only where the names do not ascend.
  const NameTable& table() const { return table_; }

 private:
  NameTable table_{0};
  bool ascending_ = true;
  std::uint32_t first_ = 0;
  std::uint32_t next_ = 0;
};

}  // namespace berth
