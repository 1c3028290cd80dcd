// A tensor's shape: a vector of sizes that keeps up to two of them in place.
//
// A large model has tens of thousands of shapes, nearly all of one or two dimensions. In place they
// cost no allocation, and the size of a tensor is known without following a pointer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>

namespace berth {

class Shape {
 public:
  using value_type = std::uint64_t;

  Shape() = default;
  Shape(Shape&& other) noexcept { swap(other); }
  Shape(const Shape& other) { copy(other); }
  Shape& operator=(Shape other) noexcept {
    swap(other);
    return *this;
  }
  Shape(std::initializer_list<std::uint64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}
  template <typename Iterator>
  Shape(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(*first);
  }

  void push_back(std::uint64_t size) {
    if (rank_ >= kInPlace) grow();
    ++rank_;
    data()[rank_ - 1] = size;
  }

  std::size_t size() const { return rank_; }  // the rank
  bool empty() const { return rank_ == 0; }
  const std::uint64_t* data() const { return rank_ <= kInPlace ? few_ : many_.get(); }
  std::uint64_t* data() { return rank_ <= kInPlace ? few_ : many_.get(); }
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
  static constexpr std::size_t kInPlace = 2;

  // Shapes of many dimensions are short, and made once: each more is another array.
  void grow() {
    auto more = std::make_unique<std::uint64_t[]>(rank_ + 1);
    std::copy(begin(), end(), more.get());
    many_ = std::move(more);
  }
  void copy(const Shape& other) {
    if (other.rank_ > kInPlace) many_ = std::make_unique<std::uint64_t[]>(other.rank_);
    rank_ = other.rank_;
    std::copy(other.begin(), other.end(), data());
  }
  void swap(Shape& other) noexcept {
    std::swap(few_, other.few_);
    std::swap(rank_, other.rank_);
    std::swap(many_, other.many_);
  }

  std::uint64_t few_[kInPlace] = {};
  std::size_t rank_ = 0;
  std::unique_ptr<std::uint64_t[]> many_;  // all of them where there are more than kInPlace
};

}  // namespace berth
