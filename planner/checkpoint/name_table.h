// A hash table that maps names to numbers: open addressing, eight bytes a bucket, one allocation.
//
// A checkpoint has tens of thousands of long names that differ only near their ends, and each is
// looked up three or four times on the way to a plan. This makes the table the inner loop of
// opening a model.
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

// The table keeps only numbers and hashes. The names stay with the caller, who passes `name_of`
// with each call: name_of(number) is the name that was inserted with `number`. Not thread-safe.
class NameTable {
 public:
  static constexpr std::uint32_t kAbsent = std::numeric_limits<std::uint32_t>::max();

  // Allocates space for `expected` names; the table grows when more come.
  explicit NameTable(std::size_t expected = 16) { resize(expected); }

  // Removes all names, but keeps the allocated space.
  void clear() {
    buckets_.assign(buckets_.size(), Bucket{});
    count_ = 0;
  }

  // Gives `name` the number `number` and returns kAbsent; or, if `name` is in the table already,
  // changes nothing and returns the number that it has.
  template <typename NameOf>
  std::uint32_t insert(std::string_view name, std::uint32_t number, const NameOf& name_of) {
    if (2 * (count_ + 1) > buckets_.size()) resize(2 * count_);
    const std::uint32_t hash = hash_of(name);
    Bucket& bucket = buckets_[bucket_of(name, hash, name_of)];
    if (bucket.number != kAbsent) return bucket.number;
    bucket = {hash, number};
    ++count_;
    return kAbsent;
  }

  template <typename NameOf>
  std::uint32_t find(std::string_view name, const NameOf& name_of) const {
    return find(name, Probe{hash_of(name)}, name_of);
  }

  // A look-up in steps, for a caller who has many names and wants their cache misses to overlap:
  // call probe() for all of them, then prefetch what guess() says of each, then find() each.
  struct Probe {
    std::uint32_t hash = 0;
  };

  Probe probe(std::string_view name) const {
    const Probe probe{hash_of(name)};
    __builtin_prefetch(&buckets_[probe.hash & (buckets_.size() - 1)]);
    return probe;
  }

  // The number that find() will return in most cases. If it is kAbsent, find() will return kAbsent.
  std::uint32_t guess(Probe probe) const {
    return buckets_[probe.hash & (buckets_.size() - 1)].number;
  }

  template <typename NameOf>
  std::uint32_t find(std::string_view name, Probe probe, const NameOf& name_of) const {
    return buckets_[bucket_of(name, probe.hash, name_of)].number;
  }

  std::size_t size() const { return count_; }

 private:
  struct Bucket {
    std::uint32_t hash = 0;
    std::uint32_t number = kAbsent;  // kAbsent: the bucket is free
  };

  // Takes eight bytes at a time and folds each word in by a full 128-bit multiplication, as wyhash
  // does. The last eight bytes may overlap those before them.
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

  // The bucket that holds `name`, or the free bucket where it belongs. At least half are always
  // free.
  template <typename NameOf>
  std::size_t bucket_of(std::string_view name, std::uint32_t hash, const NameOf& name_of) const {
    const std::size_t mask = buckets_.size() - 1;
    std::size_t at = hash & mask;
    while (buckets_[at].number != kAbsent &&
           (buckets_[at].hash != hash || std::string_view(name_of(buckets_[at].number)) != name)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  void resize(std::size_t expected) {
    const std::vector<Bucket> old =
        std::exchange(buckets_, std::vector<Bucket>(std::bit_ceil(2 * expected + 2)));
    const std::size_t mask = buckets_.size() - 1;
    for (const Bucket& bucket : old) {
      if (bucket.number == kAbsent) continue;
      std::size_t at = bucket.hash & mask;
      while (buckets_[at].number != kAbsent) at = (at + 1) & mask;
      buckets_[at] = bucket;
    }
  }

  std::vector<Bucket> buckets_;  // a power of two of them
  std::size_t count_ = 0;
};

// Tells whether a name comes twice. Most writers sort names, and names in ascending order are known
// to differ, so the table is filled only from the first name on that breaks the order. Numbers must
// count up from `first` without a gap. Not thread-safe.
class UniqueNames {
 public:
  // Forgets all names; the next one gets the number `first`.
  void restart(std::uint32_t first) {
    if (!ascending_) table_.clear();
    ascending_ = true;
    first_ = next_ = first;
  }

  // Gives `name` the next number and returns NameTable::kAbsent; or returns the number that `name`
  // has already. `name_of` is as for NameTable.
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
  // Holds the names only if ascending() is false.
  const NameTable& table() const { return table_; }

 private:
  NameTable table_{0};
  bool ascending_ = true;
  std::uint32_t first_ = 0;
  std::uint32_t next_ = 0;
};

}  // namespace berth
