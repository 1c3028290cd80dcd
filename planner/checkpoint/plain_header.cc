#include "planner/checkpoint/plain_header.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace berth {
namespace {

constexpr std::uint64_t kOnes = 0x0101010101010101;
constexpr std::uint64_t kHighs = 0x8080808080808080;

// High bits of the bytes of `word` that are zero. A borrow can mark bytes after the first one too;
// the lowest mark is always right.
constexpr std::uint64_t zeros(std::uint64_t word) { return (word - kOnes) & ~word & kHighs; }

// High bits of the bytes that a plain string does not go over: quotes, backslashes, control
// characters, and what is no ASCII. The lowest mark is always right.
constexpr std::uint64_t stops(std::uint64_t word) {
  const std::uint64_t controls = (word - kOnes * 0x20) & ~word & kHighs;
  return zeros(word ^ (kOnes * '"')) | zeros(word ^ (kOnes * '\\')) | controls | (word & kHighs);
}

// High bits of the bytes that are no digits; the lowest mark is always right.
constexpr std::uint64_t no_digits(std::uint64_t word) {
  return ((word + kOnes * (0x7f - '9')) | (word - kOnes * '0') | word) & kHighs;
}

// The value of eight digits, the first one in the lowest byte: pairs, then fours, then all, as in
// Johnny Lee's "Fast numeric string to int".
constexpr std::uint64_t eight_digits(std::uint64_t word) {
  word = (word - kOnes * '0') * 10 + ((word - kOnes * '0') >> 8);
  constexpr std::uint64_t kFirst = 0x000000ff000000ff;
  return ((word & kFirst) * (100 + (std::uint64_t{1'000'000} << 32)) +
          ((word >> 16) & kFirst) * (1 + (std::uint64_t{10'000} << 32))) >>
         32;
}

std::uint64_t load(const char* at) {
  static_assert(std::endian::native == std::endian::little);  // the lowest mark is the first byte
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

}  // namespace

template <std::size_t kSize>
inline bool PlainHeader::take(const char (&token)[kSize]) {
  constexpr std::size_t kLength = kSize - 1;
  if (static_cast<std::size_t>(end_ - at_) < kLength) return false;
  if (std::memcmp(at_, token, kLength) != 0) return false;
  at_ += kLength;
  return true;
}

// The text up to the next quote, which is passed; the opening one has been taken.
inline bool PlainHeader::string(std::string_view& text) {
  const char* const begin = at_;
  for (;; at_ += sizeof(std::uint64_t)) {
    if (at_ >= end_) return false;
    const std::uint64_t marks = stops(load(at_));  // may reach into the padding
    if (marks == 0) continue;
    at_ += std::countr_zero(marks) / 8;
    if (at_ >= end_ || *at_ != '"') return false;
    text = {begin, static_cast<std::size_t>(at_ - begin)};
    ++at_;
    return true;
  }
}

// Up to 16 digits, as many as an offset in a file can have.
inline bool PlainHeader::number(std::uint64_t& value) {
  const char* const begin = at_;
  value = 0;
  for (int word = 0; word < 2; ++word) {
    const std::uint64_t text = load(at_);  // may reach into the padding
    const std::uint64_t marks = no_digits(text);
    if (marks == 0) {
      value = value * 100'000'000 + eight_digits(text);
      at_ += 8;
      continue;
    }
    const int digits = std::countr_zero(marks) / 8;
    if (digits > 0) {  // put behind as many zeros as there is room for
      constexpr std::uint64_t kPowers[] = {1,      10,      100,       1'000,
                                           10'000, 100'000, 1'000'000, 10'000'000};
      const int room = 8 * (8 - digits);
      const std::uint64_t zeros = (kOnes * '0') & ((std::uint64_t{1} << room) - 1);
      value = value * kPowers[digits] + eight_digits((text << room) | zeros);
      at_ += digits;
    }
    break;
  }
  if (at_ > end_ || at_ == begin || (*begin == '0' && at_ > begin + 1)) return false;
  return at_ == end_ || *at_ < '0' || *at_ > '9';
}

// The usual metadata, {"format":"pt"}, and no more than one entry, so that no key can come twice.
bool PlainHeader::metadata() {
  std::string_view text;
  if (!take("{")) return false;
  if (take("}")) return true;
  return take("\"") && string(text) && take(":\"") && string(text) && take("}");
}

inline bool PlainHeader::fields(PlainEntry& entry) {
  if (!take("{\"dtype\":\"") || !string(entry.dtype) || !take(",\"shape\":[")) return false;
  entry.shape = Shape();
  if (!take("]")) {
    do {
      std::uint64_t size = 0;
      if (!number(size)) return false;
      entry.shape.push_back(size);
    } while (take(","));
    if (!take("]")) return false;
  }
  return take(",\"data_offsets\":[") && number(entry.begin) && take(",") && number(entry.end) &&
         take("]}");
}

bool PlainHeader::close() {
  complete_ = take("}") && std::all_of(at_, end_, [](char c) { return c == ' '; });
  return false;
}

bool PlainHeader::next(PlainEntry& entry) {
  if (!begun_) {
    begun_ = true;
    if (!take("{\"") || !string(entry.name)) return false;
    if (entry.name == "__metadata__") {
      if (!take(":") || !metadata()) return false;
      if (!take(",\"")) return close();
      if (!string(entry.name)) return false;
    }
  } else {
    if (!take(",\"")) return close();
    if (!string(entry.name)) return false;
  }
  return entry.name != "__metadata__" && take(":") && fields(entry);
}

}  // namespace berth
