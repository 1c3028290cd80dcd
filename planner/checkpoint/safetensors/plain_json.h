// A cursor over JSON in the plain spelling that most writers give it: strings of ASCII without
// escapes, and numbers that are counts. It is for files of megabytes that nearly always look so.
// Any other spelling is left to a JSON parser; the cursor accepts nothing that a JSON parser would
// refuse.
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

// Where a call returns false, the text is spelled in another way, and the cursor is of no more use.
class PlainJson {
 public:
  // The bytes that must be readable after the end of the text.
  static constexpr std::size_t kPadding = 16;

  explicit PlainJson(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  // Steps over `token` if it stands next. Otherwise returns false and leaves the cursor where it
  // is.
  template <std::size_t kSize>
  bool take(const char (&token)[kSize]) {
    constexpr std::size_t kLength = kSize - 1;
    if (static_cast<std::size_t>(end_ - at_) < kLength) return false;
    if (std::memcmp(at_, token, kLength) != 0) return false;
    at_ += kLength;
    return true;
  }

  // Steps over white space.
  void space() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  // Reads a string whose opening quote has been taken, and steps over its closing quote. `text` is
  // what stands between them.
  bool string(std::string_view& text);

  // Reads a whole number of at most 16 digits, which is enough for any offset in a file.
  bool number(std::uint64_t& value);

  std::string_view rest() const { return {at_, static_cast<std::size_t>(end_ - at_)}; }

 private:
  static constexpr std::uint64_t kOnes = 0x0101010101010101;
  static constexpr std::uint64_t kHighs = 0x8080808080808080;

#ifdef __SSE2__
  static constexpr std::size_t kStride = 16;

  // How many of the 16 bytes at `at` a plain string may contain: those before the first quote,
  // backslash, control character or byte that is not ASCII. Such a byte is negative, and so below
  // the first printable character, too.
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

  // As above, for 8 bytes.
  static std::size_t plain_bytes(const char* at) {
    return static_cast<std::size_t>(std::countr_zero(stops(load(at))) / 8);
  }

  // Sets the high bit of every byte of `word` that is zero. A borrow can mark bytes after the first
  // one wrongly, but the lowest mark is always right.
  static constexpr std::uint64_t zeros(std::uint64_t word) {
    return (word - kOnes) & ~word & kHighs;
  }

  // Sets the high bit of every byte that a plain string may not contain: quotes, backslashes,
  // control characters, and bytes that are not ASCII. The lowest mark is always right.
  static constexpr std::uint64_t stops(std::uint64_t word) {
    const std::uint64_t controls = (word - kOnes * 0x20) & ~word & kHighs;
    return zeros(word ^ (kOnes * '"')) | zeros(word ^ (kOnes * '\\')) | controls | (word & kHighs);
  }
#endif

  // Sets the high bit of every byte that is not a digit. The lowest mark is always right.
  static constexpr std::uint64_t no_digits(std::uint64_t word) {
    return ((word + kOnes * (0x7f - '9')) | (word - kOnes * '0') | word) & kHighs;
  }

  // The value of eight digits, the first of which is in the lowest byte. Adds up pairs, then fours,
  // then all eight, as in Johnny Lee's "Fast numeric string to int".
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
    if (digits > 0) {  // put as many zeros behind them as are missing to eight
      constexpr std::uint64_t kPowers[] = {1,      10,      100,       1'000,
                                           10'000, 100'000, 1'000'000, 10'000'000};
      const int spare_bits = 8 * (8 - digits);
      const std::uint64_t filler = (kOnes * '0') & ((std::uint64_t{1} << spare_bits) - 1);
      value = value * kPowers[digits] + eight_digits((text << spare_bits) | filler);
      at_ += digits;
    }
    break;
  }
  if (at_ > end_ || at_ == begin || (*begin == '0' && at_ > begin + 1)) return false;
  return at_ == end_ || *at_ < '0' || *at_ > '9';
}

}  // namespace berth
