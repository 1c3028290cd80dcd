// A tensor's shape: a vector of sizes that keeps up to three of them in place.
//
// A large model has tens of thousands of shapes, nearly all of one or two dimensions. In place they
// cost no allocation, and the size of a tensor is known without following a pointer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace berth {

class Shape {
 public:
  using value_type = std::uint64_t;

  Shape() = default;
  Shape(std::initializer_list<std::uint64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}
  template <typename Iterator>
  Shape(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(*first);
  }

  void push_back(std::uint64_t size) {
    if (rank_ == kInPlace) many_.assign(few_, few_ + kInPlace);
    if (rank_ < kInPlace) {
      few_[rank_] = size;
    } else {
      many_.push_back(size);
    }
    ++rank_;
  }

  std::size_t size() const { return rank_; }  // the rank
  bool empty() const { return rank_ == 0; }
  const std::uint64_t* data() const { return rank_ <= kInPlace ? few_ : many_.data(); }
  std::uint64_t* data() { return rank_ <= kInPlace ? few_ : many_.data(); }
  const std::uint64_t* begin() const { return data(); }
  const std::uint64_t* end() const { return data() + rank_; }
  std::uint64_t* begin() { return data(); }
  std::uint64_t* end() { return data() + rank_; }
  std::uint64_t operator[](std::size_t i) const { return data()[i]; }
  std::uint64_t& operator[](std::size_t i) { return data()[i]; }
  std::uint64_t back() const { return data()[rank_ - 1]; }

  bool operator==(const Shape& other) const {
    return std::equal(begin(), end(), other.begin(), other.end());
  }
  bool operator<(const Shape& other) const {  // in dictionary order
    return std::lexicographical_compare(begin(), end(), other.begin(), other.end());
  }

 private:
  static constexpr std::size_t kInPlace = 3;
  std::uint64_t few_[kInPlace] = {};
  std::size_t rank_ = 0;
  std::vector<std::uint64_t> many_;  // all of them where there are more than kInPlace
};

}  // namespace berth
