// A cursor over JSON in the plain spelling that writers give it: strings of ASCII without escapes
// and numbers that are counts. For files of megabytes that nearly always look so; whatever does not
// is left to a JSON parser, so that nothing is accepted here which that would refuse.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace berth {

// Where a call answers false the text is of another spelling, and the cursor of no more use.
class PlainJson {
 public:
  // The bytes that must be readable after the end of the text.
  static constexpr std::size_t kPadding = 16;

  explicit PlainJson(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  // Goes over `token` if it stands next; false leaves the cursor where it is.
  template <std::size_t kSize>
  bool take(const char (&token)[kSize]) {
    constexpr std::size_t kLength = kSize - 1;
    if (static_cast<std::size_t>(end_ - at_) < kLength) return false;
    if (std::memcmp(at_, token, kLength) != 0) return false;
    at_ += kLength;
    return true;
  }

  // Goes over white space.
  void space() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  // The text up to the next quote, which is passed; the opening one has been taken.
  bool string(std::string_view& text);

  // A whole number of up to 16 digits, as many as an offset in a file can have.
  bool number(std::uint64_t& value);

  std::string_view rest() const { return {at_, static_cast<std::size_t>(end_ - at_)}; }

 private:
  static constexpr std::uint64_t kOnes = 0x0101010101010101;
  static constexpr std::uint64_t kHighs = 0x8080808080808080;

#ifdef __SSE2__
  static constexpr std::size_t kStride = 16;

  // How many of the 16 bytes at `at` a plain string goes over: up to a quote, a backslash, a
  // control character, or what is no ASCII (negative, so below the first printable character, too).
  static std::size_t plain_bytes(const char* at) {
    const __m128i text = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i marks = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(text, _mm_set1_epi8('"')),
                                                    _mm_cmpeq_epi8(text, _mm_set1_epi8('\\'))),
                                       _mm_cmplt_epi8(text, _mm_set1_epi8(' ')));
    return static_cast<std::size_t>(
        std::countr_zero(static_cast<std::uint32_t>(_mm_movemask_epi8(marks)) | 1u << kStride));
  }
#else
  static constexpr std::size_t kStride = 8;

  // The same of 8 bytes.
  static std::size_t plain_bytes(const char* at) {
    return static_cast<std::size_t>(std::countr_zero(stops(load(at))) / 8);
  }

  // High bits of the bytes of `word` that are zero. A borrow can mark bytes after the first one
  // too; the lowest mark is always right.
  static constexpr std::uint64_t zeros(std::uint64_t word) {
    return (word - kOnes) & ~word & kHighs;
  }

  // High bits of the bytes that a plain string does not go over: quotes, backslashes, control
  // characters, and what is no ASCII. The lowest mark is always right.
  static constexpr std::uint64_t stops(std::uint64_t word) {
    const std::uint64_t controls = (word - kOnes * 0x20) & ~word & kHighs;
    return zeros(word ^ (kOnes * '"')) | zeros(word ^ (kOnes * '\\')) | controls | (word & kHighs);
  }
#endif

  // High bits of the bytes that are no digits; the lowest mark is always right.
  static constexpr std::uint64_t no_digits(std::uint64_t word) {
    return ((word + kOnes * (0x7f - '9')) | (word - kOnes * '0') | word) & kHighs;
  }

  // The value of eight digits, the first one in the lowest byte: pairs, then fours, then all, as in
  // Johnny Lee's "Fast numeric string to int".
  static constexpr std::uint64_t eight_digits(std::uint64_t word) {
    word = (word - kOnes * '0') * 10 + ((word - kOnes * '0') >> 8);
    constexpr std::uint64_t kFirst = 0x000000ff000000ff;
    return ((word & kFirst) * (100 + (std::uint64_t{1'000'000} << 32)) +
            ((word >> 16) & kFirst) * (1 + (std::uint64_t{10'000} << 32))) >>
           32;
  }

  static std::uint64_t load(const char* at) {
    static_assert(std::endian::native == std::endian::little);  // the lowest mark is the first byte
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    return word;
  }

  const char* at_;
  const char* end_;
};

inline bool PlainJson::string(std::string_view& text) {
  const char* const begin = at_;
  std::size_t plain = kStride;
  while (plain == kStride) {
    if (at_ >= end_) return false;
    plain = plain_bytes(at_);  // may look into the padding
    at_ += plain;
  }
  if (at_ >= end_ || *at_ != '"') return false;
  text = {begin, static_cast<std::size_t>(at_ - begin)};
  ++at_;
  return true;
}

inline bool PlainJson::number(std::uint64_t& value) {
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
      const std::uint64_t filler = (kOnes * '0') & ((std::uint64_t{1} << room) - 1);
      value = value * kPowers[digits] + eight_digits((text << room) | filler);
      at_ += digits;
    }
    break;
  }
  if (at_ > end_ || at_ == begin || (*begin == '0' && at_ > begin + 1)) return false;
  return at_ == end_ || *at_ < '0' || *at_ > '9';
}

}  // namespace berth
