#include "runtime/text/reference_unicode.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "berth/error.h"
#include "planner/base/onig_pattern.h"
#include "runtime/text/code_points.h"
#include "runtime/text/reference_unicode_tables.h"

namespace berth {
namespace {

// Numerals and case pairs that Rust's standard library (Unicode 17.0) has and 16.0 has not.
constexpr CodeRange kNumeralsOf17[] = {{0x11DE0, 0x11DE9}, {0x16FF4, 0x16FF6}};
constexpr CasePair kPairsOf17[] = {{0xA7CE, 0xA7CF}, {0xA7D2, 0xA7D3}, {0xA7D4, 0xA7D5}};
// Capital letters that are new in 17.0; the small letters follow at a distance of 0x1B.
constexpr CodeRange kBeriaErfeCapitals{0x16EA0, 0x16EB8};

// Oniguruma's numbers of [[:punct:]] and [[:word:]], which its regparse.c uses directly.
constexpr int kPunct = 8;
constexpr int kWord = 12;
// A number of our own for \p{Word}, which also holds the superscripts and fractions of Latin-1.
constexpr int kWordProperty = 1 << 20;
constexpr CodeRange kWordsOfLatin1[] = {{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}};

using Ranges = std::vector<CodeRange>;  // sorted; they neither overlap nor touch

bool holds(std::span<const CodeRange> ranges, std::uint32_t code) {
  const auto at = std::partition_point(ranges.begin(), ranges.end(),
                                       [&](const CodeRange& range) { return range.last < code; });
  return at != ranges.end() && at->first <= code;
}

Ranges joined(Ranges all, std::span<const CodeRange> more) {
  all.insert(all.end(), more.begin(), more.end());
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.first < b.first; });
  Ranges joined;
  for (const CodeRange& range : all) {
    if (!joined.empty() && range.first <= joined.back().last + 1) {
      joined.back().last = std::max(joined.back().last, range.last);
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

Ranges without(const Ranges& all, std::span<const CodeRange> removed) {
  Ranges rest;
  for (CodeRange range : all) {
    for (const CodeRange& hole : removed) {  // which is sorted
      if (hole.last < range.first || hole.first > range.last) continue;
      if (hole.first > range.first) rest.push_back({range.first, hole.first - 1});
      range.first = hole.last + 1;
    }
    if (range.first <= range.last) rest.push_back(range);
  }
  return rest;
}

OnigEncoding library() { return oniguruma().utf8; }

int library_ctype(std::string_view name) {
  const std::string text(name);
  auto* begin = reinterpret_cast<OnigUChar*>(const_cast<char*>(text.data()));
  return library()->property_name_to_ctype(library(), begin, begin + text.size());
}

Ranges library_ranges(int ctype) {
  OnigCodePoint single_byte_end = 0;
  const OnigCodePoint* flat = nullptr;
  if (library()->get_ctype_code_range(static_cast<OnigCtype>(ctype), &single_byte_end, &flat) !=
      0) {
    throw Error("Oniguruma has no table for its character class " + std::to_string(ctype));
  }
  Ranges ranges;
  for (OnigCodePoint i = 0; i < flat[0]; ++i) ranges.push_back({flat[1 + 2 * i], flat[2 + 2 * i]});
  return ranges;
}

// The classes that differ from the library's, by Oniguruma's number.
class Classes {
 public:
  Classes() {
    for (const ClassChange& change : reference_class_changes()) {
      const int ctype = library_ctype(change.name);
      if (ctype < 0) throw Error(std::string("Oniguruma has no class ") + change.name);
      set(ctype, without(joined(library_ranges(ctype), change.added), change.removed));
    }
    // [[:punct:]] holds symbols, too; \p{Punct} does not.
    punctuation_ = library_ctype("punctuation");
    no_block_ = library_ctype("innoblock");
    set(kPunct, joined(ranges(punctuation_), ranges(library_ctype("symbol"))));
    word_property_.flat = flat_of(joined(ranges(kWord), kWordsOfLatin1));
  }

  // Null if the library's own table is right.
  const std::vector<OnigCodePoint>* find(int ctype) const {
    if (ctype == kWordProperty) return &word_property_.flat;
    const auto at = static_cast<std::size_t>(ctype);
    return at < classes_.size() && !classes_[at].flat.empty() ? &classes_[at].flat : nullptr;
  }
  int punctuation() const { return punctuation_; }
  int no_block() const { return no_block_; }

  Ranges ranges(int ctype) const {
    const auto* flat = find(ctype);
    if (flat == nullptr) return library_ranges(ctype);
    Ranges ranges;
    for (std::size_t i = 1; i < flat->size(); i += 2)
      ranges.push_back({(*flat)[i], (*flat)[i + 1]});
    return ranges;
  }

 private:
  struct Class {
    std::vector<OnigCodePoint> flat;  // as Oniguruma takes it: how many, first, last, first, ...
  };
  static std::vector<OnigCodePoint> flat_of(const Ranges& ranges) {
    std::vector<OnigCodePoint> flat{static_cast<OnigCodePoint>(ranges.size())};
    for (const CodeRange& range : ranges) flat.insert(flat.end(), {range.first, range.last});
    return flat;
  }
  void set(int ctype, const Ranges& ranges) {
    const auto at = static_cast<std::size_t>(ctype);
    if (at >= classes_.size()) classes_.resize(at + 1);
    classes_[at].flat = flat_of(ranges);
  }

  std::vector<Class> classes_;
  Class word_property_;
  int punctuation_ = 0;
  int no_block_ = 0;
};

const Classes& classes() {
  static const Classes classes;
  return classes;
}

// Oniguruma calls the following functions instead of those of its own UTF-8 encoding.

int property_name_to_ctype(OnigEncoding, OnigUChar* name, OnigUChar* end) {
  const int ctype = library()->property_name_to_ctype(library(), name, end);
  if (ctype == kPunct) return classes().punctuation();
  if (ctype == kWord) return kWordProperty;
  // Blocks are the same in both, except that the library does not have newer ones and counts their
  // characters as being in no block: \p{InNoBlock} would differ, so it is refused.
  if (ctype >= 0 && ctype == classes().no_block()) return ONIGERR_INVALID_CHAR_PROPERTY_NAME;
  return ctype;
}

bool flat_holds(const std::vector<OnigCodePoint>& flat, OnigCodePoint code) {
  std::size_t low = 0;
  std::size_t high = flat[0];
  while (low < high) {  // the first range that does not end before `code`
    const std::size_t middle = (low + high) / 2;
    if (flat[2 + 2 * middle] < code) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < flat[0] && flat[1 + 2 * low] <= code;
}

int is_code_ctype(OnigCodePoint code, OnigCtype ctype) {
  if (code < 0x100 && ctype == kWord) return library()->is_code_ctype(code, ctype);
  const auto* flat = classes().find(static_cast<int>(ctype));
  if (flat == nullptr) return library()->is_code_ctype(code, ctype);
  return flat_holds(*flat, code) ? 1 : 0;
}

int get_ctype_code_range(OnigCtype ctype, OnigCodePoint* single_byte_end,
                         const OnigCodePoint* ranges[]) {
  const auto* flat = classes().find(static_cast<int>(ctype));
  if (flat == nullptr) return library()->get_ctype_code_range(ctype, single_byte_end, ranges);
  *single_byte_end = 0x80;  // characters below it take one byte
  *ranges = flat->data();
  return 0;
}

std::optional<OnigCodePoint> other_case(OnigCodePoint code) {
  for (const CasePair& pair : reference_case_pairs()) {
    if (pair.upper == code) return pair.lower;
    if (pair.lower == code) return pair.upper;
  }
  return std::nullopt;
}

// All letters of reference_case_pairs() are in this range. Most characters of a text are not.
bool may_have_pair(OnigCodePoint code) { return code >= 0x19B && code <= 0x10D85; }

int mbc_case_fold(OnigCaseFoldType flag, const OnigUChar** at, const OnigUChar* end,
                  OnigUChar* to) {
  const OnigCodePoint code = library()->mbc_to_code(*at, end);
  if (may_have_pair(code) && (flag & ONIGENC_CASE_FOLD_ASCII_ONLY) == 0) {
    for (const CasePair& pair : reference_case_pairs()) {
      if (pair.upper != code) continue;
      *at += library()->mbc_enc_len(*at);
      return library()->code_to_mbc(pair.lower, to);
    }
  }
  return library()->mbc_case_fold(flag, at, end, to);
}

int apply_all_case_fold(OnigCaseFoldType flag, OnigApplyAllCaseFoldFunc apply, void* arg) {
  int status = library()->apply_all_case_fold(flag, apply, arg);
  if ((flag & ONIGENC_CASE_FOLD_ASCII_ONLY) != 0) return status;
  for (const CasePair& pair : reference_case_pairs()) {
    OnigCodePoint upper = pair.upper;
    OnigCodePoint lower = pair.lower;
    if (status == 0) status = apply(upper, &lower, 1, arg);
    if (status == 0) status = apply(lower, &upper, 1, arg);
  }
  return status;
}

int get_case_fold_codes_by_str(OnigCaseFoldType flag, const OnigUChar* at, const OnigUChar* end,
                               OnigCaseFoldCodeItem items[]) {
  const int count = library()->get_case_fold_codes_by_str(flag, at, end, items);
  if (count != 0 || (flag & ONIGENC_CASE_FOLD_ASCII_ONLY) != 0) return count;
  const auto other = other_case(library()->mbc_to_code(at, end));
  if (!other) return count;
  items[0].byte_len = library()->mbc_enc_len(at);
  items[0].code_len = 1;
  items[0].code[0] = *other;
  return 1;
}

OnigEncodingType make_utf8() {
  OnigEncodingType encoding = *library();
  encoding.property_name_to_ctype = property_name_to_ctype;
  encoding.is_code_ctype = is_code_ctype;
  encoding.get_ctype_code_range = get_ctype_code_range;
  encoding.mbc_case_fold = mbc_case_fold;
  encoding.apply_all_case_fold = apply_all_case_fold;
  encoding.get_case_fold_codes_by_str = get_case_fold_codes_by_str;
  return encoding;
}

char32_t lower(char32_t c) {
  for (const auto pairs : {reference_case_pairs(), std::span<const CasePair>(kPairsOf17)}) {
    for (const CasePair& pair : pairs) {
      if (pair.upper == c) return pair.lower;
    }
  }
  if (c >= kBeriaErfeCapitals.first && c <= kBeriaErfeCapitals.last) return c + 0x1B;
  return static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
}

// A normal form of the characters of Unicode 9.0; newer ones are left as they are.
class Form {
 public:
  explicit Form(const icu::Normalizer2* (*instance)(UErrorCode&)) {
    UErrorCode status = U_ZERO_ERROR;
    known_.applyPattern(UNICODE_STRING_SIMPLE("[:age=9.0:]"), status).freeze();
    const icu::Normalizer2* all = instance(status);  // a singleton of ICU's
    if (U_FAILURE(status)) throw Error(std::string("ICU: ") + u_errorName(status));
    form_.emplace(*all, known_);
  }

  std::string normalize(std::string_view text) const {
    std::string normalized;
    icu::StringByteSink<std::string> sink(&normalized, static_cast<std::int32_t>(text.size()));
    UErrorCode status = U_ZERO_ERROR;
    form_->normalizeUTF8(0, {text.data(), static_cast<std::int32_t>(text.size())}, sink, nullptr,
                         status);
    if (U_FAILURE(status)) throw Error(std::string("normalizing text: ") + u_errorName(status));
    return normalized;
  }

 private:
  icu::UnicodeSet known_;
  std::optional<icu::FilteredNormalizer2> form_;
};

const Form& form_of(NormalForm form) {
  switch (form) {
    case NormalForm::kNfc: {
      static const Form nfc(&icu::Normalizer2::getNFCInstance);
      return nfc;
    }
    case NormalForm::kNfd: {
      static const Form nfd(&icu::Normalizer2::getNFDInstance);
      return nfd;
    }
    case NormalForm::kNfkc: {
      static const Form nfkc(&icu::Normalizer2::getNFKCInstance);
      return nfkc;
    }
    case NormalForm::kNfkd:
      break;
  }
  static const Form nfkd(&icu::Normalizer2::getNFKDInstance);
  return nfkd;
}

}  // namespace

OnigEncodingTypeST* reference_utf8() {
  static OnigEncodingType encoding = [] {
    classes();  // makes them now, so that no exception is thrown through Oniguruma
    return make_utf8();
  }();
  return &encoding;
}

bool is_white_space(char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)) != 0; }

bool is_word(char32_t c) {
  return flat_holds(*classes().find(kWord), c) || c == 0x200C || c == 0x200D;  // the two joiners
}

bool is_numeric(char32_t c) {
  static const int number = library_ctype("number");
  return is_code_ctype(c, static_cast<OnigCtype>(number)) != 0 || holds(kNumeralsOf17, c);
}

std::string lowercase(std::string_view text) {
  std::string lowered;
  lowered.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c < 0x80) {
      lowered.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c));
    } else if (c == 0x130) {
      lowered += "i\u0307";  // the only letter that becomes two characters
    } else {
      append_code_point(lowered, lower(c));
    }
  }
  return lowered;
}

std::size_t skip_white_space(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    std::size_t next = at;
    if (!is_white_space(next_code_point(text, next))) break;
    at = next;
  }
  return at;
}

std::size_t skip_white_space_back(std::string_view text, std::size_t at) {
  while (at > 0) {
    std::size_t next = at;
    if (!is_white_space(previous_code_point(text, next))) break;
    at = next;
  }
  return at;
}

std::string normalize(NormalForm form, std::string_view text) {
  return form_of(form).normalize(text);
}

}  // namespace berth
